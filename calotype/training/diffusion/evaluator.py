"""What is seen of a diffusion model while it learns from nothing: reconstructions, losses, samples, its score."""

import copy
from collections.abc import Callable, Iterator, Sequence

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
from calotype.training.diffusion.denoiser import Diffusing
from calotype.training.diffusion.networks import Compute
from calotype.training.diffusion.retrieval import Score, nearest
from calotype.training.monitor.monitor import Monitor
from calotype.training.monitor.samples import Sample, SampleConfig, draw_samples
from calotype.training.monitor.validation import validation_loss

SHEET = 8  # pictures on a sheet of reconstructions
TESTED = 64  # pictures held back with which the losses are measured


class DiffusionEvaluator:
    """Looks at what learns and never changes it; all that it finds goes to the watch."""

    def __init__(
        self,
        task: TrainDiffusion,
        models: Models,
        means: Compute,
        pairs: CaptionedSet,
        places: tuple[Sequence[int], Sequence[int]],
        tokenizer: BpeTokenizer,
        prompts: Sequence[Prompt],
        watch: Monitor,
    ):
        """`places`: of the pictures held back, and of those that are learnt from."""
        self.task, self.models, self.means, self.pairs, (self.held, learnt) = task, models, means, pairs, places
        self.tokenizer, self.prompts, self.watch = tokenizer, prompts, watch
        self.tested = torch.tensor((self.held or learnt)[:TESTED])

    def reconstructed(self, vae: nn.Module, step: int) -> float:
        """Shows pictures as the autoencoder gives them back; how near they are, in dB."""
        quality, true, made = self._given_back(vae)
        self.watch.log_metrics({"psnr/pictures held back" if self.held else "psnr/pictures": quality})
        if self.task.sample_count:
            self._sheet(true, made, f"vae_{step:06d}", "Above the picture, below what the autoencoder keeps", "")
        return quality

    def quality(self, vae: nn.Module) -> float:
        return self._given_back(vae)[0]

    def flat(self) -> float:
        """What it would be if of each picture its mean colour were left."""
        true = self.pairs.pixels[self.tested]
        return autoencoder.psnr(true.float().mean((2, 3), keepdim=True).expand(true.shape), true)

    def sampled(self, learning: Diffusing, vae: nn.Module, done: int) -> Iterator[Progress | Note]:
        """The loss on what is held back, and samples, both by the mean weights."""
        tested = self.held[:TESTED]
        if tested:
            clean = [learning.lessons.mean[n].float().cpu() for n in tested]

            def answer(n: int, x: Tensor, times: Tensor) -> Tensor:
                return learning.validation_answer(tested, n, x, times)

            signals = learning.lessons.signals.cpu()
            loss = validation_loss(clean, answer, learning.loss, signals, diffusing.PREDICTION)
            self.watch.log_validation_loss(loss)
            yield note("step {step}: validation loss {loss:.4f}", step=done, loss=loss)
        if self.prompts:
            task, side = self.task, self.task.resolution
            name, when = f"{task.output_name}_{done:06d}", f"{task.output_name}, step {done}"
            ways, model = SampleConfig((side, side), task.seed), self._model(learning, vae)
            for event in draw_samples(self.prompts, ways, model, self.models, task.output_dir / "sample", name, when):
                if isinstance(event, Sample):
                    self.watch.log_sample(event.path, event.prompt, event.how, event.picture.pixels, event.number)
                else:
                    yield event
        self.watch.write_report()

    def scored(self, learning: Diffusing, vae: nn.Module, remaining: Callable[[], float]) -> Iterator[Progress | Note]:
        """Returns the score of what is held back, None where nothing is; `remaining`: seconds that are left."""
        if not self.held:
            return None
        model, score, lessons = self._model(learning, vae), None, learning.lessons
        held, signals, seed = self.held, lessons.signals.cpu(), self.task.seed
        for score in nearest(model, self.pairs.pairs, held, lessons.mean, signals, seed, remaining):
            if isinstance(score, Progress):
                yield score
        assert isinstance(score, Score)
        true = self.pairs.pixels[torch.tensor(score.places)]
        what = "Never seen: above the true picture, below what is drawn from its caption"
        self._sheet(true, score.drawn, "held_out", what, f"{score.hits} of {score.count} found again")
        self.watch.metrics_log.fact("held out", [score.hits, score.count, round(score.chance, 1)])
        yield note(told(score))
        return score

    @torch.no_grad()
    def _given_back(self, vae: nn.Module) -> tuple[float, Tensor, Tensor]:
        """dB, and the pictures, true and as the VAE gives them back: (N, 3, S, S) uint8."""
        true, made = self.pairs.pixels[self.tested], []
        for some in true.split(16):
            x = (some.to(self.means.device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
            with self.means.autocast():
                y = vae.decode(vae.encode(x).latent_dist.mean).sample.float()
            made.append(((y.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu())
        return autoencoder.psnr(torch.cat(made), true), true, torch.cat(made)

    def _sheet(self, true: Tensor, made: Tensor, name: str, what: str, how: str) -> None:
        rows = [torch.cat(list(some[:SHEET]), 2) for some in (true, made)]  # (3, S, N * S)
        pixels = torch.cat(rows, 1).permute(1, 2, 0).contiguous().numpy()
        folder = self.task.output_dir / "sample"
        make_folder(folder)
        path = folder / f"{self.task.output_name}_{name}.png"
        save(Picture(pixels), path, format="png")
        self.watch.log_sample(path, what, how, pixels, 99)

    def _model(self, learning: Diffusing, vae: nn.Module) -> Diffusion:
        """The mean weights, ready to draw; the run keeps its own."""
        unet, text, own = (copy.deepcopy(one) for one in (learning.unet_mean, learning.text_mean, vae))
        part = TextConditioner(text, self.tokenizer)
        opened = DiffusionCheckpoint(
            self.task.output_name, "", "emoji", unet, own, (part,), diffusing.TRAINING, self.task.resolution
        )
        return Diffusion(opened, self.means.device, self.means.dtype)


def told(score: Score) -> Message:
    return Message(
        "of {count} pictures held back, {hits} as drawn are nearest to the true one among up to 100 of their group (by "
        "chance: {chance:.2g})",
        count=score.count,
        hits=score.hits,
        chance=score.chance,
    )
