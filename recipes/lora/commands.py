"""The public commands that the recipes are made of: everything is drawn and learnt through them."""

import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drawings import LEARNT, OTHERS, words

STYLES = ("fluent 3d", "fluent flat", "noto", "blob", "twemoji", "firefox", "emojione")  # what the base model knows


@dataclass(frozen=True)
class Line:
    """One line of a list for `calotype imagine --from-file`: `count` pictures, the seed counting up."""

    prompt: str
    seed: int
    count: int = 1

    def __str__(self) -> str:
        return f'--prompt "{self.prompt}" --seed {self.seed} --count {self.count}'


def calotype(*words: object) -> tuple[float, float]:
    """Runs a command, shows it and what it says. Returns its seconds on the clock and on the processors."""
    print("\ncalotype", *words, flush=True)
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "calotype", *map(str, words)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - begun, sum(after[:2]) - sum(before[:2])


def drawn(lines: Sequence[Line], folder: Path, *options: object) -> list[Path]:
    """The pictures of a list, in its order; a folder that has them all is left as it is."""
    wanted = sum(line.count for line in lines)
    if not folder.is_dir() or len(list(folder.glob("*.png"))) != wanted:
        folder.parent.mkdir(parents=True, exist_ok=True)
        told = folder.with_suffix(".txt")
        told.write_text("\n".join(map(str, lines)) + "\n", "utf-8")
        calotype("imagine", "--from-file", told, "-o", folder, *options)
    found = sorted(folder.glob("*.png"))
    if len(found) != wanted:
        sys.exit(f"{folder} has {len(found)} pictures, not {wanted}; delete it and run this again")
    return found


def with_captions(lines: Sequence[Line], folder: Path, *options: object) -> None:
    """Draws a list, and writes each picture's prompt beside it."""
    prompts = [line.prompt for line in lines for _ in range(line.count)]
    for path, prompt in zip(drawn(lines, folder, *options), prompts, strict=True):
        path.with_suffix(".txt").write_text(prompt + "\n", "utf-8")


def regular() -> list[Line]:
    """What holds the rest in place: subjects, none of those that are measured, in every style; plain; and no words."""
    names = [words(name) for name in LEARNT + OTHERS]
    prompts = [f"{name}, {style}" for name in names for style in STYLES] + names
    return [Line(prompt, n) for n, prompt in enumerate(prompts)] + [Line("", 5000, 16)]


def learnt(photos: Path, regular: Path, lora: Path, options: Sequence[object]) -> tuple[Path, str]:
    """The LoRA from photos, beside regularisation pictures, and how long it took."""
    told = lora.with_name("time.txt")
    if not lora.is_file():
        where = ("--output-dir", lora.parent, "--output-name", lora.stem)
        clock, busy = calotype("train", "lora", photos, "--regular", regular, *options, *where)
        told.write_text(f"Training took {clock / 60:.1f} minutes, {busy / 60:.1f} of the processors' time.\n", "utf-8")
    return lora, told.read_text("utf-8")
