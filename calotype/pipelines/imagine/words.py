"""What the person wrote, taken apart: the prompts as they are read, and the LoRAs and learned words they call."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from calotype.checkpoints.cache import Models
from calotype.errors import CalotypeError
from calotype.models.diffusion import Diffusion
from calotype.ops.prompt import Extra, extras
from calotype.options import nearest
from calotype.settings import Settings
from calotype.tasks import Imagine

STYLES = "styles.csv"
LONGEST = 1_000_000  # letters of a prompt


@dataclass(frozen=True)
class Words:
    """Prompts without what is called in them."""

    prompt: str
    negative: str
    loras: tuple[Extra, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: Imagine, settings: Settings) -> Self:
        """Raises CalotypeError for an unknown style, or a --lora that cannot be read."""
        prompt, negative = _styled(task, settings.home / STYLES)
        if max(len(prompt), len(negative)) > LONGEST:
            raise CalotypeError(f"the prompt is longer than {LONGEST:,} letters; shorten it")
        prompt, called, unknown = extras(prompt)
        negative, _, more = extras(negative)
        notes = [f"{text} in the prompt is left out: Calotype has only <lora:name:weight>" for text in unknown + more]
        return cls(prompt, negative, tuple(_named(task.lora) + called), tuple(notes))

    def worn(self, models: Models, model: Diffusion) -> tuple[tuple, Callable[[], Callable[[], None]]]:
        """The LoRAs as `Diffusion.wear` takes them."""
        wanted = tuple(lora for lora in self.loras if lora.text or lora.unet)
        return wanted, lambda: models.put_on(wanted, model)

    def called(self, models: Models) -> list[Any]:
        """The learned words (textual inversion) at hand whose names occur in the prompts."""
        text = f"{self.prompt}\n{self.negative}".casefold()
        return [models.embedding(name) for name in models.shelf.names("embedding") if name.casefold() in text]

    def learned(self, models: Models, model: Diffusion) -> Mapping[str, Sequence[Tensor]]:
        """The vectors of each learned word, one (n, D) tensor for each text encoder."""
        widths = [part.encoder.shape.hidden_size for part in model.text]
        return {word.name: _fitting(word, widths, model.name) for word in self.called(models)}

    def used(self, models: Models) -> list[Any]:
        """The LoRAs and learned words, each with name, sha256 and short_hash."""
        return [models.adapter(lora.name) for lora in self.loras if lora.text or lora.unet] + self.called(models)

    def short_hashes(self, models: Models) -> dict[str, str]:
        """As A1111 tells them: `Lora hashes` and `TI hashes`."""
        found = {
            "Lora hashes": [models.adapter(lora.name) for lora in self.loras if lora.text or lora.unet],
            "TI hashes": self.called(models),
        }
        return {key: ", ".join(f"{one.name}: {one.short_hash}" for one in ones) for key, ones in found.items() if ones}


def _fitting(word: Any, widths: list[int], model: str) -> list[Tensor]:
    """Raises CalotypeError for a word that was learned for another kind of model."""
    by_width = {vectors.shape[1]: vectors for vectors in word.vectors}
    if any(width not in by_width for width in widths):
        learned, wanted = (" and ".join(map(str, found)) for found in (by_width, widths))
        raise CalotypeError(
            f"the word {word.name} was learned for text encoders of width {learned}, and those of {model} have "
            f"{wanted}; take a model that it was made for, or leave the word out"
        )
    return [by_width[width] for width in widths]


def _named(text: str) -> list[Extra]:
    """`mine:0.8,other` as LoRAs."""
    try:
        return [Extra.read(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError:
        raise CalotypeError(f"--lora is such as mine:0.8,other, not {text!r}") from None


def _styled(task: Imagine, path: Path) -> tuple[str, str]:
    """Prompt and negative prompt within the styles: in place of {prompt}, or before it."""
    prompt, negative = task.prompt, task.negative
    wanted = [name.strip() for name in task.style.split(",") if name.strip()]
    known = styles(path) if wanted else {}
    for name in wanted:
        if name not in known:
            there = (
                f"; there are {', '.join(known)}"
                if known
                else f"; write styles into {path}: name,prompt,negative_prompt"
            )
            raise CalotypeError(f"no style is named {name!r}{nearest(name, known)}{there}")
        prompt, negative = (_within(style, text) for style, text in zip(known[name], (prompt, negative), strict=True))
    return prompt, negative


def _within(style: str, text: str) -> str:
    if "{prompt}" in style:
        return style.replace("{prompt}", text)
    return ", ".join(part for part in (text.strip(), style.strip()) if part)


def styles(path: Path) -> dict[str, tuple[str, str]]:
    """A1111's styles.csv: name -> (prompt, negative prompt). Raises CalotypeError where it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, csv.Error) as fault:
        raise CalotypeError(f"{path} cannot be read as a table of styles ({fault}); mend or delete it") from None
    return {
        row["name"]: (row.get("prompt") or row.get("text") or "", row.get("negative_prompt") or "")
        for row in rows
        if row.get("name")
    }
