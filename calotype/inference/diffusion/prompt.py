"""What the person wrote, taken apart: the prompts as they are read, and the LoRAs and learned words they call."""

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torch import Tensor

from calotype.checkpoints.models import Models
from calotype.checkpoints.store import ENDINGS
from calotype.errors import CalotypeError, Message, listed
from calotype.files import read_text
from calotype.models.diffusion import Diffusion
from calotype.ops.prompt import LoraRef, extras
from calotype.options import nearest
from calotype.settings import Settings
from calotype.tasks import Imagine

if TYPE_CHECKING:
    from calotype.checkpoints.lora import Adapter
    from calotype.checkpoints.textual_inversion import Embedding

STYLES_FILE = "styles.csv"
MAX_LETTERS = 1_000_000  # letters of a prompt


@dataclass(frozen=True)
class ParsedPrompt:
    """Prompts without what is called in them."""

    prompt: str
    negative: str
    loras: tuple[LoraRef, ...]
    written: tuple[str, str]  # both prompts with styles and with every LoRA called, as a picture tells of itself
    notes: tuple[Message, ...] = ()

    @classmethod
    def of(cls, task: Imagine, settings: Settings) -> Self:
        """Raises CalotypeError for an unknown style, or an option lora that cannot be read."""
        prompt, negative = _apply_styles(task, settings.home / STYLES_FILE)
        if max(len(prompt), len(negative)) > MAX_LETTERS:
            raise CalotypeError("the prompt is longer than {longest:,} letters; shorten it", longest=MAX_LETTERS)
        option_loras = _parse_loras(task.lora)
        written = " ".join([prompt, *map(_as_tag, option_loras)]).strip(), negative
        prompt, called, unknown = extras(prompt)
        negative, _, also_unknown = extras(negative)
        sentence = "{text} in the prompt is left out: Calotype has only <lora:name:weight>"
        notes = [Message(sentence, text=text) for text in unknown + also_unknown]
        return cls(prompt, negative, tuple(option_loras + called), written, tuple(notes))

    def adapters(self, models: Models) -> "tuple[tuple[Adapter, float, float], ...]":
        """The LoRAs called: each with its strength in the text encoders and in the U-Net, where either is not 0."""
        return tuple((models.adapter(lora.name), lora.text, lora.unet) for lora in self.loras if lora.text or lora.unet)

    def embeddings(self, models: Models) -> "list[Embedding]":
        """The learned words (textual inversion) in the prompts, whatever model they were learned for."""
        text = f"{self.prompt}\n{self.negative}".casefold()
        names = [name for name in models.store.names("embedding") if name.casefold() in text]
        return [models.embedding(name) for name in names if _contains_word(name.casefold(), text)]


def _contains_word(name: str, text: str) -> bool:
    """As a word of its own, not within another one."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def fits(word: "Embedding", model: Diffusion) -> bool:
    """Whether the word was learned for text encoders of the model's widths."""
    return set(_hidden_sizes(model)) <= _widths(word).keys()


def vectors_of(word: "Embedding", model: Diffusion) -> Sequence[Tensor]:
    """One (n, D) tensor for each text encoder, of a word that fits."""
    return [_widths(word)[width] for width in _hidden_sizes(model)]


def misfit_message(word: "Embedding", model: Diffusion) -> Message:
    """What to say of a word that stays a plain word, because it was learned for another kind of model."""
    return Message(
        "the word {word} was learned for text encoders of width {widths}, and {wanted} are those of {model}: it is "
        "read as a plain word",
        word=word.name,
        widths=listed(_widths(word), " and "),
        wanted=listed(_hidden_sizes(model), " and "),
        model=model.name,
    )


def _widths(word: "Embedding") -> Mapping[int, Tensor]:
    return {vectors.shape[1]: vectors for vectors in word.vectors}


def _hidden_sizes(model: Diffusion) -> list[int]:
    return [part.encoder.shape.hidden_size for part in model.text]


def _parse_loras(text: str) -> list[LoraRef]:
    """`mine:0.8,other` as LoRAs."""
    try:
        return [LoraRef.read(entry.strip()) for entry in text.split(",") if entry.strip()]
    except ValueError:
        raise CalotypeError("{option:lora} is such as mine:0.8,other, not {text!r}", text=text) from None


def _as_tag(lora: LoraRef) -> str:
    """As it is called in a prompt: by its name, where it was given by its file."""
    path = Path(lora.name)
    return str(replace(lora, name=path.stem) if path.suffix.lower() in ENDINGS else lora)


def _apply_styles(task: Imagine, path: Path) -> tuple[str, str]:
    """Prompt and negative prompt within the styles: in place of {prompt}, or before it."""
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


def styles(path: Path) -> dict[str, tuple[str, str]]:
    """A1111's styles.csv: name -> (prompt, negative prompt). Raises CalotypeError where it cannot be read."""
    if not os.path.lexists(path):
        return {}
    text = read_text(path)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as fault:
        raise CalotypeError(
            "{path} cannot be read as a table of styles ({fault}); mend or delete it", path=path, fault=fault
        ) from None
    return {
        row["name"]: (row.get("prompt") or row.get("text") or "", row.get("negative_prompt") or "")
        for row in rows
        if row.get("name")
    }
