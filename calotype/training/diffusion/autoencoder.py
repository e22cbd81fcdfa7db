"""The first stage of latent diffusion (Rombach et al. 2022, section 3.1): training of a KL-VAE on crops.

The loss is L1 with terms for edges and for local colors. At the end a patch discriminator (Isola et al. 2017) is added
with the adaptive weight of VQGAN (Esser et al. 2021, equation 7).
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

from calotype.training.diffusion.networks import Compute, step_generator
from calotype.training.optim.ema import ema_decay_at, update_ema
from calotype.training.run.resume import load_optimizer, weights_under

DISCRIMINATOR_LR = 2e-4
KL_WEIGHT = 1e-4  # weight of the Kullback-Leibler divergence
DISCRIMINATOR_WARMUP = 0.05  # fraction of the steps that the discriminator is trained before its loss is used
CROP_SCALES = (1.0, 1.0, 1.5, 2.0, 0.75)  # size of the cropped region relative to the crop, in turn
EMA_DECAY = 0.999
MAX_PSNR_DROP = 1.5  # dB below the best PSNR; the adversarial loss costs less
BALANCED_LOSSES = ("reconstruction", "adversarial")


class PatchDiscriminator(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> logits of patches, about (N, 1, H / 8, W / 8)."""

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
    """Hyperparameters of the autoencoder's training."""

    steps: int
    batch: int
    lr: float
    seed: int
    adversarial_fraction: float
    adversarial_weight: float

    def __post_init__(self) -> None:
        assert self.steps > 0

    def is_adversarial(self, progress: float) -> bool:
        """Whether the adversarial loss is used; `progress` is that of the stage, 0 to 1."""
        return self.adversarial_weight > 0 and progress >= 1 - self.adversarial_fraction

    def trains_discriminator(self, progress: float) -> bool:
        """Whether the discriminator is trained."""
        fraction = self.adversarial_fraction + DISCRIMINATOR_WARMUP if self.adversarial_fraction else 0.0
        return self.adversarial_weight > 0 and progress >= 1 - fraction


class AutoencoderTrainer:
    """Trains the autoencoder; the randomness of `step(n)` depends only on the seed and n."""

    def __init__(
        self, vae: nn.Module, pixels: Tensor, train_indices: Tensor, compute: Compute, config: AutoencoderConfig
    ):
        """`pixels`: (N, 3, S, S) uint8; `train_indices`: indices of the training images."""
        self.vae, self.pixels, self.train_indices, self.compute, self.config = (
            vae,
            pixels,
            train_indices,
            compute,
            config,
        )
        torch.manual_seed(config.seed)
        self.discriminator = PatchDiscriminator().to(compute.device, memory_format=torch.channels_last)
        self.ema = copy.deepcopy(vae).eval().requires_grad_(False)
        self.best_ema, self.best_psnr = copy.deepcopy(self.ema), -math.inf  # EMA weights with the best PSNR
        parts = [(vae, config.lr, (0.9, 0.99), 1e-4), (self.discriminator, DISCRIMINATOR_LR, (0.5, 0.9), 0.01)]
        groups = [
            {"params": list(part.parameters()), "lr": lr, "betas": betas, "weight_decay": decay}
            for part, lr, betas, decay in parts
        ]
        self.optimizer = torch.optim.AdamW(groups, fused=compute.device.type == "cuda")
        self._encoder, self._decoder = compute.compile(vae.encoder), compute.compile(vae.decoder)

    def step(self, n: int, progress: float) -> tuple[float, dict[str, float]]:
        """Returns the loss, and its terms by name; `progress` may be ahead of n if the time is limited."""
        config, vae, group = self.config, self.vae, self.optimizer.param_groups[0]
        warmup = min(200, config.steps // 10 + 1)
        group["lr"] = config.lr * min(1, (n + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
        generator = step_generator(self.compute.device, config.seed, 2 * n)
        crops = self._crops(n, generator)
        with self.compute.autocast():
            moments = vae.quant_conv(self._encoder(crops))
        mean, variance = moments.float().chunk(2, 1)
        variance = variance.clamp(-20, 10)
        latents = mean + (0.5 * variance).exp() * torch.randn(mean.shape, generator=generator, device=mean.device)
        with self.compute.autocast():
            decoded = self._decoder(vae.post_quant_conv(latents.contiguous(memory_format=torch.channels_last))).float()
        losses = {"reconstruction": reconstruction_loss(decoded, crops), "divergence": kl_divergence(mean, variance)}
        loss = losses["reconstruction"] + KL_WEIGHT * losses["divergence"]
        if config.is_adversarial(progress):
            loss = loss + self._adversarial_loss(decoded, losses)
        loss.backward()
        total = float(
            loss.detach() + 0 * nn.utils.clip_grad_norm_(group["params"], 1.0)
        )  # NaN if a gradient is not finite
        if math.isfinite(total):
            self.optimizer.step()
            update_ema(self.ema, vae, ema_decay_at(EMA_DECAY, n))
        self.optimizer.zero_grad(set_to_none=True)
        if config.trains_discriminator(progress) and math.isfinite(total):
            losses["discriminator"] = self._train_discriminator(crops, decoded.detach())
        return total, {name: float(value.detach()) for name, value in losses.items()}

    def _adversarial_loss(self, decoded: Tensor, losses: dict[str, Tensor]) -> Tensor:
        """The adversarial loss, weighted to match the gradient norm of the reconstruction at the last layer."""
        self.discriminator.requires_grad_(False)
        with self.compute.autocast():
            loss = -self.discriminator(decoded).float().mean()
        self.discriminator.requires_grad_(True)
        last = self.vae.decoder.conv_out.weight
        losses["adversarial"] = loss
        norm, adversarial_norm = (
            torch.autograd.grad(losses[name], last, retain_graph=True)[0].norm() for name in BALANCED_LOSSES
        )
        return self.config.adversarial_weight * (norm / (adversarial_norm + 1e-6)).clamp(0, 1e3).detach() * loss

    def _train_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """One step of the discriminator: hinge loss."""
        with self.compute.autocast():
            real_logits, fake_logits = self.discriminator(real).float(), self.discriminator(fake.to(real)).float()
        loss = F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self.discriminator.parameters()])
        if math.isfinite(float(loss.detach() + norm)):
            self.optimizer.step()  # the autoencoder has no gradients here, so it is unchanged
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _crops(self, n: int, generator: torch.Generator) -> Tensor:
        """(B, 3, C, C) in [-1, 1]: random crops of several scales, with flips, and sometimes contrast and noise."""
        side, rng, device = self.pixels.shape[-1], random.Random(f"{self.config.seed} crop {n}"), self.compute.device
        size = self.compute.crop_size(side)
        extent = min(side, round(size * CROP_SCALES[n % len(CROP_SCALES)]))
        top, left = rng.randint(0, side - extent), rng.randint(0, side - extent)
        picked = torch.randint(0, len(self.train_indices), (self.config.batch,), generator=generator, device=device)
        chosen = self.train_indices[picked.cpu()].to(self.pixels.device)
        x = self.pixels[chosen, :, top : top + extent, left : left + extent].to(device).float() / 127.5 - 1
        if extent != size:
            x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(-1, 1)
        if rng.random() < 0.5:
            x = x.flip(3)
        if n % 7 == 0:
            x = x * rng.uniform(0.4, 1) + rng.uniform(-0.3, 0.3)
            x = x + rng.uniform(0, 0.1) * torch.randn(x.shape, generator=generator, device=device)
        return x.clamp(-1, 1).contiguous(memory_format=torch.channels_last)

    # ------------------------------------------------------------------ state

    STATE_KEYS: Mapping[str, str] = {  # prefix of keys in the state file -> attribute
        "vae": "vae",
        "mean": "ema",
        "expert": "discriminator",
        "good": "best_ema",
    }

    def update_best(self, quality: float) -> bool:
        """Keeps the EMA weights if their PSNR is the best so far; returns False if it is far below the best."""
        if quality >= self.best_psnr:
            self.best_ema, self.best_psnr = copy.deepcopy(self.ema), quality
        return quality >= self.best_psnr - MAX_PSNR_DROP

    def weights(self) -> dict[str, Tensor]:
        state = {
            f"{prefix}.{key}": value
            for prefix, name in self.STATE_KEYS.items()
            for key, value in getattr(self, name).state_dict().items()
        }
        return {**state, "best": torch.tensor(self.best_psnr, dtype=torch.float64)}

    def load(self, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any]) -> None:
        for prefix, name in self.STATE_KEYS.items():
            getattr(self, name).load_state_dict(weights_under(weights, prefix))
        self.best_psnr = float(weights["best"])
        load_optimizer(self.optimizer, optimizer)


def reconstruction_loss(decoded: Tensor, target: Tensor) -> Tensor:
    """L1 + 2 L2 + 0.5 L1 of the image gradients + 0.5 L1 after 4x4 average pooling; chosen on drawings."""
    d = decoded - target
    edges = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    return d.abs().mean() + 2 * d.square().mean() + 0.5 * edges + 0.5 * F.avg_pool2d(d, 4).abs().mean()


def kl_divergence(mean: Tensor, variance: Tensor) -> Tensor:
    """KL divergence from the standard normal distribution, averaged over all elements; `variance` is its logarithm."""
    return 0.5 * (mean.square() + variance.exp() - 1 - variance).mean()


@torch.no_grad()
def normalize_latents(vae: nn.Module, latents: Tensor) -> None:
    """Normalizes each channel of the latents to mean 0 and std 1, by changing `quant_conv` and `post_quant_conv`.

    `scaling_factor` becomes 1, and decoded pictures stay the same. `latents`: (N, C, h, w) of the unchanged VAE.
    """
    count = latents.shape[1]
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3)).clamp(min=1e-6)
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:count] /= std.view(-1, 1, 1, 1)
    into.bias[:count] = (into.bias[:count] - mean) / std
    into.bias[count:] -= 2 * std.log()
    out.bias += (out.weight[:, :, 0, 0] * mean).sum(1)
    out.weight *= std.view(1, -1, 1, 1)
    vae.register_to_config(scaling_factor=1.0)


def psnr(decoded: Tensor, target: Tensor) -> float:
    """PSNR of (N, 3, H, W) uint8 in dB, averaged over pictures."""
    mse = (decoded.float() - target.float()).square().mean((1, 2, 3)).clamp(min=1e-3)
    return float((10 * torch.log10(255**2 / mse)).mean())
