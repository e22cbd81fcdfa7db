"""`train.sh` as data: its variables, its conditions, its arrays of options, and the command at its end.

A reader of the little that such scripts are made of. It starts no program, looks at no environment, and says where a
script means more than it reads.
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
    expanded,
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
_ANNOUNCED = ("export", "local", "declare", "readonly", "typeset")
_BEYOND = ("for", "while", "until", "case", "function", "select", "{", "eval")
_ENDS = {"[[": "]]", "[": "]"}


def read_shell(text: str) -> tuple[list[str], list[str]]:
    """The words of the training command from its script on, and those that arrays hold but the command does not take.

    Raises:
        Unreadable: the script means more than this reads.
    """
    reader = _ShellReader({})
    for statement in _statements(lexed(text)):
        reader.take(statement)
    return reader.command, reader.lost()


class _ShellReader(ScriptReader):
    def take(self, tokens: Sequence[Token]) -> None:
        """One statement; of a branch that does not count, only where it ends."""
        while tokens:
            first, rest = raw(tokens[0]), tokens[1:]
            if first in ("if", "elif", "else", "fi") and not (first == "if" or self.stack):
                raise Unreadable(line_of(tokens), Message("{keyword} without if", keyword=first))
            if first == "if":
                is_so = self._is_active and self._chain(rest, is_asked=True)
                self.stack.append(Branch(is_so, is_so))
                return
            if first == "elif":
                frame = self.stack[-1]
                frame.is_active = False
                outer = all(one.is_active for one in self.stack[:-1])
                frame.is_active = outer and not frame.is_taken and self._chain(rest, is_asked=True)
                frame.is_taken |= frame.is_active
                return
            if first == "else":
                self.stack[-1].is_active = not self.stack[-1].is_taken
            elif first == "fi":
                self.stack.pop()
            elif first != "then":
                if self._is_active:
                    self._chain(tokens)
                return
            tokens = rest

    def _chain(self, tokens: Sequence[Token], is_asked: bool = False) -> bool:
        """Commands joined by && and ||; the last one's success."""
        is_so = True
        for joint, part in _joined(tokens):
            if part and not ((joint == "&&" and not is_so) or (joint == "||" and is_so)):
                is_so = self._one(part, is_asked)
        return is_so

    def _one(self, tokens: Sequence[Token], is_asked: bool) -> bool:
        first = raw(tokens[0])
        if first == "!":
            if len(tokens) == 1:
                raise Unreadable(line_of(tokens), Message("! without a condition"))
            return not self._one(tokens[1:], is_asked)
        if first in _ENDS:
            return self._test(tokens[1:-1] if raw(tokens[-1]) == _ENDS[first] else tokens[1:])
        if first in _BEYOND or first == "(":
            raise Unreadable(line_of(tokens), Message("{command}", command=first))
        if first in _ANNOUNCED:
            tokens = [token for token in tokens[1:] if not raw(token).startswith("-")]
        if tokens and isinstance(tokens[0], Word) and _ASSIGNED.match(tokens[0].raw):
            return self._assign(tokens)
        if is_asked:
            raise Unreadable(line_of(tokens), Message("the condition {condition!r}", condition=first))
        self._command(tokens)
        return True

    def _assign(self, tokens: Sequence[Token]) -> bool:
        n = 0
        while n < len(tokens) and isinstance(tokens[n], Word):
            word = tokens[n]
            told = _ASSIGNED.match(word.raw)
            if told is None:
                self._command(tokens[n:])  # A=1 program: the variable was for it alone
                return True
            name, is_more = told[1], bool(told[2])
            if n + 1 < len(tokens) and tokens[n + 1] == "(":
                end = next((m for m in range(n, len(tokens)) if tokens[m] == ")"), len(tokens))
                words = [token for token in tokens[n + 2 : end] if isinstance(token, Word)]
                added = [text for one in words for text in expanded(one, self.values, "")]
                before = self.values.get(name, []) if is_more else []
                self.values[name] = ([before] if isinstance(before, str) else list(before)) + added
                n = end + 1
            else:
                self._assign_text(word, name, len(told[0]), is_more)
                n += 1
        return True

    def _assign_text(self, word: Word, name: str, start: int, is_more: bool) -> None:
        """The first part of the word always holds `name=`."""
        value = Word(word.raw, (str(word.parts[0])[start:], *word.parts[1:]), word.line)
        try:
            text = " ".join(expanded(value, self.values))
        except Unreadable:
            self.values.pop(name, None)  # known when it is used, if it ever is
            return
        before = self.values.get(name, "")
        self.values[name] = before + text if is_more and isinstance(before, str) else text

    def _command(self, tokens: Sequence[Token]) -> None:
        """A program that a shell would start; only the one that trains matters."""
        words: list[Word] = []
        for n, token in enumerate(tokens):
            if not isinstance(token, Word):
                if token == ">" and words and n and re.fullmatch(r"\d", words[-1].raw):
                    words.pop()  # 2>&1
                break
            words.append(token)
        self._take_command(words)

    def _test(self, tokens: Sequence[Token]) -> bool:
        """What stands between [[ and ]]."""
        answers = [(joint, self._compare(part)) for joint, part in _joined(tokens)]
        is_so = answers[0][1]
        for joint, answer in answers[1:]:
            is_so = (is_so and answer) if joint == "&&" else (is_so or answer)
        return is_so

    def _compare(self, tokens: Sequence[Token]) -> bool:
        if tokens and raw(tokens[0]) == "!":
            return not self._compare(tokens[1:])
        if not all(isinstance(token, Word) for token in tokens):
            raise Unreadable(line_of(tokens), Message("a condition with < or >"))
        words = [" ".join(expanded(word, self.values, "")) for word in tokens]
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
    """A shell counts whole numbers alone; 0.5, which it stumbles over, is what people mean."""
    try:
        return float(text or 0)
    except ValueError:
        raise Unreadable(line_of(tokens), Message("{word!r} where a number should be", word=text)) from None


def _statements(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Cut at line ends and semicolons, but not within the parentheses of an array."""
    found: list[Token] = []
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if token in ("\n", ";") and depth <= 0:
            yield found
            found, depth = [], 0
        elif token != "\n":
            found.append(token)
    yield found


def _joined(tokens: Sequence[Token]) -> Iterator[tuple[str, list[Token]]]:
    """Parts with the && or || before each; those within [[ ]] do not cut."""
    joint, found, is_inside = "", [], False
    for token in tokens:
        is_inside = (is_inside or raw(token) == "[[") and raw(token) != "]]"
        if token in ("&&", "||") and not is_inside:
            yield joint, found
            joint, found = token, []
        else:
            found.append(token)
    yield joint, found


def lexed(text: str) -> list[Token]:
    """Words and operators; comments are gone."""
    return tokens_of(text.replace("\r\n", "\n"), _CONTINUED, _OPERATOR, _word)


def _word(text: str, place: int, line: int) -> tuple[Word, int]:
    begin, parts, quote, is_quoted = place, [], "", False
    while place < len(text):
        char = text[place]
        if quote == "'":
            if char == "'":
                quote = ""
            else:
                parts.append(char)
            place += 1
        elif char == "\\":
            after = text[place + 1 : place + 2]
            if after != "\n":
                parts.append(char + after if quote and after not in '"\\$`' else after)
            place += 2
        elif char in "\"'" and (not quote or char == quote):
            quote, is_quoted = ("" if quote else char), True
            place += 1
        elif char == "$" or char == "`":
            part, place = _reference(text, place)
            parts.append(part)
        elif not quote and (char in " \t\n" or _OPERATOR.match(text, place)):
            break
        else:
            parts.append(char)
            place += 1
    if quote:
        raise Unreadable(line, Message("a quotation mark that is never closed"))
    return Word(text[begin:place], merged(parts), line, is_quoted), place


def _reference(text: str, place: int) -> tuple[str | Ref, int]:
    """A variable; what a program would have to answer keeps its own name, which never has a value."""
    if told := _REF.match(text, place):
        return Ref(told["plain"] or told["name"], bool(told["all"]), told["default"]), told.end()
    if text[place] == "`":
        end = text.find("`", place + 1) + 1 or len(text)
        return Ref(text[place:end]), end
    if text.startswith("$(", place):
        depth, end = 0, place
        for end in range(place + 1, len(text)):
            depth += (text[end] == "(") - (text[end] == ")")
            if not depth:
                break
        return Ref(text[place : end + 1]), end + 1
    if re.match(r"\$[\d@*#?{]", text[place : place + 2]):
        return Ref(text[place : place + 2]), place + 2
    return "$", place + 1
