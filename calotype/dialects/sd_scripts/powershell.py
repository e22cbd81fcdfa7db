"""Parser of `train.ps1`, like `shell` of train.sh: variables, conditions, lists of options, the training command."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from calotype.dialects.sd_scripts.words import Ref, Unreadable, Value, Word, expand, find_trainer
from calotype.errors import Message

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
Token = Word | str


@dataclass
class _IfBlock:
    """One branch of an `if`."""

    is_active: bool
    was_taken: bool


def read_powershell(text: str) -> tuple[list[str], list[str]]:
    """The words of the training command from its script on, and the options in lists that the command does not use.

    Raises:
        Unreadable: the script contains an unsupported statement.
    """
    reader = _PowerShellReader(tokenize(text))
    reader.read()
    return reader.command, reader.unused_options()


class _PowerShellReader:
    def __init__(self, tokens: list[Token]):
        self.tokens, self.position = tokens, 0
        self.values: dict[str, Value] = dict(CONSTANTS)
        self.numbers: set[str] = set()  # variables that are unquoted numbers
        self.command: list[str] = []
        self.used: set[str] = set()
        self.stack: list[_IfBlock] = []

    def unused_options(self) -> list[str]:
        unused = [value for name, value in self.values.items() if isinstance(value, list) and name not in self.used]
        return [word for value in unused for word in value if word.startswith("--")] if self.command else []

    def read(self) -> None:
        closed: _IfBlock | None = None  # the branch that has just ended
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            first = _raw(token).lower()
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

    @property
    def _is_active(self) -> bool:
        return all(frame.is_active for frame in self.stack)

    def _branch(self, word: str, previous: _IfBlock | None) -> None:
        self.position += 1
        condition = self._parenthesised() if word != "else" else []
        while self.position < len(self.tokens) and self.tokens[self.position] == "\n":
            self.position += 1
        if self.position >= len(self.tokens) or self.tokens[self.position] != "{":
            raise Unreadable(self._line(), Message("{keyword} without a block", keyword=word))
        self.position += 1
        can_run = self._is_active and (word == "if" or not previous.was_taken)
        is_true = can_run and (word == "else" or self._condition(condition))
        self.stack.append(_IfBlock(is_true, is_true or (word != "if" and previous.was_taken)))

    def _statement(self) -> None:
        tokens: list[Token] = []
        depth = 0
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            if depth <= 0 and token in ("\n", ";", "}"):
                break
            depth += (token == "(") - (token == ")")
            if token != "\n":
                tokens.append(token)
            self.position += 1
        if not self._is_active:
            if "{" in tokens:
                raise Unreadable(_line(tokens), Message("{command}", command=_raw(tokens[0])))
            return
        if _raw(tokens[0]).lower() in _UNSUPPORTED or "{" in tokens:
            raise Unreadable(_line(tokens), Message("{command}", command=_raw(tokens[0])))
        first, second = _raw(tokens[0]), _raw(tokens[1]) if len(tokens) > 1 else ""
        added, assigned = _ADDED.match(first), _ASSIGNED.match(first)
        if added and second == "(":
            before = self.values.get(added[1], [])
            new = self._values([token for token in tokens[2:] if token != ")"])
            self.values[added[1]] = [*([before] if isinstance(before, str) else before), *new]
        elif assigned and second in ("=", "+="):
            self._assign(assigned[1], tokens[2:], second == "+=")
        else:
            self._command(tokens)

    def _assign(self, name: str, tokens: list[Token], is_more: bool) -> None:
        raws = [_raw(token) for token in tokens]
        is_list = raws[:2] == ["@", "("] or (raws and "ArrayList" in raws[0]) or "," in raws
        try:
            new = self._values([token for token in tokens if _raw(token) not in ("@", "(", ")") and not _is_new(token)])
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
                    Unreadable(_line(tokens), Message("a list instead of a command"))
                    if words
                    else Unreadable(0, Message(","))
                )
        start = find_trainer([" ".join(expand(word, self.values, "")) for word in words])
        if start is None:
            return
        self.used |= {part.name for word in words for part in word.parts if isinstance(part, Ref)}
        self.command = [text for word in words[start:] for text in expand(word, self.values) if text]

    def _parenthesised(self) -> list[Token]:
        if self.position >= len(self.tokens) or self.tokens[self.position] != "(":
            raise Unreadable(self._line(), Message("if without a condition"))
        tokens: list[Token] = []
        depth = 0
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            depth += (token == "(") - (token == ")")
            self.position += 1
            if not depth:
                return [token for token in tokens[1:] if token != "\n"]
            tokens.append(token)
        raise Unreadable(self._line(), Message("an unclosed parenthesis"))

    def _condition(self, tokens: Sequence[Token]) -> bool:
        operands: list[list[Token]] = [[]]
        operators = []
        for token in tokens:
            if _raw(token).lower() in ("-and", "-or"):
                operators.append(_raw(token).lower())
                operands.append([])
            else:
                operands[-1].append(token)
        result = self._compare(operands[0])
        for operator, operand_tokens in zip(operators, operands[1:], strict=True):
            operand = self._compare(operand_tokens)
            result = (result and operand) if operator == "-and" else (result or operand)
        return result

    def _compare(self, tokens: Sequence[Token]) -> bool:
        tokens = [token for token in tokens if token not in ("(", ")")]
        if tokens and _raw(tokens[0]).lower() in ("-not", "!"):
            return not self._compare(tokens[1:])
        if not all(isinstance(token, Word) for token in tokens) or len(tokens) not in (1, 3):
            raise Unreadable(
                _line(tokens), Message("the condition {condition!r}", condition=" ".join(map(_raw, tokens)))
            )
        first = " ".join(expand(tokens[0], self.values, ""))
        if len(tokens) == 1:
            return first not in ("", "0") if self._is_number(tokens[0]) else bool(first)
        operator, second = _raw(tokens[1]).lower(), " ".join(expand(tokens[2], self.values, ""))
        if operator not in COMPARISONS:
            raise Unreadable(_line(tokens), Message("the condition {condition!r}", condition=operator))
        try:
            pair = (float(first or 0), float(second or 0))
        except ValueError:
            pair = (first.lower(), second.lower())
        return COMPARISONS[operator](*pair)

    def _is_number(self, word: Word) -> bool:
        """Whether it is a number: the number 0 is false, the string "0" is true."""
        only = word.parts[0] if len(word.parts) == 1 else ""
        return only.name in self.numbers if isinstance(only, Ref) else not word.is_quoted

    def _line(self) -> int:
        return _line(self.tokens[min(self.position, len(self.tokens) - 1) :])


COMPARISONS = {
    "-eq": lambda a, b: a == b,
    "-ne": lambda a, b: a != b,
    "-gt": lambda a, b: a > b,
    "-ge": lambda a, b: a >= b,
    "-lt": lambda a, b: a < b,
    "-le": lambda a, b: a <= b,
}


def _raw(token: Token) -> str:
    return token if isinstance(token, str) else token.raw


def _line(tokens: Sequence[Token]) -> int:
    return next((token.line for token in tokens if isinstance(token, Word)), 0)


def _is_new(token: Token) -> bool:
    return isinstance(token, Word) and ("::new" in token.raw or token.raw.lower() == "new-object")


def tokenize(text: str) -> list[Token]:
    """Words and operators, without comments."""
    text = re.sub(r"<#.*?#>", lambda match: "\n" * match[0].count("\n"), text.replace("\r\n", "\n"), flags=re.S)
    tokens: list[Token] = []
    position, line = 0, 1
    while position < len(text):
        char = text[position]
        if match := re.compile(r"`[ \t]*\n").match(text, position):
            position, line = match.end(), line + 1
        elif char in " \t":
            position += 1
        elif char == "\n":
            tokens.append("\n")
            position, line = position + 1, line + 1
        elif char == "#":
            position = (text + "\n").index("\n", position)
        elif char in "{}();,|>":
            tokens.append(char)
            position += 1
        elif char == "@" and text[position + 1 : position + 2] == "(":
            tokens.append("@")
            position += 1
        elif char == "+" and text[position + 1 : position + 2] != "=":
            tokens.append("+")
            position += 1
        else:
            word, position = _word(text, position, line)
            line += word.raw.count("\n")
            tokens.append(word)
    return tokens


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
    merged: list[str | Ref] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return Word(text[start:position], tuple(merged) or ("",), line, is_quoted), position


def _is_separator(text: str, position: int, is_quoted: bool) -> bool:
    """Whether it is a comma between two values; the one in 512,512 is not."""
    return text[position] == "," and (is_quoted or text[position + 1 : position + 2] in ("", " ", "\t", "\n", '"', "'"))
