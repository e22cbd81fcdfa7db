"""Parser of `train.ps1`, like `shell` of train.sh: variables, conditions, lists of options, the training command."""

import re
from collections.abc import Sequence

from calotype.dialects.sd_scripts.words import (
    COMPARISONS,
    Branch,
    Ref,
    ScriptReader,
    Token,
    Unreadable,
    Value,
    Word,
    expand,
    line_of,
    merged,
    raw,
    tokens_of,
)
from calotype.errors import Message

_CONTINUED = re.compile(r"`[ \t]*\n")
_OPERATOR = re.compile(r"[{}();,|>]|@(?=\()|\+(?!=)")
_REF = re.compile(r"\$(?:\{(?P<braced>[^}]+)\}|(?P<plain>(?:[A-Za-z]+:)?[A-Za-z_]\w*))")
_ASSIGNED = re.compile(r"(?:\[[\w.]+\])?\$((?:[A-Za-z]+:)?\w+)$")
_ADDED = re.compile(r"(?:\[void\])?\$(\w+)\.(Add|AddRange)$", re.I)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$", re.I)
_UNSUPPORTED = (
    "for",
    "foreach",
    "while",
    "do",
    "switch",
    "try",
    "catch",
    "finally",
    "function",
    "param",
    "begin",
    "process",
)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}
CONSTANTS: dict[str, Value] = {"true": "True", "false": "", "null": ""}


def read_powershell(text: str) -> tuple[list[str], list[str]]:
    """The words of the training command from its script on, and the options in lists that the command does not use.

    Raises:
        Unreadable: the script contains an unsupported statement.
    """
    reader = _PowerShellReader(tokenize(text))
    reader.read()
    return reader.command, reader.unused_options()


class _PowerShellReader(ScriptReader):
    def __init__(self, tokens: list[Token]):
        super().__init__(CONSTANTS)
        self.tokens, self.position = tokens, 0
        self.numbers: set[str] = set()  # variables that are unquoted numbers

    def read(self) -> None:
        closed: Branch | None = None  # the branch that has just ended
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            first = raw(token).lower()
            if token in ("\n", ";"):
                self.position += 1
            elif token == "}":
                if not self.stack:
                    raise Unreadable(self._line(), Message("an unmatched }}"))
                closed = self.stack.pop()
                self.position += 1
            elif first == "if" or (first in ("elseif", "else") and closed is not None):
                self._branch(first, closed)
                closed = None
            else:
                self._statement()
                closed = None

    def _branch(self, word: str, before: Branch | None) -> None:
        self.position += 1
        condition = self._condition() if word != "else" else []
        while self.position < len(self.tokens) and self.tokens[self.position] == "\n":
            self.position += 1
        if self.position >= len(self.tokens) or self.tokens[self.position] != "{":
            raise Unreadable(self._line(), Message("{keyword} without a block", keyword=word))
        self.position += 1
        may = self._is_active and (word == "if" or not before.was_taken)
        is_true = may and (word == "else" or self._evaluate(condition))
        self.stack.append(Branch(is_true, is_true or (word != "if" and before.was_taken)))

    def _statement(self) -> None:
        statement: list[Token] = []
        depth = 0
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            if depth <= 0 and token in ("\n", ";", "}"):
                break
            depth += (token == "(") - (token == ")")
            if token != "\n":
                statement.append(token)
            self.position += 1
        if not self._is_active:
            if "{" in statement:
                raise Unreadable(line_of(statement), Message("{command}", command=raw(statement[0])))
            return
        if raw(statement[0]).lower() in _UNSUPPORTED or "{" in statement:
            raise Unreadable(line_of(statement), Message("{command}", command=raw(statement[0])))
        first, second = raw(statement[0]), raw(statement[1]) if len(statement) > 1 else ""
        added, assigned = _ADDED.match(first), _ASSIGNED.match(first)
        if added and second == "(":
            before = self.values.get(added[1], [])
            new = self._values([token for token in statement[2:] if token != ")"])
            self.values[added[1]] = [*([before] if isinstance(before, str) else before), *new]
        elif assigned and second in ("=", "+="):
            self._assign(assigned[1], statement[2:], second == "+=")
        else:
            self._command(statement)

    def _assign(self, name: str, tokens: list[Token], is_more: bool) -> None:
        raws = [raw(token) for token in tokens]
        is_list = raws[:2] == ["@", "("] or (raws and "ArrayList" in raws[0]) or "," in raws
        try:
            new = self._values([token for token in tokens if raw(token) not in ("@", "(", ")") and not _is_new(token)])
        except Unreadable:
            self.values.pop(name, None)
            return
        before = self.values.get(name)
        self.numbers.discard(name)
        if is_more and isinstance(before, list):
            self.values[name] = before + new
        elif is_list:
            self.values[name] = new
        else:
            self.values[name] = (before if is_more and isinstance(before, str) else "") + " ".join(new)
            if len(tokens) == 1 and _NUMBER.match(raws[0]) and not is_more:
                self.numbers.add(name)

    def _values(self, tokens: Sequence[Token]) -> list[str]:
        """Values separated by commas, each concatenated by +."""
        values: list[str] = []
        is_joined = False
        for token in tokens:
            if token == "+":
                is_joined = True
            elif isinstance(token, Word):
                new = expand(token, self.values)
                if is_joined and values:
                    values[-1] += " ".join(new)
                else:
                    values += new
                is_joined = False
            elif token in ("|", "&"):
                break
        return values

    def _command(self, tokens: Sequence[Token]) -> None:
        words: list[Word] = []
        for token in tokens:
            if token in ("|", ">", ")") and words:
                break
            if isinstance(token, Word):
                words.append(token)
            elif token == ",":
                raise (
                    Unreadable(line_of(tokens), Message("a list instead of a command"))
                    if words
                    else Unreadable(0, Message(","))
                )
        self._keep_command(words)

    def _condition(self) -> list[Token]:
        if self.position >= len(self.tokens) or self.tokens[self.position] != "(":
            raise Unreadable(self._line(), Message("if without a condition"))
        condition: list[Token] = []
        depth = 0
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            depth += (token == "(") - (token == ")")
            self.position += 1
            if not depth:
                return [token for token in condition[1:] if token != "\n"]
            condition.append(token)
        raise Unreadable(self._line(), Message("an unclosed parenthesis"))

    def _evaluate(self, tokens: Sequence[Token]) -> bool:
        parts: list[list[Token]] = [[]]
        operators = []
        for token in tokens:
            if raw(token).lower() in ("-and", "-or"):
                operators.append(raw(token).lower())
                parts.append([])
            else:
                parts[-1].append(token)
        result = self._compare(parts[0])
        for operator, part in zip(operators, parts[1:], strict=True):
            next_result = self._compare(part)
            result = (result and next_result) if operator == "-and" else (result or next_result)
        return result

    def _compare(self, tokens: Sequence[Token]) -> bool:
        tokens = [token for token in tokens if token not in ("(", ")")]
        if tokens and raw(tokens[0]).lower() in ("-not", "!"):
            return not self._compare(tokens[1:])
        if not all(isinstance(token, Word) for token in tokens) or len(tokens) not in (1, 3):
            raise Unreadable(
                line_of(tokens), Message("the condition {condition!r}", condition=" ".join(map(raw, tokens)))
            )
        first = " ".join(expand(tokens[0], self.values, ""))
        if len(tokens) == 1:
            return first not in ("", "0") if self._is_plain(tokens[0]) else bool(first)
        operator, second = raw(tokens[1]).lower(), " ".join(expand(tokens[2], self.values, ""))
        if operator not in COMPARISONS:
            raise Unreadable(line_of(tokens), Message("the condition {condition!r}", condition=operator))
        try:
            pair = (float(first or 0), float(second or 0))
        except ValueError:
            pair = (first.lower(), second.lower())
        return COMPARISONS[operator](*pair)

    def _is_plain(self, word: Word) -> bool:
        """Whether it is a number: the number 0 is false, the string "0" is true."""
        only = word.parts[0] if len(word.parts) == 1 else ""
        return only.name in self.numbers if isinstance(only, Ref) else not word.is_quoted

    def _line(self) -> int:
        return line_of(self.tokens[min(self.position, len(self.tokens) - 1) :])


def _is_new(token: Token) -> bool:
    return isinstance(token, Word) and ("::new" in token.raw or token.raw.lower() == "new-object")


def tokenize(text: str) -> list[Token]:
    """Words and operators, without comments."""
    text = re.sub(r"<#.*?#>", lambda match: "\n" * match[0].count("\n"), text.replace("\r\n", "\n"), flags=re.S)
    return tokens_of(text, _CONTINUED, _OPERATOR, _word)


def _word(text: str, position: int, line: int) -> tuple[Word, int]:
    start, parts, quote, is_quoted = position, [], "", False
    while position < len(text):
        char = text[position]
        if quote and char == quote:
            is_double = text[position + 1 : position + 2] == quote  # '' within '...' is an escaped quote
            if is_double:
                parts.append(quote)
            else:
                quote = ""
            position += 2 if is_double else 1
        elif quote == "'":
            parts.append(char)
            position += 1
        elif char == "`" and position + 1 < len(text) and text[position + 1] != "\n":
            parts.append(_ESCAPED.get(text[position + 1], text[position + 1]))
            position += 2
        elif char in "\"'" and not quote:
            quote, is_quoted = char, True
            position += 1
        elif char == "$" and text[position + 1 : position + 2] == "(":
            end = text.find(")", position) + 1 or len(text)
            parts.append(Ref(text[position:end]))
            position = end
        elif char == "$" and (match := _REF.match(text, position)):
            parts.append(Ref(match["braced"] or match["plain"]))
            position = match.end()
        elif not quote and (char in " \t\n{}();|" or _is_separator(text, position, is_quoted)):
            break
        else:
            parts.append(char)
            position += 1
    if quote:
        raise Unreadable(line, Message("an unclosed quotation mark"))
    return Word(text[start:position], merged(parts), line, is_quoted), position


def _is_separator(text: str, position: int, is_quoted: bool) -> bool:
    """Whether it is a comma between two values; the one in 512,512 is not."""
    return text[position] == "," and (is_quoted or text[position + 1 : position + 2] in ("", " ", "\t", "\n", '"', "'"))
