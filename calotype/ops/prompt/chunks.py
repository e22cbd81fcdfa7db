"""Weighted words into chunks of 75 tokens, as A1111 cuts them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from calotype.ops.prompt.emphasis import BREAK

LENGTH = 75  # tokens of a chunk, without the two that begin and end it
BACKTRACK = 20  # how far behind the boundary a comma may lie for the words after it to move on with them


@dataclass(frozen=True)
class Vectors:
    """A word that stands for learned vectors: the tokens of its name, and how many vectors it takes."""

    name: str
    tokens: tuple[int, ...]
    count: int


@dataclass
class Chunk:
    """75 tokens at most; the caller frames and pads them."""

    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    vectors: list[tuple[int, str]] = field(default_factory=list)  # place of the first vector, name


def chunks(
    fragments: Sequence[tuple[str, float]],
    tokens_of: Callable[[str], list[int]],
    comma: int | None,
    learned: Sequence[Vectors] = (),
) -> list[Chunk]:
    """At least one chunk. A chunk that ends within 20 tokens after a comma ends at that comma instead.

    Args:
        fragments: from `emphasis`.
        tokens_of: the tokenizer, without begin and end.
        comma: the token of ",", after which a chunk likes to end.
        learned: words with vectors of their own; the longest name wins, and none is cut by a boundary.
    """
    cutter = _Cutter(comma, _by_first(learned))
    for text, weight in fragments:
        if text == BREAK and weight == -1:
            cutter.next()
        else:
            cutter.take(tokens_of(text), weight)
    return cutter.done()


def _by_first(learned: Sequence[Vectors]) -> Mapping[int, list[Vectors]]:
    found: dict[int, list[Vectors]] = {}
    for word in sorted(learned, key=lambda word: -len(word.tokens)):
        if word.tokens:
            found.setdefault(word.tokens[0], []).append(word)
    return found


class _Cutter:
    def __init__(self, comma: int | None, learned: Mapping[int, list[Vectors]]):
        self._comma, self._learned = comma, learned
        self._done: list[Chunk] = []
        self._chunk, self._last_comma = Chunk(), -1

    def next(self) -> None:
        self._done.append(self._chunk)
        self._chunk, self._last_comma = Chunk(), -1

    def done(self) -> list[Chunk]:
        if self._chunk.tokens or not self._done:
            self.next()
        return self._done

    def take(self, tokens: list[int], weight: float) -> None:
        place = 0
        while place < len(tokens):
            if tokens[place] == self._comma:
                self._last_comma = len(self._chunk.tokens)
            elif len(self._chunk.tokens) == LENGTH and self._is_comma_near():
                self._move_on()
            if len(self._chunk.tokens) == LENGTH:
                self.next()
            word = self._word_at(tokens, place)
            if word is None:
                self._add(tokens[place], weight)
                place += 1
                continue
            self._add_word(word, weight)
            place += len(word.tokens)

    def _is_comma_near(self) -> bool:
        return self._last_comma != -1 and LENGTH - self._last_comma <= BACKTRACK

    def _move_on(self) -> None:
        """Everything after the last comma begins the next chunk."""
        full, cut = self._chunk, self._last_comma + 1
        moved = [(place - cut, name) for place, name in full.vectors if place >= cut]
        rest = Chunk(full.tokens[cut:], full.weights[cut:], moved)
        kept = [one for one in full.vectors if one[0] < cut]
        self._chunk = Chunk(full.tokens[:cut], full.weights[:cut], kept)
        self.next()
        self._chunk = rest

    def _word_at(self, tokens: list[int], place: int) -> Vectors | None:
        for word in self._learned.get(tokens[place], ()):
            if tuple(tokens[place : place + len(word.tokens)]) == word.tokens:
                return word
        return None

    def _add(self, token: int, weight: float) -> None:
        self._chunk.tokens.append(token)
        self._chunk.weights.append(weight)

    def _add_word(self, word: Vectors, weight: float) -> None:
        count = min(word.count, LENGTH)
        if len(self._chunk.tokens) + count > LENGTH:
            self.next()
        self._chunk.vectors.append((len(self._chunk.tokens), word.name))
        for _ in range(count):
            self._add(0, weight)
