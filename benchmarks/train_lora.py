"""Steps of LoRA training, side by side with the loop of kohya's sd-scripts on the same network, in one table.

    python benchmarks/train_lora.py [--steps 8] [--rounds 3] [--batch 8] [--large]

"sd-scripts' way" is what its train_network.py does in each step with cached latents and --sdpa, in its order: captions
are tokenised and go through the text encoder, DDPMScheduler makes noisy latents, LoRA modules stand in for the forward
of their layers, accelerate scales and clips, AdamW is PyTorch's default; in float32, and with mixed_precision bf16.
"calotype" is the command as it is; "plain operations" is without what it does for processors (the detours as matrix
products, attention over few tokens written out). Layers, ranks, batches and captions are the same for all.

Every contender works in a process of its own, in turns; its first steps are thrown away. On a machine that others use
too, the processor's seconds tell more than the clock's. `--large` takes a U-Net of SD 1.5's size with random weights at
512 px. Needs transformers and accelerate (pip install '.[test]').
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

RANK, CONV_RANK, PHOTOS = 16, 16, 24
WARM = 2  # steps that are thrown away
CAPTION = "red apple number {}, drawn by hand, on white"


def kohya(precision: str, folder: Path, photos: Path, steps: int, batch: int) -> Iterator[float]:
    """The loop of sd-scripts' train_network.py with `network_train_unet_only`, `cache_latents` and `sdpa`."""
    import torch
    import torch.nn.functional as F
    from accelerate import Accelerator
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor2_0
    from transformers import CLIPTextModel, CLIPTokenizer

    accelerator = Accelerator(mixed_precision=precision, cpu=not torch.cuda.is_available())
    device = accelerator.device
    unet, vae = (
        cls.from_pretrained(folder / part, torch_dtype=torch.float32, local_files_only=True)
        for cls, part in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"))
    )
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32, local_files_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    for part in (unet, vae, text):
        part.requires_grad_(False)
    unet.set_attn_processor(AttnProcessor2_0())
    half = {"bf16": torch.bfloat16}.get(precision, torch.float32)
    for part in (unet, vae, text):
        part.to(device, half if precision != "no" else torch.float32)

    latents = []
    for path in sorted(photos.glob("*.png")):
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.no_grad():
            found = vae.encode(pixels.to(device, vae.dtype)).latent_dist.sample() * vae.config.scaling_factor
        latents.append((found[0].float(), path.with_suffix(".txt").read_text("utf-8")))

    network = torch.nn.ModuleList()
    for name, layer in list(unet.named_modules()):
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)) and (
            ".attentions." in name or any(f".{block}." in name for block in ("resnets", "downsamplers", "upsamplers"))
        ):
            network.append(_stand_in(layer))
    network.to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (steps + 1))
    unet, network, optimizer, falling = accelerator.prepare(unet, network, optimizer, falling)
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    unet.train()

    for step in range(steps):
        begun = time.perf_counter()
        chosen = [latents[(step * batch + n) % len(latents)] for n in range(batch)]
        clean = torch.stack([one for one, _ in chosen]).to(device)
        ids = tokenizer(
            [caption for _, caption in chosen],
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids.to(device)
        with torch.no_grad(), accelerator.autocast():
            states = text(ids).last_hidden_state
        noise = torch.randn_like(clean)
        times = torch.randint(0, scheduler.config.num_train_timesteps, (batch,), device=device).long()
        noisy = scheduler.add_noise(clean, noise, times)
        with accelerator.autocast():
            answer = unet(noisy, times, states).sample
        wanted = noise if scheduler.config.prediction_type == "epsilon" else scheduler.get_velocity(clean, noise, times)
        loss = F.mse_loss(answer.float(), wanted.float(), reduction="none").mean([1, 2, 3]).mean()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        falling.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        yield time.perf_counter() - begun


def _stand_in(layer):
    """A LoRA whose forward takes the place of the layer's, as sd-scripts' LoRAModule.apply_to does it."""
    import torch

    lora = torch.nn.Module()
    if isinstance(layer, torch.nn.Conv2d):
        rank, make = CONV_RANK if layer.kernel_size != (1, 1) else RANK, torch.nn.Conv2d
        lora.down = make(layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding, bias=False)
        lora.up = make(rank, layer.out_channels, 1, bias=False)
    else:
        lora.down = torch.nn.Linear(layer.in_features, RANK, bias=False)
        lora.up = torch.nn.Linear(RANK, layer.out_features, bias=False)
    torch.nn.init.zeros_(lora.up.weight)
    before = layer.forward
    layer.forward = lambda x, *rest, **more: before(x) + lora.up(lora.down(x)) * 1.0 * 1.0  # multiplier, scale
    return lora


def ours(precision: str, quick: bool, folder: Path, photos: Path, steps: int, batch: int) -> Iterator[float]:
    """`calotype train lora`, as its command runs it, with its states on disk."""
    from calotype.engine import Engine
    from calotype.settings import Settings
    from calotype.tasks import Progress, TrainLora
    from calotype.training.lora import attention
    from calotype.training.lora import layers as lora_layers

    if not quick:
        lora_layers.is_supported, attention.MAX_TOKENS = (lambda layer, x: False), 0
    with tempfile.TemporaryDirectory() as out:
        task = TrainLora(
            photos=photos,
            model=str(folder),
            output_dir=Path(out),
            network_train_unet_only=True,
            network_dim=RANK,
            conv_dim=CONV_RANK,
            learning_rate=1e-3,
            lr_scheduler="linear",
            train_batch_size=batch,
            max_train_steps=steps,
            max_token_length=75,
            mixed_precision=precision,
        )
        begun = 0.0
        for told in Engine(Settings.gather({})).run(task):
            now = time.perf_counter()
            if isinstance(told, Progress) and told.what.startswith("steps"):
                if told.done > 1:
                    yield now - begun
                begun = time.perf_counter()
            elif isinstance(told, Progress):
                begun = time.perf_counter()


CONTENDERS: dict[str, Callable[..., Iterator[float]]] = {
    "sd-scripts' way, float32": lambda *rest: kohya("no", *rest),
    "sd-scripts' way, bf16": lambda *rest: kohya("bf16", *rest),
    "calotype, float32": lambda *rest: ours("no", True, *rest),
    "calotype, plain operations": lambda *rest: ours("auto", False, *rest),
    "calotype": lambda *rest: ours("auto", True, *rest),
}


def work(name: str, args: argparse.Namespace, folder: Path, photos: Path) -> None:
    """One contender, in its own process: prints its figures as JSON."""
    if name.startswith("calotype"):  # as the command line does, before torch is imported
        from calotype.cli import threads

        threads.rest()
    times, busy = [], []
    last = time.process_time()
    for seconds in CONTENDERS[name](folder, photos, args.steps + WARM + 1, args.batch):
        now = time.process_time()
        times.append(seconds)
        busy.append(now - last)
        last = now
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"times": times[WARM:], "busy": busy[WARM:], "peak": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=8, help="of each contender in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--only", default=";".join(CONTENDERS), help="contenders, by semicolons")
    parser.add_argument("--work", nargs=3, metavar=("NAME", "MODEL", "PHOTOS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work[0], args, Path(args.work[1]), Path(args.work[2]))
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    size = "SD 1.5's U-Net at 512 px" if args.large else "the shipped model at 256 px"
    print(f"{size}, batch {args.batch}, ranks {RANK} and {CONV_RANK}; {platform.machine()}, {cores} cores\n")
    names = args.only.split(";")
    found: dict[str, dict[str, list[float]]] = {name: {"times": [], "busy": [], "peak": []} for name in names}
    with tempfile.TemporaryDirectory() as place:
        photos, folder = _photos(Path(place), 512 if args.large else 256), _model(Path(place), args.large)
        for _ in range(args.rounds):  # in turns, so that a busy moment of the machine meets all
            for name in names:
                told = _run(name, args, folder, photos)
                found[name]["times"] += told["times"]
                found[name]["busy"] += told["busy"]
                found[name]["peak"].append(told["peak"])
    print(f"{'':28} {'step s':>7} {'least':>7} {'ratio':>6} {'processor s':>12} {'ratio':>6} {'peak GiB':>9}")
    base = [statistics.median(found[names[0]][kind]) for kind in ("times", "busy")]
    for name in names:
        step, busy = (statistics.median(found[name][kind]) for kind in ("times", "busy"))
        print(
            f"{name:28} {step:7.2f} {min(found[name]['times']):7.2f} {base[0] / step:6.2f} {busy:12.2f} "
            f"{base[1] / busy:6.2f} {max(found[name]['peak']):9.2f}"
        )


def _run(name: str, args: argparse.Namespace, folder: Path, photos: Path) -> dict:
    numbers = ["--steps", str(args.steps), "--batch", str(args.batch)]
    done = subprocess.run(
        [sys.executable, __file__, *numbers, "--work", name, str(folder), str(photos)], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{name}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _photos(place: Path, side: int) -> Path:
    """Pictures with captions; their contents don't matter here."""
    folder, dice = place / "photos", np.random.default_rng(0)
    folder.mkdir()
    for n in range(PHOTOS):
        pixels = np.kron(dice.integers(0, 255, (8, 8, 3), np.uint8), np.ones((side // 8, side // 8, 1), np.uint8))
        Image.fromarray(pixels).save(folder / f"{n:02}.png")
        (folder / f"{n:02}.txt").write_text(CAPTION.format(n), "utf-8")
    return folder


def _model(place: Path, is_large: bool) -> Path:
    """The shipped model; or its text encoder and VAE with a U-Net of SD 1.5's size, whose weights are random."""
    from calotype.checkpoints.bundled import shipped

    if not is_large:
        return shipped("emoji")
    import torch
    from diffusers import UNet2DConditionModel

    folder = shutil.copytree(shipped("emoji"), place / "large", ignore=shutil.ignore_patterns("unet"))
    config = json.loads((shipped("emoji") / "unet" / "config.json").read_text("utf-8"))
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=config["cross_attention_dim"], attention_head_dim=8)
    unet = unet.half().to_empty(device="cpu")
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.normal_(0, 0.02) if parameter.dim() > 1 else parameter.fill_(0.5)
    unet.register_to_config(sample_size=64)
    unet.save_pretrained(folder / "unet")
    return folder


if __name__ == "__main__":
    main()
