"""`train.ps1` as data, as `shell` reads train.sh: variables, conditions, lists of options, the command at the end."""

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
    expanded,
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
_BEYOND = (
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
    """The words of the training command from its script on, and those that lists hold but the command does not take.

    Raises:
        Unreadable: the script means more than this reads.
    """
    reader = _PowerShellReader(lexed(text))
    reader.read()
    return reader.command, reader.lost()


class _PowerShellReader(ScriptReader):
    def __init__(self, tokens: list[Token]):
        super().__init__(CONSTANTS)
        self.tokens, self.place = tokens, 0
        self.plain: set[str] = set()  # variables that hold a bare number

    def read(self) -> None:
        closed: Branch | None = None  # the branch that ended just now
        while self.place < len(self.tokens):
            token = self.tokens[self.place]
            first = raw(token).lower()
            if token in ("\n", ";"):
                self.place += 1
            elif token == "}":
                if not self.stack:
                    raise Unreadable(self._line(), Message("a }} that closes nothing"))
                closed = self.stack.pop()
                self.place += 1
            elif first == "if" or (first in ("elseif", "else") and closed is not None):
                self._branch(first, closed)
                closed = None
            else:
                self._statement()
                closed = None

    def _branch(self, word: str, before: Branch | None) -> None:
        self.place += 1
        asked = self._parenthesised() if word != "else" else []
        while self.place < len(self.tokens) and self.tokens[self.place] == "\n":
            self.place += 1
        if self.place >= len(self.tokens) or self.tokens[self.place] != "{":
            raise Unreadable(self._line(), Message("{keyword} without a block", keyword=word))
        self.place += 1
        may = self._is_active and (word == "if" or not before.is_taken)
        is_so = may and (word == "else" or self._asked(asked))
        self.stack.append(Branch(is_so, is_so or (word != "if" and before.is_taken)))

    def _statement(self) -> None:
        found: list[Token] = []
        depth = 0
        while self.place < len(self.tokens):
            token = self.tokens[self.place]
            if depth <= 0 and token in ("\n", ";", "}"):
                break
            depth += (token == "(") - (token == ")")
            if token != "\n":
                found.append(token)
            self.place += 1
        if not self._is_active:
            if "{" in found:
                raise Unreadable(line_of(found), Message("{command}", command=raw(found[0])))
            return
        if raw(found[0]).lower() in _BEYOND or "{" in found:
            raise Unreadable(line_of(found), Message("{command}", command=raw(found[0])))
        first, second = raw(found[0]), raw(found[1]) if len(found) > 1 else ""
        added, assigned = _ADDED.match(first), _ASSIGNED.match(first)
        if added and second == "(":
            before = self.values.get(added[1], [])
            new = self._values([token for token in found[2:] if token != ")"])
            self.values[added[1]] = [*([before] if isinstance(before, str) else before), *new]
        elif assigned and second in ("=", "+="):
            self._assign(assigned[1], found[2:], second == "+=")
        else:
            self._command(found)

    def _assign(self, name: str, tokens: list[Token], is_more: bool) -> None:
        raws = [raw(token) for token in tokens]
        is_list = raws[:2] == ["@", "("] or (raws and "ArrayList" in raws[0]) or "," in raws
        try:
            new = self._values([token for token in tokens if raw(token) not in ("@", "(", ")") and not _is_new(token)])
        except Unreadable:
            self.values.pop(name, None)
            return
        before = self.values.get(name)
        self.plain.discard(name)
        if is_more and isinstance(before, list):
            self.values[name] = before + new
        elif is_list:
            self.values[name] = new
        else:
            self.values[name] = (before if is_more and isinstance(before, str) else "") + " ".join(new)
            if len(tokens) == 1 and _NUMBER.match(raws[0]) and not is_more:
                self.plain.add(name)

    def _values(self, tokens: Sequence[Token]) -> list[str]:
        """Values apart by commas, each of words joined by +."""
        found: list[str] = []
        is_joined = False
        for token in tokens:
            if token == "+":
                is_joined = True
            elif isinstance(token, Word):
                new = expanded(token, self.values)
                if is_joined and found:
                    found[-1] += " ".join(new)
                else:
                    found += new
                is_joined = False
            elif token in ("|", "&"):
                break
        return found

    def _command(self, tokens: Sequence[Token]) -> None:
        words: list[Word] = []
        for token in tokens:
            if token in ("|", ">", ")") and words:
                break
            if isinstance(token, Word):
                words.append(token)
            elif token == ",":
                raise (
                    Unreadable(line_of(tokens), Message("a list where a command should be"))
                    if words
                    else Unreadable(0, Message(","))
                )
        self._take_command(words)

    def _parenthesised(self) -> list[Token]:
        if self.place >= len(self.tokens) or self.tokens[self.place] != "(":
            raise Unreadable(self._line(), Message("if without a condition"))
        found: list[Token] = []
        depth = 0
        while self.place < len(self.tokens):
            token = self.tokens[self.place]
            depth += (token == "(") - (token == ")")
            self.place += 1
            if not depth:
                return [one for one in found[1:] if one != "\n"]
            found.append(token)
        raise Unreadable(self._line(), Message("a parenthesis that is never closed"))

    def _asked(self, tokens: Sequence[Token]) -> bool:
        parts: list[list[Token]] = [[]]
        joints = []
        for token in tokens:
            if raw(token).lower() in ("-and", "-or"):
                joints.append(raw(token).lower())
                parts.append([])
            else:
                parts[-1].append(token)
        answer = self._compare(parts[0])
        for joint, part in zip(joints, parts[1:], strict=True):
            other = self._compare(part)
            answer = (answer and other) if joint == "-and" else (answer or other)
        return answer

    def _compare(self, tokens: Sequence[Token]) -> bool:
        tokens = [token for token in tokens if token not in ("(", ")")]
        if tokens and raw(tokens[0]).lower() in ("-not", "!"):
            return not self._compare(tokens[1:])
        if not all(isinstance(token, Word) for token in tokens) or len(tokens) not in (1, 3):
            raise Unreadable(
                line_of(tokens), Message("the condition {condition!r}", condition=" ".join(map(raw, tokens)))
            )
        first = " ".join(expanded(tokens[0], self.values, ""))
        if len(tokens) == 1:
            return first not in ("", "0") if self._is_plain(tokens[0]) else bool(first)
        operator, second = raw(tokens[1]).lower(), " ".join(expanded(tokens[2], self.values, ""))
        if operator not in COMPARISONS:
            raise Unreadable(line_of(tokens), Message("the condition {condition!r}", condition=operator))
        try:
            pair = (float(first or 0), float(second or 0))
        except ValueError:
            pair = (first.lower(), second.lower())
        return COMPARISONS[operator](*pair)

    def _is_plain(self, word: Word) -> bool:
        """Whether it is a number: 0 is false, the text "0" is true."""
        only = word.parts[0] if len(word.parts) == 1 else ""
        return only.name in self.plain if isinstance(only, Ref) else not word.is_quoted

    def _line(self) -> int:
        return line_of(self.tokens[min(self.place, len(self.tokens) - 1) :])


def _is_new(token: Token) -> bool:
    return isinstance(token, Word) and ("::new" in token.raw or token.raw.lower() == "new-object")


def lexed(text: str) -> list[Token]:
    """Words and operators; comments are gone."""
    text = re.sub(r"<#.*?#>", lambda comment: "\n" * comment[0].count("\n"), text.replace("\r\n", "\n"), flags=re.S)
    return tokens_of(text, _CONTINUED, _OPERATOR, _word)


def _word(text: str, place: int, line: int) -> tuple[Word, int]:
    begin, parts, quote, is_quoted = place, [], "", False
    while place < len(text):
        char = text[place]
        if quote and char == quote:
            is_double = text[place + 1 : place + 2] == quote  # '' within '...' is one mark
            if is_double:
                parts.append(quote)
            else:
                quote = ""
            place += 2 if is_double else 1
        elif quote == "'":
            parts.append(char)
            place += 1
        elif char == "`" and place + 1 < len(text) and text[place + 1] != "\n":
            parts.append(_ESCAPED.get(text[place + 1], text[place + 1]))
            place += 2
        elif char in "\"'" and not quote:
            quote, is_quoted = char, True
            place += 1
        elif char == "$" and text[place + 1 : place + 2] == "(":
            end = text.find(")", place) + 1 or len(text)
            parts.append(Ref(text[place:end]))
            place = end
        elif char == "$" and (told := _REF.match(text, place)):
            parts.append(Ref(told["braced"] or told["plain"]))
            place = told.end()
        elif not quote and (char in " \t\n{}();|" or _is_apart(text, place, is_quoted)):
            break
        else:
            parts.append(char)
            place += 1
    if quote:
        raise Unreadable(line, Message("a quotation mark that is never closed"))
    return Word(text[begin:place], merged(parts), line, is_quoted), place


def _is_apart(text: str, place: int, is_quoted: bool) -> bool:
    """A comma that parts two values; that of 512,512 does not."""
    return text[place] == "," and (is_quoted or text[place + 1 : place + 2] in ("", " ", "\t", "\n", '"', "'"))
