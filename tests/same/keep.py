"""Files that later versions must be able to read: records with their pictures, a LoRA, states of stopped trainings."""

import json
import lzma
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from same import inputs
from same.commands import Command
from same.run import Scratch, facts

CASES = "cases.json"
PACKED = 1_500_000  # bytes; larger states are compressed
PLAIN = "--seed 7 --size 64 --steps 2 --precision float32"
LORA = (
    "train lora in/photos --resolution 64 --min-bucket-reso 32 --bucket-reso-steps 32 --mixed-precision no "
    "--network-dim 1 --network-train-text-encoder-only --learning-rate 0.001 --max-train-steps 4 --save-state-every 2 "
    "--save-precision float -o out/lora"
)
GAN = (
    "train gan in/discs --resolution 32 --capacity 0.05 --train-batch-size 2 --mixed-precision no --snapshots 2 "
    "--max-train-steps 4 --save-state-every 2 -o out/gan"
)
SHORT = "--mixed-precision no --perceptual none --l1-steps 2 --gan-steps 2 --gan-warmup-steps 1 --save-state-every 1"
UPSCALER = (
    f"train upscaler in/sharp {SHORT} --model none --network srvgg --num-feat 8 --num-block 1 --gt-size 32 "
    "--batch-size 1 --discriminator-feat 8 --sample-count 0 -o out/upscaler"
)
RESTORER = (
    f"train restorer in/faces {SHORT} --side 64 --channels 8,8 --blocks 1,1 --codes 4 --batch-size 1 --pieces 16 "
    "--validation-split 0.4 --discriminator-feat 8 --sample-count 0 -o out/restorer"
)
DIFFUSION = (
    "train diffusion in/captioned --resolution 16 --vae-channels 32 --unet-channels 32,32 --text-width 32 "
    "--text-layers 1 --vocab-size 600 --vae-batch-size 2 --train-batch-size 2 --mixed-precision no "
    "--vae-train-steps 2 --max-train-steps 2 --sample-count 0 --validation-split 0.2 --adversarial-share 0 "
    "--save-state-every 1 -o out/diffusion"
)


@dataclass(frozen=True)
class Run:
    """A training that is stopped when so many states have come to their place.

    Attributes:
        stopped_with: more options until then, which a run may change when it goes on.
    """

    line: str
    stop: int
    stopped_with: str = ""


# Diffusion is stopped between its stages, with rates of 0: the optimizer is empty then, and the running means are what
# the networks are, so that the state is small when it is compressed.
RUNS = {
    "lora": Run(LORA, 1),
    "gan": Run(GAN, 1),
    "upscaler": Run(UPSCALER, 3),
    "restorer": Run(RESTORER, 3),
    "diffusion": Run(DIFFUSION, 2, "--vae-learning-rate 0 --learning-rate 0"),
}
RECORDS = {
    "out/restored.png": "restore in/photo.jpg --upscaler realesr-animevideov3 --scale 1.5 --precision float32",
    "out/faces.png": "restore in/pair.png --upscaler none --scale 1 --strength 1,2=0.5 --precision float32",
    "out/enlarged.png": "upscale in/clear.webp --model realesr-animevideov3 --scale 2 --precision float32",
    "out/deep.tif": "upscale in/deep.png --model realesr-animevideov3 --scale 1.3 --tile 24 --precision float32",
    "out/drawn.png": f'imagine "red apple, fluent 3d" {PLAIN} --sidecar',
    "out/inpainted.png": f'imagine "red apple" {PLAIN} --init in/start.png --mask in/mask.png',
    "out/with-lora.png": f'imagine "zkz <lora:out/grandma.safetensors:0.8>" {PLAIN}',
    "out/sheet.png": f'imagine "blue car" {PLAIN} --x steps=1,2',
    "out/forged.png": "imagine --model out/forger.safetensors --seed 3 --precision float32",
}
USED = ("photo.jpg", "pair.png", "clear.webp", "deep.png", "start.png", "mask.png", "photos", "discs", "sharp", "faces")
USED += ("captioned",)


def keep(scratch: Scratch, folder: Path) -> int:
    """Writes `in`, `out`, `ends` and `cases.json` into the folder; what else lies there stays."""
    inputs.make(scratch.folder / "in")
    for name in ("in", "out", "ends"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    told: dict[str, Any] = {"facts": facts(scratch), "records": list(RECORDS)}
    told["facts"] = {name: told["facts"][name] for name in ("commit", "torch", "cpu", "python", "machine")}
    told["runs"] = {name: _stopped(scratch, name, run, folder) for name, run in RUNS.items()}
    out = scratch.folder / "out"
    shutil.copy2(out / "lora" / "lora.safetensors", out / "grandma.safetensors")
    shutil.copy2(out / "gan" / "gan.safetensors", out / "forger.safetensors")
    for name in ("lora", "gan", "upscaler", "restorer"):
        shutil.copy2(out / name / f"{name}.safetensors", folder / "ends" / f"{name}.safetensors")
    for result, line in RECORDS.items():
        _run(scratch, Command(result, f"{line} -o {result}"))
    for path in out.iterdir():
        if path.is_file():
            shutil.copy2(path, folder / "out" / path.name)
    _used(scratch.folder / "in", folder / "in")
    (folder / CASES).write_text(json.dumps(told, indent=1) + "\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{size / 1e6:.1f} MB in {folder}")
    return 0


def _stopped(scratch: Scratch, name: str, run: Run, folder: Path) -> Mapping[str, Any]:
    """Keeps the folder of a run as it was when it was stopped, and takes the run to its end."""
    _run(scratch, Command(name, f"{run.line} {run.stopped_with}", status=130, stop=run.stop))
    left, kept = scratch.folder / "out" / name, folder / "out" / name
    shutil.copytree(left, kept, ignore=shutil.ignore_patterns("report.html"))
    [state] = kept.glob("*.state.safetensors")
    with safe_open(state, "np") as file:
        step = int(file.metadata()["step"])
    if state.stat().st_size > PACKED:
        Path(f"{state}.xz").write_bytes(lzma.compress(state.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
        state.unlink()
    _run(scratch, Command(name, run.line))
    return {"line": run.line, "step": step}


def _run(scratch: Scratch, command: Command) -> None:
    """Raises RuntimeError where it ends otherwise than expected."""
    did = scratch.run(command, scratch.folder / "told" / f"{len(scratch.seen)}")
    print(f"{did['seconds']:6.1f} s  status {did['status']:3}  {command.line}", flush=True)
    if did["status"] != command.status:
        raise RuntimeError(f"status {did['status']}: {command.line}")


def _used(source: Path, target: Path) -> None:
    for name in USED:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, target / name)
        else:
            shutil.copy2(path, target / name)
