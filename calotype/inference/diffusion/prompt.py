"""Parses the prompts of a task: styles, LoRA tags, and the names of textual inversion embeddings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torch import Tensor

from calotype.checkpoints.models import Models
from calotype.checkpoints.store import ENDINGS
from calotype.errors import CalotypeError, Message, listed
from calotype.models.diffusion import Diffusion
from calotype.ops.prompt import LoraRef, extras
from calotype.options import nearest
from calotype.settings import Settings
from calotype.tasks import Imagine
from calotype.tasks.styles import STYLES_FILE, styles

if TYPE_CHECKING:
    from calotype.checkpoints.lora import Adapter
    from calotype.checkpoints.textual_inversion import Embedding

MAX_LETTERS = 1_000_000  # letters of a prompt


@dataclass(frozen=True)
class ParsedPrompt:
    """Prompts without LoRA tags, and the LoRAs of the tags."""

    prompt: str
    negative: str
    loras: tuple[LoraRef, ...]
    written: tuple[str, str]  # both prompts with styles and all LoRA tags, for the metadata of a picture
    notes: tuple[Message, ...] = ()

    @classmethod
    def of(cls, task: Imagine, settings: Settings) -> Self:
        """Raises CalotypeError for an unknown style, or an invalid option `lora`."""
        prompt, negative = _apply_styles(task, settings.home / STYLES_FILE)
        if max(len(prompt), len(negative)) > MAX_LETTERS:
            raise CalotypeError("the prompt is longer than {longest:,} letters; shorten it", longest=MAX_LETTERS)
        option_loras = _parse_loras(task.lora)
        written = " ".join([prompt, *map(_as_tag, option_loras)]).strip(), negative
        prompt, called, unknown = extras(prompt)
        negative, _, also_unknown = extras(negative)
        sentence = "{text} in the prompt is ignored: Calotype supports only <lora:name:weight>"
        notes = [Message(sentence, text=text) for text in unknown + also_unknown]
        return cls(prompt, negative, tuple(option_loras + called), written, tuple(notes))

    def adapters(self, models: Models) -> "tuple[tuple[Adapter, float, float], ...]":
        """The LoRAs with their strengths in the text encoders and in the U-Net, unless both are 0."""
        return tuple((models.adapter(lora.name), lora.text, lora.unet) for lora in self.loras if lora.text or lora.unet)

    def embeddings(self, models: Models, adapters: "Sequence[tuple[Adapter, float, float]]" = ()) -> "list[Embedding]":
        """The textual inversion embeddings in the prompts, for any model; those of the LoRAs take precedence."""
        text = f"{self.prompt}\n{self.negative}".casefold()
        bundled = {word.name.casefold(): word for adapter, *_ in adapters for word in adapter.embeddings}
        names = [name for name in models.store.names("embedding") if name.casefold() in text]
        called = [name for name in names if _contains_word(name.casefold(), text) and name.casefold() not in bundled]
        return [
            *(word for name, word in bundled.items() if _contains_word(name, text)),
            *(models.embedding(name) for name in called),
        ]


def _contains_word(name: str, text: str) -> bool:
    """Whether the text contains the name as a whole word."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def fits(word: "Embedding", model: Diffusion) -> bool:
    """Whether the embedding was trained for text encoders of the model's widths."""
    return set(_hidden_sizes(model)) <= _widths(word).keys()


def vectors_of(word: "Embedding", model: Diffusion) -> Sequence[Tensor]:
    """One (n, D) tensor for each text encoder, for an embedding that fits."""
    return [_widths(word)[width] for width in _hidden_sizes(model)]


def misfit_message(word: "Embedding", model: Diffusion) -> Message:
    """The note on an embedding that is ignored because it was trained for another kind of model."""
    return Message(
        "the embedding {word} was trained for text encoders of width {widths}, and {required} are those of {model}: "
        "its name is read as plain text",
        word=word.name,
        widths=listed(_widths(word), " and "),
        required=listed(_hidden_sizes(model), " and "),
        model=model.name,
    )


def _widths(word: "Embedding") -> Mapping[int, Tensor]:
    return {vectors.shape[1]: vectors for vectors in word.vectors}


def _hidden_sizes(model: Diffusion) -> list[int]:
    return [part.encoder.shape.hidden_size for part in model.text]


def _parse_loras(text: str) -> list[LoraRef]:
    """Parses `mine:0.8,other`."""
    try:
        return [LoraRef.read(entry.strip()) for entry in text.split(",") if entry.strip()]
    except ValueError:
        raise CalotypeError("{option:lora} is such as mine:0.8,other, not {text!r}", text=text) from None


def _as_tag(lora: LoraRef) -> str:
    """The LoRA tag of a prompt, with the file name if it was given by a path."""
    path = Path(lora.name)
    return str(replace(lora, name=path.stem) if path.suffix.lower() in ENDINGS else lora)


def _apply_styles(task: Imagine, path: Path) -> tuple[str, str]:
    """Prompt and negative prompt inserted into the styles: in place of {prompt}, or before the style."""
    prompt, negative = task.prompt, task.negative
    names = [name.strip() for name in task.style.split(",") if name.strip()]
    known = styles(path) if names else {}
    for name in names:
        if name not in known:
            there = Message("; write styles into {path}: name,prompt,negative_prompt", path=path)
            if known:
                there = Message("; there are {names}", names=", ".join(known))
            raise CalotypeError(
                "no style is named {name!r}{hint}{there}", name=name, hint=nearest(name, known), there=there
            )
        prompt, negative = (
            _apply_style(style, text) for style, text in zip(known[name], (prompt, negative), strict=True)
        )
    return prompt, negative


def _apply_style(style: str, text: str) -> str:
    if "{prompt}" in style:
        return style.replace("{prompt}", text)
    return ", ".join(item for item in (text.strip(), style.strip()) if item)
