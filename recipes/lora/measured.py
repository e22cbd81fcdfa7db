"""How near drawings are to the true ones, in what they show and in how they are drawn; and how far they have moved."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from calotype.checkpoints.models import Models
from calotype.settings import Settings

DARK = 0.25  # a pixel whose brightest channel is below this belongs to a black line or area
PAPER = 0.95  # one whose darkest is above this is white paper
SHADES = 6  # of each channel, in the histogram of colours


class Seen:
    """Pictures through the shipped model's VAE, which training leaves alone, in float32."""

    def __init__(self) -> None:
        self._model = Models(Settings.gather({"device": "cpu", "precision": "float32"})).diffusion("emoji")
        self._grams: list[Tensor] = []
        for block in self._model.vae.encoder.down_blocks:
            block.register_forward_hook(lambda block, given, made: self._grams.append(gram(made)))

    @torch.inference_mode()
    def looked_at(self, paths: Sequence[Path]) -> "Pictures":
        """(N, ...) of all pictures, each looked at once."""
        latents, styles, dark, colours = [], [], [], []
        for path in paths:
            self._grams.clear()
            pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) / 255  # (3, H, W)
            latents.append(self._model.latents(pixels[None])[0])
            styles.append(torch.cat(self._grams, -1)[0])
            dark.append((pixels.amax(0) < DARK).float().mean())
            colours.append(histogram(pixels))
        return Pictures(*map(torch.stack, (latents, styles, dark, colours)))


class Pictures:
    """What is known of N pictures.

    Args:
        latents: (N, C, h, w)
        styles: (N, D), Gram matrices of four levels.
        dark: (N,), shares of black.
        colours: (N, B), histograms of what is not paper.
    """

    def __init__(self, latents: Tensor, styles: Tensor, dark: Tensor, colours: Tensor):
        self._parts = (latents, styles, dark, colours)
        self.latents, self.styles, self.dark, self.colours = self._parts

    def __getitem__(self, which) -> "Pictures":
        return Pictures(*(part[which] for part in self._parts))

    def __len__(self) -> int:
        return len(self.dark)

    def __add__(self, other: "Pictures") -> "Pictures":
        return Pictures(*(torch.cat(pair) for pair in zip(self._parts, other._parts, strict=True)))

    def far(self, other: "Pictures") -> Tensor:
        """(N,): mean squared difference of the latents, whose numbers have a variance of about 1."""
        return (self.latents - other.latents).flatten(1).square().mean(1)

    def unlike(self, other: "Pictures") -> Tensor:
        """(N,): distance of the Gram matrices, as a share of the other's own."""
        return (self.styles - other.styles).norm(dim=1) / other.styles.norm(dim=1)

    def unlike_in_colours(self, other: "Pictures") -> Tensor:
        """(N,): the share of what is not paper that has other colours; 1 where there is nothing."""
        return 1 - torch.minimum(self.colours, other.colours).sum(1)


def nearer(names: Sequence[str], true: Pictures, before: Pictures, after: Pictures) -> tuple[str, float]:
    """A table in Markdown of how far drawings are from the true ones, and the base's mean distance in latents.

    Args:
        true: one picture a name.
        before, after: several a name, one behind the other; a name's figure is their mean.
    """
    seeds = len(before.dark) // len(names)
    each = true[torch.arange(len(names)).repeat_interleave(seeds)]
    figures = [
        measure(each).view(len(names), seeds).mean(1)
        for measure in (before.far, after.far, before.unlike, after.unlike)
    ]  # fmt: skip
    wins = [int((figures[n + 1] < figures[n]).sum()) for n in (0, 2)]
    means = [float(figure.mean()) for figure in figures]
    rows = [_row(name, [float(figure[n]) for figure in figures]) for n, name in enumerate(names)]
    lines = [
        "| not seen in training | latents: base | LoRA | style: base | LoRA |",
        "|---|---|---|---|---|",
        *rows,
        _row("**mean**", means),
        "",
        f"Nearer to the true drawing with the LoRA: **{wins[0]} of {len(names)}** in latents, "
        f"**{wins[1]} of {len(names)}** in style.",
    ]
    return "\n".join(lines), means[0]


def _row(name: str, figures: Sequence[float]) -> str:
    return f"| {name} | {figures[0]:.2f} | {figures[1]:.2f} | {figures[2]:.3f} | {figures[3]:.3f} |"


def moved(groups: Sequence[str], before: Pictures, after: Pictures, far: float) -> str:
    """A table in Markdown of how far pictures without the trigger word are from where they were, seed by seed.

    Args:
        groups: their names, in turn: picture n belongs to groups[n % len(groups)].
        far: the base's mean distance from the true drawings, which is 100 %.
    """
    steps, styles = after.far(before), after.unlike(before)
    rows = [
        f"| {name} | {steps[n :: len(groups)].mean():.3f} | {steps[n :: len(groups)].mean() / far:.1%} "
        f"| {styles[n :: len(groups)].mean():.3f} |"
        for n, name in enumerate(groups)
    ]
    lines = [
        "| without the trigger word | moved in latents | as a share of base to true | moved in style |",
        "|---|---|---|---|",
        *rows,
        f"| **all** | **{steps.mean():.3f}** | **{steps.mean() / far:.1%}** | **{styles.mean():.3f}** |",
    ]
    return "\n".join(lines)


def histogram(pixels: Tensor) -> Tensor:
    """(3, H, W) -> (SHADES^3,), of sum 1: the colours of what is not paper, each shared out to its eight neighbours."""
    drawn = pixels.flatten(1).T  # (H * W, 3)
    drawn = drawn[drawn.amin(1) <= PAPER] * (SHADES - 1)
    low = drawn.floor().clamp(max=SHADES - 2).long()
    counts = torch.zeros(SHADES, SHADES, SHADES)
    for corner in torch.cartesian_prod(*[torch.arange(2)] * 3):
        red, green, blue = (low + corner).T
        counts.index_put_((red, green, blue), (1 - (drawn - low - corner).abs()).prod(1), accumulate=True)
    return counts.flatten() / max(1, len(drawn))


def gram(features: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C * C), of length 1: which features come together, wherever. Gatys et al. 2016."""
    flat = features.flatten(2)
    return torch.nn.functional.normalize((flat @ flat.transpose(1, 2)).flatten(1), dim=1)
