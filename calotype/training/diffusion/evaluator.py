"""Evaluation of a diffusion model trained from scratch: reconstructions, validation loss, samples, retrieval score."""

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from calotype.checkpoints.models import Models
from calotype.checkpoints.tokenizer import BpeTokenizer
from calotype.dialects.sd_scripts.prompts import Prompt
from calotype.errors import Message
from calotype.files import make_folder
from calotype.models.diffusion import Diffusion, DiffusionCheckpoint, TextConditioner
from calotype.picture import Picture, save
from calotype.tasks import Note, Progress, TrainDiffusion, note
from calotype.training.data.captioned import CaptionedSet
from calotype.training.diffusion import autoencoder
from calotype.training.diffusion import denoiser as diffusing
from calotype.training.diffusion.denoiser import DenoiserTrainer
from calotype.training.diffusion.networks import Compute
from calotype.training.diffusion.retrieval import Score, retrieval_score
from calotype.training.monitor.monitor import Monitor
from calotype.training.monitor.samples import Sample, SampleConfig, draw_samples
from calotype.training.monitor.validation import validation_loss

SHEET_SIZE = 8  # pictures on a sheet of reconstructions
MAX_VALIDATION = 64  # images for PSNR and validation loss


class DiffusionEvaluator:
    """Evaluates the networks without changing them, and logs to the monitor."""

    def __init__(
        self,
        task: TrainDiffusion,
        models: Models,
        compute: Compute,
        pairs: CaptionedSet,
        indices: tuple[Sequence[int], Sequence[int]],
        tokenizer: BpeTokenizer,
        prompts: Sequence[Prompt],
        monitor: Monitor,
    ):
        """`indices`: of the validation and of the training images."""
        self.task, self.models, self.compute, self.pairs, (self.validation, train) = (
            task,
            models,
            compute,
            pairs,
            indices,
        )
        self.tokenizer, self.prompts, self.monitor = tokenizer, prompts, monitor
        self.inspected = torch.tensor((self.validation or train)[:MAX_VALIDATION])

    def log_reconstructions(self, vae: nn.Module, step: int) -> Iterator[Progress]:
        """Logs a sheet of reconstructions and their PSNR; returns the PSNR."""
        psnr, true, decoded = self._reconstruct(vae)
        self.monitor.log_metrics({"psnr/pictures held back" if self.validation else "psnr/pictures": psnr})
        if self.task.sample_count:
            what = "Above the picture, below what the autoencoder keeps"
            yield self.monitor.sampled([self._save_sheet(true, decoded, f"vae_{step:06d}", what, "")])
        return psnr

    def measure_psnr(self, vae: nn.Module) -> float:
        return self._reconstruct(vae)[0]

    def mean_color_psnr(self) -> float:
        """PSNR of a baseline that reconstructs the mean color of each picture."""
        true = self.pairs.pixels[self.inspected]
        return autoencoder.psnr(true.float().mean((2, 3), keepdim=True).expand(true.shape), true)

    def validate_and_sample(self, trainer: DenoiserTrainer, vae: nn.Module, done: int) -> Iterator[Progress | Note]:
        """Validation loss and samples, both with the EMA weights."""
        validation = self.validation[:MAX_VALIDATION]
        if validation:
            x0 = [trainer.dataset.mean[n].float().cpu() for n in validation]

            def predict(n: int, x: Tensor, timesteps: Tensor) -> Tensor:
                return trainer.validation_prediction(validation, n, x, timesteps)

            sqrt_alphas_cumprod = trainer.dataset.sqrt_alphas_cumprod.cpu()

            def sample_losses(_: int, prediction: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
                return trainer.loss(prediction, target, timesteps)

            loss = validation_loss(x0, predict, sample_losses, sqrt_alphas_cumprod, diffusing.PREDICTION)
            self.monitor.log_validation_loss(loss)
            yield note("step {step}: validation loss {loss:.4f}", step=done, loss=loss)
        if self.prompts:
            task, side = self.task, self.task.resolution
            name, progress = f"{task.output_name}_{done:06d}", f"{task.output_name}, step {done}"
            config, model, sheet = SampleConfig((side, side), task.seed), self._model(trainer, vae), []
            for event in draw_samples(
                self.prompts, config, model, self.models, task.output_dir / "sample", name, progress
            ):
                if isinstance(event, Sample):
                    self.monitor.log_sample(event.path, event.prompt, event.how, event.picture.pixels, event.number)
                    sheet.append(event.picture.pixels)
                else:
                    yield event
            yield self.monitor.sampled(sheet)
        self.monitor.write_report()

    def score(
        self, trainer: DenoiserTrainer, vae: nn.Module, remaining: Callable[[], float]
    ) -> Iterator[Progress | Note]:
        """Returns the retrieval score, or None without validation images; `remaining`: seconds left."""
        if not self.validation:
            return None
        model, result, dataset = self._model(trainer, vae), None, trainer.dataset
        validation, sqrt_alphas_cumprod, seed = self.validation, dataset.sqrt_alphas_cumprod.cpu(), self.task.seed
        for result in retrieval_score(
            model, self.pairs.pairs, validation, dataset.mean, sqrt_alphas_cumprod, seed, remaining
        ):
            if isinstance(result, Progress):
                yield result
        assert isinstance(result, Score)
        true = self.pairs.pixels[torch.tensor(result.indices)]
        what = "Never seen: above the true picture, below what is drawn from its caption"
        self._save_sheet(true, result.pixels, "held_out", what, f"{result.hits} of {result.count} found again")
        self.monitor.metrics_log.fact("held out", [result.hits, result.count, round(result.expected_hits, 1)])
        yield note(score_message(result))
        return result

    @torch.no_grad()
    def _reconstruct(self, vae: nn.Module) -> tuple[float, Tensor, Tensor]:
        """PSNR, the pictures and their reconstructions: (N, 3, S, S) uint8."""
        true, decoded = self.pairs.pixels[self.inspected], []
        for batch in true.split(16):
            x = (batch.to(self.compute.device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
            with self.compute.autocast():
                y = vae.decode(vae.encode(x).latent_dist.mean).sample.float()
            decoded.append(((y.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu())
        return autoencoder.psnr(torch.cat(decoded), true), true, torch.cat(decoded)

    def _save_sheet(self, true: Tensor, decoded: Tensor, name: str, what: str, settings: str) -> np.ndarray:
        """Saves and returns two rows of pictures."""
        rows = [torch.cat(list(pictures[:SHEET_SIZE]), 2) for pictures in (true, decoded)]  # (3, S, N * S)
        pixels = torch.cat(rows, 1).permute(1, 2, 0).contiguous().numpy()
        folder = self.task.output_dir / "sample"
        make_folder(folder)
        path = folder / f"{self.task.output_name}_{name}.png"
        save(Picture(pixels), path, format="png")
        self.monitor.log_sample(path, what, settings, pixels, 99)
        return pixels

    def _model(self, trainer: DenoiserTrainer, vae: nn.Module) -> Diffusion:
        """A model with copies of the EMA weights."""
        unet, text, vae_copy = (copy.deepcopy(network) for network in (trainer.unet_ema, trainer.text_ema, vae))
        conditioner = TextConditioner(text, self.tokenizer)
        checkpoint = DiffusionCheckpoint(
            self.task.output_name, "", "emoji", unet, vae_copy, (conditioner,), diffusing.TRAINING, self.task.resolution
        )
        return Diffusion(checkpoint, self.compute.device, self.compute.dtype)


def score_message(score: Score) -> Message:
    return Message(
        "retrieval score: {hits} of {count} generated validation pictures are closest to the true one, among up to "
        "100 of their group (by chance: {chance:.2g})",
        count=score.count,
        hits=score.hits,
        chance=score.expected_hits,
    )
