"""From a prompt to what the U-Net is told at each step."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.models.diffusion import Condition, Diffusion
from calotype.ops.prompt import Vectors, apply_weights, chunks, composition, emphasis, schedule


@dataclass(frozen=True)
class StepPrompts:
    """The texts of one step: what to draw, each with its weight, and what not to draw."""

    wanted: tuple[tuple[str, float], ...]
    unwanted: str


def said_at_each(prompt: str, negative: str, steps: int, first_pass: int = 0) -> list[StepPrompts]:
    """One entry for each of `steps` steps."""
    wanted = [(schedule(text, steps, first_pass), weight) for text, weight in composition(prompt)]
    unwanted = schedule(negative, steps, first_pass)
    return [
        StepPrompts(tuple((_at(texts, n), weight) for texts, weight in wanted), _at(unwanted, n))
        for n in range(1, steps + 1)
    ]


def _at(texts: list[tuple[int, str]], step: int) -> str:
    return next(text for until, text in texts if step <= until)


class PromptEncoder:
    """Texts to conditions; each text is encoded once."""

    def __init__(self, model: Diffusion, way: str, skip: int, learned: Mapping[str, Sequence[Tensor]] | None = None):
        self._model, self._way, self._skip = model, way, skip
        self._learned = learned or {}
        first = model.text[0].tokenizer
        self._words = [
            Vectors(name, tuple(first.encode(name)), len(vectors[0])) for name, vectors in self._learned.items()
        ]
        self._read: dict[str, Condition] = {}

    def __call__(self, text: str) -> Condition:
        if text not in self._read:
            self._read[text] = self._encoded(text)
        return self._read[text]

    def _encoded(self, text: str) -> Condition:
        tokenizer = self._model.text[0].tokenizer
        cut = chunks(emphasis(text, self._way != "none"), tokenizer.encode, tokenizer.comma, self._words)
        weights = torch.tensor([_framed(chunk.weights) for chunk in cut])
        rows = [(chunk.tokens, {place: self._learned[name] for place, name in chunk.vectors}) for chunk in cut]
        return self._model.encode_prompt(rows, lambda states: apply_weights(states, weights, self._way), self._skip)

    def together(self, said: StepPrompts, has_unwanted: bool) -> list[Condition]:
        """All conditions of a step as rows, the unwanted one first, in one piece for each run of equal lengths.

        As in A1111 a longer prompt does not change what a shorter one means: nothing is filled up.
        """
        wanted = [self(text) for text, _ in said.wanted]
        found = [self._unwanted(said.unwanted, wanted[0]), *wanted] if has_unwanted else wanted
        runs = (list(run) for _, run in itertools.groupby(found, lambda one: one.states.shape[1]))
        return [_stacked(run) for run in runs]

    def _unwanted(self, text: str, like: Condition) -> Condition:
        """Zeros are the same at any length, so they go along with what is wanted."""
        if text.strip() or not self._model.zero_uncond:
            return self(text)
        return Condition(torch.zeros_like(like.states), None if like.pooled is None else torch.zeros_like(like.pooled))


def _stacked(run: list[Condition]) -> Condition:
    pooled = torch.cat([one.pooled for one in run]) if run[0].pooled is not None else None
    return Condition(torch.cat([one.states for one in run]), pooled)


def _framed(weights: list[float]) -> list[float]:
    """77 weights: begin, the tokens', end and what pads."""
    return [1.0, *weights] + [1.0] * (76 - len(weights))
