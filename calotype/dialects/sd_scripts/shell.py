"""Parser of `train.sh`: variables, conditions, arrays of options, and the training command.

It supports the statements that such scripts consist of, runs no program, reads no environment variable, and reports
statements that it does not support.
"""

import re
from collections.abc import Iterator, Sequence

from calotype.dialects.sd_scripts.words import (
    COMPARISONS,
    Branch,
    Ref,
    ScriptReader,
    Token,
    Unreadable,
    Word,
    expand,
    line_of,
    merged,
    raw,
    tokens_of,
)
from calotype.errors import Message

_CONTINUED = re.compile(r"\\\n")
_OPERATOR = re.compile(r"&&|\|\||;;|[;|&()<>]")
_REF = re.compile(
    r"\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?P<all>\[[@*]\])?(?::?-(?P<default>[^}$`]*))?\})"
)
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)(\+?)=")
_DECLARATIONS = ("export", "local", "declare", "readonly", "typeset")
_UNSUPPORTED = ("for", "while", "until", "case", "function", "select", "{", "eval")
_ENDS = {"[[": "]]", "[": "]"}


def read_shell(text: str) -> tuple[list[str], list[str]]:
    """The words of the training command from its script on, and the options in arrays that the command does not use.

    Raises:
        Unreadable: the script contains an unsupported statement.
    """
    reader = _ShellReader({})
    for statement in _statements(tokenize(text)):
        reader.read(statement)
    return reader.command, reader.unused_options()


class _ShellReader(ScriptReader):
    def read(self, tokens: Sequence[Token]) -> None:
        """Reads one statement; in an inactive branch only its end matters."""
        while tokens:
            first, rest = raw(tokens[0]), tokens[1:]
            if first in ("if", "elif", "else", "fi") and not (first == "if" or self.stack):
                raise Unreadable(line_of(tokens), Message("{keyword} without if", keyword=first))
            if first == "if":
                is_true = self._is_active and self._chain(rest, is_condition=True)
                self.stack.append(Branch(is_true, is_true))
                return
            if first == "elif":
                frame = self.stack[-1]
                frame.is_active = False
                outer = all(branch.is_active for branch in self.stack[:-1])
                frame.is_active = outer and not frame.was_taken and self._chain(rest, is_condition=True)
                frame.was_taken |= frame.is_active
                return
            if first == "else":
                self.stack[-1].is_active = not self.stack[-1].was_taken
            elif first == "fi":
                self.stack.pop()
            elif first != "then":
                if self._is_active:
                    self._chain(tokens)
                return
            tokens = rest

    def _chain(self, tokens: Sequence[Token], is_condition: bool = False) -> bool:
        """Commands joined by && and ||; returns whether the last one succeeds."""
        succeeds = True
        for operator, command in _split_chain(tokens):
            if command and not ((operator == "&&" and not succeeds) or (operator == "||" and succeeds)):
                succeeds = self._run_command(command, is_condition)
        return succeeds

    def _run_command(self, tokens: Sequence[Token], is_condition: bool) -> bool:
        first = raw(tokens[0])
        if first == "!":
            if len(tokens) == 1:
                raise Unreadable(line_of(tokens), Message("! without a condition"))
            return not self._run_command(tokens[1:], is_condition)
        if first in _ENDS:
            return self._test(tokens[1:-1] if raw(tokens[-1]) == _ENDS[first] else tokens[1:])
        if first in _UNSUPPORTED or first == "(":
            raise Unreadable(line_of(tokens), Message("{command}", command=first))
        if first in _DECLARATIONS:
            tokens = [token for token in tokens[1:] if not raw(token).startswith("-")]
        if tokens and isinstance(tokens[0], Word) and _ASSIGNED.match(tokens[0].raw):
            return self._assign(tokens)
        if is_condition:
            raise Unreadable(line_of(tokens), Message("the condition {condition!r}", condition=first))
        self._command(tokens)
        return True

    def _assign(self, tokens: Sequence[Token]) -> bool:
        n = 0
        while n < len(tokens) and isinstance(tokens[n], Word):
            word = tokens[n]
            match = _ASSIGNED.match(word.raw)
            if match is None:
                self._command(tokens[n:])  # A=1 program: the variable is only set for that program
                return True
            name, is_more = match[1], bool(match[2])
            if n + 1 < len(tokens) and tokens[n + 1] == "(":
                end = next((m for m in range(n, len(tokens)) if tokens[m] == ")"), len(tokens))
                words = [token for token in tokens[n + 2 : end] if isinstance(token, Word)]
                added = [text for item in words for text in expand(item, self.values, "")]
                before = self.values.get(name, []) if is_more else []
                self.values[name] = ([before] if isinstance(before, str) else list(before)) + added
                n = end + 1
            else:
                self._assign_text(word, name, len(match[0]), is_more)
                n += 1
        return True

    def _assign_text(self, word: Word, name: str, start: int, is_more: bool) -> None:
        """Assigns the text after `name=`, which the first part of the word contains."""
        value = Word(word.raw, (str(word.parts[0])[start:], *word.parts[1:]), word.line)
        try:
            text = " ".join(expand(value, self.values))
        except Unreadable:
            self.values.pop(name, None)  # an error only if it is used
            return
        before = self.values.get(name, "")
        self.values[name] = before + text if is_more and isinstance(before, str) else text

    def _command(self, tokens: Sequence[Token]) -> None:
        """A program call; only the training command matters."""
        words: list[Word] = []
        for n, token in enumerate(tokens):
            if not isinstance(token, Word):
                if token == ">" and words and n and re.fullmatch(r"\d", words[-1].raw):
                    words.pop()  # 2>&1
                break
            words.append(token)
        self._keep_command(words)

    def _test(self, tokens: Sequence[Token]) -> bool:
        """Evaluates the condition between [[ and ]]."""
        results = [(operator, self._compare(condition)) for operator, condition in _split_chain(tokens)]
        is_true = results[0][1]
        for operator, result in results[1:]:
            is_true = (is_true and result) if operator == "&&" else (is_true or result)
        return is_true

    def _compare(self, tokens: Sequence[Token]) -> bool:
        if tokens and raw(tokens[0]) == "!":
            return not self._compare(tokens[1:])
        if not all(isinstance(token, Word) for token in tokens):
            raise Unreadable(line_of(tokens), Message("a condition with < or >"))
        words = [" ".join(expand(word, self.values, "")) for word in tokens]
        if len(words) < 2:
            return bool(words and words[0])
        if len(words) == 2 and words[0] in ("-z", "-n"):
            return bool(words[1]) == (words[0] == "-n")
        if len(words) == 3 and words[1] in ("=", "==", "!="):
            return (words[0] == words[2]) == (words[1] != "!=")
        if len(words) == 3 and words[1] in COMPARISONS:
            return COMPARISONS[words[1]](_number(words[0], tokens), _number(words[2], tokens))
        raise Unreadable(line_of(tokens), Message("the condition {condition!r}", condition=" ".join(words)))


def _number(text: str, tokens: Sequence[Token]) -> float:
    """The number; also decimals, which a shell would refuse."""
    try:
        return float(text or 0)
    except ValueError:
        raise Unreadable(line_of(tokens), Message("{word!r} instead of a number", word=text)) from None


def _statements(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Statements separated by line ends and semicolons, except within the parentheses of an array."""
    statement: list[Token] = []
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if token in ("\n", ";") and depth <= 0:
            yield statement
            statement, depth = [], 0
        elif token != "\n":
            statement.append(token)
    yield statement


def _split_chain(tokens: Sequence[Token]) -> Iterator[tuple[str, list[Token]]]:
    """Commands with the && or || before each; those within [[ ]] do not separate."""
    operator, tokens_so_far, is_inside = "", [], False
    for token in tokens:
        is_inside = (is_inside or raw(token) == "[[") and raw(token) != "]]"
        if token in ("&&", "||") and not is_inside:
            yield operator, tokens_so_far
            operator, tokens_so_far = token, []
        else:
            tokens_so_far.append(token)
    yield operator, tokens_so_far


def tokenize(text: str) -> list[Token]:
    """Words and operators, without comments."""
    return tokens_of(text.replace("\r\n", "\n"), _CONTINUED, _OPERATOR, _word)


def _word(text: str, position: int, line: int) -> tuple[Word, int]:
    start, parts, quote, is_quoted = position, [], "", False
    while position < len(text):
        char = text[position]
        if quote == "'":
            if char == "'":
                quote = ""
            else:
                parts.append(char)
            position += 1
        elif char == "\\":
            after = text[position + 1 : position + 2]
            if after != "\n":
                parts.append(char + after if quote and after not in '"\\$`' else after)
            position += 2
        elif char in "\"'" and (not quote or char == quote):
            quote, is_quoted = ("" if quote else char), True
            position += 1
        elif char == "$" or char == "`":
            part, position = _reference(text, position)
            parts.append(part)
        elif not quote and (char in " \t\n" or _OPERATOR.match(text, position)):
            break
        else:
            parts.append(char)
            position += 1
    if quote:
        raise Unreadable(line, Message("an unclosed quotation mark"))
    return Word(text[start:position], merged(parts), line, is_quoted), position


def _reference(text: str, position: int) -> tuple[str | Ref, int]:
    """A variable; command substitutions become variables without a value, named by their text."""
    if match := _REF.match(text, position):
        return Ref(match["plain"] or match["name"], bool(match["all"]), match["default"]), match.end()
    if text[position] == "`":
        end = text.find("`", position + 1) + 1 or len(text)
        return Ref(text[position:end]), end
    if text.startswith("$(", position):
        depth, end = 0, position
        for end in range(position + 1, len(text)):
            depth += (text[end] == "(") - (text[end] == ")")
            if not depth:
                break
        return Ref(text[position : end + 1]), end + 1
    if re.match(r"\$[\d@*#?{]", text[position : position + 2]):
        return Ref(text[position : position + 2]), position + 2
    return "$", position + 1
