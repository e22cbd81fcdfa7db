"""The war between forger and expert: losses, penalties, augmentation, the forger's running mean."""

import random
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.errors import CalotypeError
from calotype.options import nearest

Expert = Callable[[Tensor], Tensor]  # (N, 3, H, W) in [-1, 1] -> (N,)


def expert_loss(real: Tensor, forged: Tensor) -> Tensor:
    """Relativistic pairing (Jolicoeur-Martineau 2019; R3GAN): each picture, (N,), is to beat the forgery beside it."""
    return F.softplus(forged - real).mean()


def forger_loss(real: Tensor, forged: Tensor) -> Tensor:
    return F.softplus(real - forged).mean()


def penalty(expert: Expert, pictures: Tensor) -> Tensor:
    """Zero-centred gradient penalty (Mescheder, Geiger and Nowozin 2018): R1 on real pictures, R2 on forgeries.

    Args:
        pictures: (N, 3, H, W) float32, as the expert sees them, and so with their augmentation.
    Returns:
        the mean squared length of the verdict's gradient by the picture.
    """
    pictures = pictures.detach().requires_grad_()
    (slope,) = torch.autograd.grad(expert(pictures).sum(), pictures, create_graph=True)
    return slope.square().sum((1, 2, 3)).mean()


def kept(half_life: int, batch: int, seen: int) -> float:
    """How much of the mean stays at a step, from a half-life in pictures; short at the beginning (StyleGAN2-ADA)."""
    return 0.5 ** (batch / max(1e-8, min(half_life, 0.05 * seen)))


# ---------------------------------------------------------------------- DiffAugment: Zhao et al., NeurIPS 2020


def _color(x: Tensor, chance: torch.Generator) -> Tensor:
    """Brightness by up to half of the range's half, saturation 0 to 2 times, contrast 0.5 to 1.5 times."""
    bright, full, steep = torch.rand(3, len(x), 1, 1, 1, generator=chance).to(x)
    x = x + (bright - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * full) + grey
    middle = x.mean((1, 2, 3), keepdim=True)
    return (x - middle) * (steep + 0.5) + middle


def _translation(x: Tensor, chance: torch.Generator, share: float = 0.125) -> Tensor:
    """By up to an eighth of the side; what comes in is grey."""
    side = x.shape[-1]
    most = round(side * share)
    down, right = torch.randint(0, 2 * most + 1, (2, len(x)), generator=chance).to(x.device)
    places = torch.arange(side, device=x.device)
    x = F.pad(x, (most,) * 4).permute(0, 2, 3, 1)
    rows, columns = (down[:, None] + places)[:, :, None], (right[:, None] + places)[:, None]
    return x[torch.arange(len(x), device=x.device)[:, None, None], rows, columns].permute(0, 3, 1, 2)


def _cutout(x: Tensor, chance: torch.Generator, share: float = 0.5) -> Tensor:
    """A square of half the side becomes grey, anywhere, also over the edge."""
    side = x.shape[-1]
    half = round(side * share) // 2
    top, left = torch.randint(0, side + 1, (2, len(x), 1), generator=chance).to(x.device) - half
    places = torch.arange(side, device=x.device)
    rows = (places >= top) & (places < top + 2 * half)
    columns = (places >= left) & (places < left + 2 * half)
    return x * ~(rows[:, :, None] & columns[:, None, :])[:, None]


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}


def augmentations(text: str) -> list[str]:
    """Of "color,translation". Raises CalotypeError for an unknown name."""
    names = [name.strip() for name in text.split(",") if name.strip() and name.strip() != "none"]
    for name in names:
        if name not in AUGMENTATIONS:
            known = ", ".join(AUGMENTATIONS)
            raise CalotypeError(
                "{option:augment} knows no {name}{hint}; there are {known}, and none",
                name=name,
                hint=nearest(name, AUGMENTATIONS),
                known=known,
            )
    return names


def augmented(x: Tensor, names: Iterable[str], chance: torch.Generator) -> Tensor:
    """(N, 3, S, S) in [-1, 1], changed at random; gradients flow through."""
    for name in names:
        x = AUGMENTATIONS[name](x, chance)
    return x


def flipped(x: Tensor, dice: random.Random) -> Tensor:
    """Each picture mirrored, half of the time."""
    picked = torch.tensor([dice.random() < 0.5 for _ in range(len(x))], device=x.device)
    return torch.where(picked[:, None, None, None], x.flip(3), x)
