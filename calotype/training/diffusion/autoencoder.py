"""The first stage of latent diffusion (Rombach et al. 2022, section 3.1): a KL-VAE, learnt from crops.

Its loss is L1 with what an eye minds most: edges, and colours over some pixels. Then a patch discriminator joins (Isola
et al. 2017), weighed against it as in VQGAN (Esser et al. 2021, equation 7).
"""

import copy
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calotype.training.diffusion.networks import Compute, chance_at, under
from calotype.training.optim.ema import ema_decay_at, update_ema
from calotype.training.run.resume import remembered

DISCRIMINATOR_RATE = 2e-4
DIVERGENCE = 1e-4  # weight of the Kullback-Leibler divergence
EARLY = 0.05  # share of the steps by which the discriminator begins before it counts
SCALES = (1.0, 1.0, 1.5, 2.0, 0.75)  # of the crops, in turn: half of the picture, and how much is brought to that size
DECAY = 0.999
WORSE = 1.5  # dB below its best at which the autoencoder has become far worse; the adversarial loss may cost less
PULLING = ("reconstruction", "adversarial")


class PatchDiscriminator(nn.Module):
    """(N, 3, H, W) in [-1, 1] to a map of how real each part looks, (N, 1, H / 8, W / 8) about."""

    def __init__(self, width: int = 64):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for n in (1, 2):
            layers += [nn.Conv2d(width * n, width * 2 * n, 4, 2, 1), nn.GroupNorm(16, width * 2 * n), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers, nn.Conv2d(width * 4, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@dataclass(frozen=True)
class AutoencoderConfig:
    """How the autoencoder is trained."""

    steps: int
    batch: int
    rate: float
    seed: int
    adversarial_share: float
    adversarial_weight: float

    def __post_init__(self) -> None:
        assert self.steps > 0

    def is_adversarial(self, share: float) -> bool:
        """`share`: how much of the way is behind."""
        return self.adversarial_weight > 0 and share >= 1 - self.adversarial_share

    def is_judged(self, share: float) -> bool:
        """The discriminator learns."""
        last = self.adversarial_share + EARLY if self.adversarial_share else 0.0
        return self.adversarial_weight > 0 and share >= 1 - last


class Autoencoding:
    """The autoencoder while it learns; `step(n)` is one change of its weights, whose chance comes from seed and n."""

    def __init__(self, vae: nn.Module, pixels: Tensor, learnt: Tensor, means: Compute, way: AutoencoderConfig):
        """`pixels`: (N, 3, S, S) uint8; `learnt`: the places of those to learn from."""
        self.vae, self.pixels, self.learnt, self.means, self.way = vae, pixels, learnt, means, way
        torch.manual_seed(way.seed)
        self.expert = PatchDiscriminator().to(means.device, memory_format=torch.channels_last)
        self.mean = copy.deepcopy(vae).eval().requires_grad_(False)
        self.good, self.best = copy.deepcopy(self.mean), -math.inf  # the mean at its best so far, and its dB then
        parts = [(vae, way.rate, (0.9, 0.99), 1e-4), (self.expert, DISCRIMINATOR_RATE, (0.5, 0.9), 0.01)]
        groups = [
            {"params": list(part.parameters()), "lr": rate, "betas": betas, "weight_decay": decay}
            for part, rate, betas, decay in parts
        ]
        self.optimizer = torch.optim.AdamW(groups, fused=means.device.type == "cuda")
        self._encoder, self._decoder = means.quick(vae.encoder), means.quick(vae.decoder)

    def step(self, n: int, share: float) -> tuple[float, dict[str, float]]:
        """The loss, and its parts by name; `share` of the way is behind, more than n steps where time is short."""
        way, vae, group = self.way, self.vae, self.optimizer.param_groups[0]
        warm = min(200, way.steps // 10 + 1)
        group["lr"] = way.rate * min(1, (n + 1) / warm) * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
        chance = chance_at(self.means.device, way.seed, 2 * n)
        crops = self._crops(n, chance)
        with self.means.autocast():
            moments = vae.quant_conv(self._encoder(crops))
        mean, variance = moments.float().chunk(2, 1)
        variance = variance.clamp(-20, 10)
        code = mean + (0.5 * variance).exp() * torch.randn(mean.shape, generator=chance, device=mean.device)
        with self.means.autocast():
            made = self._decoder(vae.post_quant_conv(code.contiguous(memory_format=torch.channels_last))).float()
        told = {"reconstruction": reconstruction(made, crops), "divergence": divergence(mean, variance)}
        loss = told["reconstruction"] + DIVERGENCE * told["divergence"]
        if way.is_adversarial(share):
            loss = loss + self._fooling(made, told)
        loss.backward()
        total = float(loss.detach() + 0 * nn.utils.clip_grad_norm_(group["params"], 1.0))  # NaN where one is none
        if math.isfinite(total):
            self.optimizer.step()
            update_ema(self.mean, vae, ema_decay_at(DECAY, n))
        self.optimizer.zero_grad(set_to_none=True)
        if way.is_judged(share) and math.isfinite(total):
            told["discriminator"] = self._judged(crops, made.detach())
        return total, {name: float(value.detach()) for name, value in told.items()}

    def _fooling(self, made: Tensor, told: dict[str, Tensor]) -> Tensor:
        """The adversarial loss, so weighed that at the last layer it pulls as hard as the reconstruction."""
        self.expert.requires_grad_(False)
        with self.means.autocast():
            fooled = -self.expert(made).float().mean()
        self.expert.requires_grad_(True)
        last = self.vae.decoder.conv_out.weight
        told["adversarial"] = fooled
        pull, own = (torch.autograd.grad(told[name], last, retain_graph=True)[0].norm() for name in PULLING)
        return self.way.adversarial_weight * (pull / (own + 1e-6)).clamp(0, 1e3).detach() * fooled

    def _judged(self, true: Tensor, made: Tensor) -> Tensor:
        """One step of the discriminator: hinge loss."""
        with self.means.autocast():
            real, forged = self.expert(true).float(), self.expert(made.to(true)).float()
        loss = F.relu(1 - real).mean() + F.relu(1 + forged).mean()
        loss.backward()
        slope = nn.utils.get_total_norm([p.grad for p in self.expert.parameters()])
        if math.isfinite(float(loss.detach() + slope)):
            self.optimizer.step()  # the autoencoder has no gradients now, and stays
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _crops(self, n: int, chance: torch.Generator) -> Tensor:
        """(B, 3, C, C) in [-1, 1]: parts of several sizes, some mirrored, now and then with other light and noise."""
        side, dice, device = self.pixels.shape[-1], random.Random(f"{self.way.seed} crop {n}"), self.means.device
        size = self.means.crop(side)
        taken = min(side, round(size * SCALES[n % len(SCALES)]))
        top, left = dice.randint(0, side - taken), dice.randint(0, side - taken)
        places = torch.randint(0, len(self.learnt), (self.way.batch,), generator=chance, device=device)
        chosen = self.learnt[places.cpu()].to(self.pixels.device)
        x = self.pixels[chosen, :, top : top + taken, left : left + taken].to(device).float() / 127.5 - 1
        if taken != size:
            x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(-1, 1)
        if dice.random() < 0.5:
            x = x.flip(3)
        if n % 7 == 0:
            x = x * dice.uniform(0.4, 1) + dice.uniform(-0.3, 0.3)
            x = x + dice.uniform(0, 0.1) * torch.randn(x.shape, generator=chance, device=device)
        return x.clamp(-1, 1).contiguous(memory_format=torch.channels_last)

    # ------------------------------------------------------------------ what is kept

    PARTS = ("vae", "mean", "expert", "good")

    def looked_at(self, quality: float) -> bool:
        """Keeps the mean, whose pictures are so many dB, where it is the best so far; False where it is far worse."""
        if quality >= self.best:
            self.good, self.best = copy.deepcopy(self.mean), quality
        return quality >= self.best - WORSE

    def weights(self) -> dict[str, Tensor]:
        told = {f"{name}.{key}": v for name in self.PARTS for key, v in getattr(self, name).state_dict().items()}
        return {**told, "best": torch.tensor(self.best, dtype=torch.float64)}

    def load(self, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any]) -> None:
        for name in self.PARTS:
            getattr(self, name).load_state_dict(under(weights, name))
        self.best = float(weights["best"])
        remembered(self.optimizer, optimizer)


def reconstruction(made: Tensor, true: Tensor) -> Tensor:
    """L1, twice the square, half of L1 over edges, and over 4x4 pixels: proven on drawings."""
    d = made - true
    edges = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    return d.abs().mean() + 2 * d.square().mean() + 0.5 * edges + 0.5 * F.avg_pool2d(d, 4).abs().mean()


def divergence(mean: Tensor, variance: Tensor) -> Tensor:
    """From the normal distribution, the mean over all numbers; `variance` is its logarithm."""
    return 0.5 * (mean.square() + variance.exp() - 1 - variance).mean()


@torch.no_grad()
def fold(vae: nn.Module, latents: Tensor) -> None:
    """Each channel of the latents gets mean 0 and deviation 1, by the 1x1 convolutions on both sides of the code.

    So `scaling_factor` is 1, and pictures are as before. `latents`: (N, C, h, w), such as the VAE gives them now.
    """
    count = latents.shape[1]
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3)).clamp(min=1e-6)
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:count] /= spread.view(-1, 1, 1, 1)
    into.bias[:count] = (into.bias[:count] - mean) / spread
    into.bias[count:] -= 2 * spread.log()
    out.bias += (out.weight[:, :, 0, 0] * mean).sum(1)
    out.weight *= spread.view(1, -1, 1, 1)
    vae.register_to_config(scaling_factor=1.0)


def psnr(made: Tensor, true: Tensor) -> float:
    """Of (N, 3, H, W) uint8: the mean over pictures, dB."""
    off = (made.float() - true.float()).square().mean((1, 2, 3)).clamp(min=1e-3)
    return float((10 * torch.log10(255**2 / off)).mean())
