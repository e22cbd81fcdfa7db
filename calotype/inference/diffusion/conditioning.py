"""Encodes prompts to the conditions of the U-Net at each step."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.models.diffusion import Condition, Diffusion
from calotype.ops.prompt import Vectors, apply_weights, chunks, composition, emphasis, schedule


@dataclass(frozen=True)
class StepPrompts:
    """The prompts of one step with their weights, and the negative prompt."""

    prompts: tuple[tuple[str, float], ...]
    negative_prompt: str


def step_prompts(prompt: str, negative: str, steps: int, first_pass: int = 0) -> list[StepPrompts]:
    """The prompts of each of `steps` steps."""
    prompts = [(schedule(text, steps, first_pass), weight) for text, weight in composition(prompt)]
    negatives = schedule(negative, steps, first_pass)
    return [
        StepPrompts(tuple((_at(texts, n), weight) for texts, weight in prompts), _at(negatives, n))
        for n in range(1, steps + 1)
    ]


def _at(texts: list[tuple[int, str]], step: int) -> str:
    return next(text for last_step, text in texts if step <= last_step)


class PromptEncoder:
    """Encodes texts to conditions, with a cache by text."""

    def __init__(
        self, model: Diffusion, emphasis_mode: str, skip: int, embeddings: Mapping[str, Sequence[Tensor]] | None = None
    ):
        self._model, self._emphasis, self._skip = model, emphasis_mode, skip
        self._embeddings = embeddings or {}
        tokenizer = model.text[0].tokenizer
        self._words = [
            Vectors(name, tuple(tokenizer.encode(name)), len(vectors[0])) for name, vectors in self._embeddings.items()
        ]
        self._conditions: dict[str, Condition] = {}

    def __call__(self, text: str) -> Condition:
        if text not in self._conditions:
            self._conditions[text] = self._encode(text)
        return self._conditions[text]

    def _encode(self, text: str) -> Condition:
        tokenizer = self._model.text[0].tokenizer
        text_chunks = chunks(emphasis(text, self._emphasis != "none"), tokenizer.encode, tokenizer.comma, self._words)
        weights = torch.tensor([_with_special_tokens(chunk.weights) for chunk in text_chunks])
        rows = [
            (chunk.tokens, {position: self._embeddings[name] for position, name in chunk.vectors})
            for chunk in text_chunks
        ]
        return self._model.encode_prompt(
            rows, lambda states: apply_weights(states, weights, self._emphasis), self._skip
        )

    def encode_step(self, step: StepPrompts, has_negative: bool) -> list[Condition]:
        """All conditions of a step, the negative one first, as one batch for each run of equal lengths.

        As in A1111 a longer prompt does not change the meaning of a shorter one: nothing is padded.
        """
        prompts = [self(text) for text, _ in step.prompts]
        conditions = [self._encode_negative(step.negative_prompt, prompts[0]), *prompts] if has_negative else prompts
        runs = (list(run) for _, run in itertools.groupby(conditions, lambda condition: condition.states.shape[1]))
        return [_stacked(run) for run in runs]

    def _encode_negative(self, text: str, like: Condition) -> Condition:
        """The condition of a negative prompt; for an empty one zeros as `like`, if the model was trained so."""
        if text.strip() or not self._model.zero_uncond:
            return self(text)
        return Condition(torch.zeros_like(like.states), None if like.pooled is None else torch.zeros_like(like.pooled))


def _stacked(run: list[Condition]) -> Condition:
    pooled = torch.cat([condition.pooled for condition in run]) if run[0].pooled is not None else None
    return Condition(torch.cat([condition.states for condition in run]), pooled)


def _with_special_tokens(weights: list[float]) -> list[float]:
    """77 weights: begin, tokens, end and padding."""
    return [1.0, *weights] + [1.0] * (76 - len(weights))
