"""Splits weighted text into chunks of 75 tokens, as A1111 does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from calotype.ops.prompt.emphasis import BREAK

LENGTH = 75  # tokens of a chunk, without its start and end tokens
BACKTRACK = 20  # tokens before the boundary within which a chunk is split at a comma


@dataclass(frozen=True)
class Vectors:
    """A textual inversion embedding: the tokens of its name, and how many vectors it has."""

    name: str
    tokens: tuple[int, ...]
    count: int


@dataclass
class Chunk:
    """75 tokens at most; the caller adds start, end and padding."""

    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    vectors: list[tuple[int, str]] = field(default_factory=list)  # position of the first vector, name


def chunks(
    fragments: Sequence[tuple[str, float]],
    tokens_of: Callable[[str], list[int]],
    comma: int | None,
    learned: Sequence[Vectors] = (),
) -> list[Chunk]:
    """At least one chunk. A chunk with a comma in its last 20 tokens is split after that comma instead.

    Args:
        fragments: from `emphasis`.
        tokens_of: the tokenizer, without start and end tokens.
        comma: the token of ",", after which chunks are preferably split.
        learned: textual inversion embeddings; the longest name wins, and none is split by a boundary.
    """
    chunker = _Chunker(comma, _by_first(learned))
    for text, weight in fragments:
        if text == BREAK and weight == -1:
            chunker.next_chunk()
        else:
            chunker.add_fragment(tokens_of(text), weight)
    return chunker.finish()


def _by_first(learned: Sequence[Vectors]) -> Mapping[int, list[Vectors]]:
    by_first: dict[int, list[Vectors]] = {}
    for word in sorted(learned, key=lambda word: -len(word.tokens)):
        if word.tokens:
            by_first.setdefault(word.tokens[0], []).append(word)
    return by_first


class _Chunker:
    def __init__(self, comma: int | None, learned: Mapping[int, list[Vectors]]):
        self._comma, self._words = comma, learned
        self._chunks: list[Chunk] = []
        self._chunk, self._last_comma = Chunk(), -1

    def next_chunk(self) -> None:
        self._chunks.append(self._chunk)
        self._chunk, self._last_comma = Chunk(), -1

    def finish(self) -> list[Chunk]:
        if self._chunk.tokens or not self._chunks:
            self.next_chunk()
        return self._chunks

    def add_fragment(self, tokens: list[int], weight: float) -> None:
        position = 0
        while position < len(tokens):
            if tokens[position] == self._comma:
                self._last_comma = len(self._chunk.tokens)
            elif len(self._chunk.tokens) == LENGTH and self._is_comma_near():
                self._split_at_comma()
            if len(self._chunk.tokens) == LENGTH:
                self.next_chunk()
            word = self._word_at(tokens, position)
            if word is None:
                self._add(tokens[position], weight)
                position += 1
                continue
            self._add_word(word, weight)
            position += len(word.tokens)

    def _is_comma_near(self) -> bool:
        return self._last_comma != -1 and LENGTH - self._last_comma <= BACKTRACK

    def _split_at_comma(self) -> None:
        """Moves everything after the last comma to the next chunk."""
        full, split = self._chunk, self._last_comma + 1
        moved = [(position - split, name) for position, name in full.vectors if position >= split]
        rest = Chunk(full.tokens[split:], full.weights[split:], moved)
        kept_vectors = [vector for vector in full.vectors if vector[0] < split]
        self._chunk = Chunk(full.tokens[:split], full.weights[:split], kept_vectors)
        self.next_chunk()
        self._chunk = rest

    def _word_at(self, tokens: list[int], position: int) -> Vectors | None:
        for word in self._words.get(tokens[position], ()):
            if tuple(tokens[position : position + len(word.tokens)]) == word.tokens:
                return word
        return None

    def _add(self, token: int, weight: float) -> None:
        self._chunk.tokens.append(token)
        self._chunk.weights.append(weight)

    def _add_word(self, word: Vectors, weight: float) -> None:
        count = min(word.count, LENGTH)
        if len(self._chunk.tokens) + count > LENGTH:
            self.next_chunk()
        self._chunk.vectors.append((len(self._chunk.tokens), word.name))
        for _ in range(count):
            self._add(0, weight)
