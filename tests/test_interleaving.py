"""Tasks on one engine never find anything of each other: after another one, or in turns with it, step by step, each
ends in what a fresh engine makes of it, bit for bit."""

import dataclasses
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from calotype.checkpoints.open_gan import write as write_gan
from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.models.gan import Generator, Shape
from calotype.models.process_state import isolated
from calotype.outputs.reproduce import task_again
from calotype.outputs.sidecar import StoredRecord
from calotype.record import Film, Record, Result
from calotype.tasks import Imagine, MergeLora, Note, Progress, Restore, TrainGan, TrainLora, TrainUpscaler, Upscale

QUICK, OTHER = "realesr-animevideov3", "realesr-animevideov3-x2"
CLOSED_AFTER = 2  # steps


@pytest.fixture(scope="module")
def files(tmp_path_factory, portrait):
    """The photos, masks, LoRAs and the GAN that the tasks below name."""
    folder = tmp_path_factory.mktemp("files")
    face = Image.fromarray(portrait[:256, 96:352])
    face.resize((96, 96), Image.BOX).save(folder / "face.png")
    deep = np.random.default_rng(0).integers(0, 2**16, (24, 40, 3), np.uint16)
    cv2.imwrite(str(folder / "deep.png"), deep)
    face.resize((64, 64), Image.BOX).save(folder / "start.png")
    Image.fromarray(np.pad(np.full((24, 24), 255, np.uint8), 20)).save(folder / "mask.png")
    save_lora(folder / "hero.safetensors", 0)
    save_lora(folder / "part.safetensors", 1, strange=True)
    save_lora(folder / "foreign.safetensors", 2, width=768)
    torch.manual_seed(0)
    write_gan(folder / "faces.safetensors", Generator(Shape.preset(32, 0.25)), {})
    photos = folder / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for n in range(4):
        pixels = np.zeros((64, 64, 3), np.uint8) + rng.integers(0, 255, 3, np.uint8)
        pixels[16:40, 12 + n : 44] = rng.integers(0, 255, 3)
        Image.fromarray(pixels).save(photos / f"{n}.png")
    return folder


def save_lora(path: Path, seed: int, width: int = 64, strange: bool = False) -> None:
    """`strange`: half of it has no place in the small model."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for block in ("mid_block_attentions_0", *(["mid_block_attentions_9"] if strange else [])):
        for name in ("attn2_to_k", "attn2_to_v"):
            key = f"lora_unet_{block}_transformer_blocks_0_{name}"
            state[f"{key}.lora_down.weight"] = torch.randn(4, width, generator=generator)
            state[f"{key}.lora_up.weight"] = torch.randn(64, 4, generator=generator) * 0.3
            state[f"{key}.alpha"] = torch.tensor(4.0)
    save_file(state, path)


def drawing(**options: Any) -> Imagine:
    return Imagine(
        **{"model": "small", "prompt": "red apple, fluent 3d", "seed": 1, "steps": 2, "size": "64", **options}
    )


Make = Callable[[Path, Path], Any]  # files, folder for results -> task

PICTURES: dict[str, Make] = {
    "restored": lambda files, out: Restore(source=files / "face.png", face_model="faces-v2", upscaler=QUICK),
    "upscaled": lambda files, out: Upscale(source=files / "start.png", model=OTHER, tile=32),
    "upscaled, 16 bits": lambda files, out: Upscale(source=files / "deep.png", model=OTHER),
    "upscaled, another model": lambda files, out: Upscale(source=files / "start.png", model=QUICK),
    "drawn": lambda files, out: drawing(),
    "drawn, two at once": lambda files, out: drawing(count=2, batch=2, sampler="Euler a", noise="a1111"),
    "drawn with a LoRA": lambda files, out: drawing(lora=f"{files / 'hero.safetensors'}:1"),
    "drawn with half a LoRA": lambda files, out: drawing(lora=f"{files / 'part.safetensors'}:0.7"),
    "drawn as a texture": lambda files, out: drawing(tiling=True),
    "drawn in two passes": lambda files, out: drawing(hires=1.5, hires_upscaler=OTHER, hires_strength=0.6),
    "inpainted": lambda files, out: drawing(init=files / "start.png", mask=files / "mask.png", fill="noise"),
    "drawn by a GAN": lambda files, out: Imagine(model=str(files / "faces.safetensors"), seed=3, count=2),
    "closed": lambda files, out: drawing(steps=6, tiling=True, lora=f"{files / 'hero.safetensors'}:1"),
    "failed, LoRA": lambda files, out: drawing(lora=f"{files / 'foreign.safetensors'}:1"),
    "failed, picture": lambda files, out: Restore(source=files / "hero.safetensors", upscaler=QUICK),
}
TRAINING: dict[str, Make] = {
    "learnt, LoRA": lambda files, out: TrainLora(
        photos=files / "photos",
        model="small",
        output_dir=out,
        output_name="mine",
        resolution="64",
        mixed_precision="no",
        network_dim=2,
        network_dropout=0.1,
        learning_rate=1e-3,
        max_train_steps=3,
        gradient_checkpointing=True,
        sample_prompts=f"a cat <lora:{files / 'hero.safetensors'}:1> --w 32 --h 32 --s 2 --d 5",
        sample_every_n_steps=1,
    ),
    "learnt, GAN": lambda files, out: TrainGan(
        photos=files / "photos",
        output_dir=out,
        resolution=32,
        capacity=0.25,
        train_batch_size=4,
        max_train_steps=3,
        snapshots=2,
        mixed_precision="no",
    ),
    "learnt, upscaler": lambda files, out: TrainUpscaler(
        photos=files / "photos",
        output_dir=out,
        model="none",
        network="srvgg",
        num_feat=8,
        num_block=1,
        scale=2,
        gt_size=32,
        batch_size=2,
        l1_steps=1,
        gan_steps=2,
        validate_every=2,
        perceptual="none",
        discriminator_feat=8,
        mixed_precision="no",
    ),
    "merged": lambda files, out: MergeLora(
        loras=[f"{files / 'hero.safetensors'}:1", f"{files / 'part.safetensors'}:0.5"], out=out / "both.safetensors"
    ),
    "closed training": lambda files, out: dataclasses.replace(
        TRAINING["learnt, LoRA"](files, out), sample_prompts=None, sample_every_n_steps=None
    ),
}


class Tasks:
    """Runs of tasks by their names, each with a folder of its own, and what fresh engines make of them."""

    def __init__(self, settings, files: Path, folder: Path, made: dict[str, Make]):
        self.settings, self.files, self.folder, self.made = settings, files, folder, made
        self.count, self._fresh = 0, {}

    def run(self, name: str, engine: Engine) -> Iterator[Any]:
        """What there is to compare of each event, last of the files that were written."""
        self.count += 1
        out = self.folder / str(self.count)
        out.mkdir()
        events, steps = engine.run(self.made[name](self.files, out)), 0
        try:
            for event in events:
                yield from told(event, out)
                steps += isinstance(event, Progress) and event.what.startswith("steps")
                if name.startswith("closed") and steps == CLOSED_AFTER:
                    events.close()
                    break
        except CalotypeError as fault:
            yield "failed", str(fault).replace(str(out), "OUT")
        yield from written(out)

    def fresh(self, name: str) -> list[Any]:
        if name not in self._fresh:
            self._fresh[name] = list(self.run(name, Engine(self.settings)))
        return self._fresh[name]


def told(event: Any, out: Path) -> Iterator[tuple]:
    if isinstance(event, Progress):
        yield event.what, event.done, event.total
    elif isinstance(event, Note):
        text = event.text.replace(str(out), "OUT").partition(" about ")[0]  # what follows is estimated
        yield "note", re.sub(r"<lora:mine[-\d]*", "<lora:mine", text)  # the shelf keeps them apart
    elif isinstance(event, Result):
        picture = event.picture
        yield sha256(picture.pixels.tobytes()), event.record.as_json(), picture.metadata.infotext
    elif isinstance(event, Film):
        yield sha256(b"".join(frame.tobytes() for frame in event.frames)), event.seed


def written(out: Path) -> Iterator[tuple]:
    for path in sorted(out.rglob("*")):
        if path.suffix in (".safetensors", ".pth", ".png") and "state" not in path.name:
            data = path.read_bytes()
            yield str(path.relative_to(out)), sha256(ordered(data) if path.suffix == ".safetensors" else data)


def ordered(data: bytes) -> bytes:
    """A safetensors file without the time of day, its header by name: the library writes metadata in any order."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    for clock in ("ss_training_started_at", "ss_training_finished_at", "modelspec.date"):
        header.get("__metadata__", {}).pop(clock, None)
    return json.dumps(header, sort_keys=True).encode() + data[end:]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def in_turns(runs: dict[str, Iterator[Any]]) -> dict[str, list[Any]]:
    """One step of each after the other, until all have ended."""
    ends, left = {name: [] for name in runs}, dict(runs)
    while left:
        for name, run in list(left.items()):
            try:
                ends[name].append(next(run))
            except StopIteration:
                del left[name]
    return ends


@pytest.fixture(scope="module")
def tasks(small_settings, files, tmp_path_factory):
    return Tasks(small_settings, files, tmp_path_factory.mktemp("results"), PICTURES | TRAINING)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_tasks_one_after_the_other(small_settings, tasks, seed):
    engine, names = Engine(small_settings), list(PICTURES)
    random.Random(seed).shuffle(names)
    for name in names:
        assert list(tasks.run(name, engine)) == tasks.fresh(name), f"{name}, after {names[: names.index(name)]}"


def test_tasks_in_turns(small_settings, tasks):
    engine, names = Engine(small_settings), list(PICTURES)
    random.Random(2).shuffle(names)
    for name, found in in_turns({name: tasks.run(name, engine) for name in names}).items():
        assert found == tasks.fresh(name), name


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_training_among_them(small_settings, tasks, seed):
    engine, names = Engine(small_settings), [*PICTURES, *TRAINING] * 2
    random.Random(seed).shuffle(names)
    for n, name in enumerate(names):
        assert list(tasks.run(name, engine)) == tasks.fresh(name), f"{name}, after {names[:n]}"


@pytest.mark.slow
def test_training_in_turns_with_them(small_settings, tasks):
    engine, names = Engine(small_settings), [*PICTURES, *TRAINING]
    random.Random(6).shuffle(names)
    for name, found in in_turns({name: tasks.run(name, engine) for name in names}).items():
        assert found == tasks.fresh(name), name


def test_what_a_lora_has_no_place_for_is_said_each_time(small_settings, tasks):
    engine, name = Engine(small_settings), "drawn with half a LoRA"
    assert all(list(tasks.run(name, engine)) == tasks.fresh(name) for _ in range(2))


def test_what_these_tests_compare_is_there(tasks):
    """Else equal lists would say nothing."""
    assert any("modules of the LoRA have no place" in str(event) for event in tasks.fresh("drawn with half a LoRA"))
    assert [event[0] for event in tasks.fresh("failed, LoRA")] == ["failed"]
    assert len(tasks.fresh("closed")) == CLOSED_AFTER
    pictures = [event[0] for name in PICTURES for event in tasks.fresh(name) if len(event[0]) == 64]
    assert len(pictures) == len(set(pictures)) == 14


def pictures(engine: Engine, **options: Any) -> list[Result]:
    return [event for event in engine.run(drawing(**options)) if isinstance(event, Result)]


@pytest.mark.slow
def test_a_file_that_has_changed_is_opened_again(small_settings, tmp_path):
    engine, path = Engine(small_settings), tmp_path / "mine.safetensors"
    found = []
    for seed in (0, 1):
        save_lora(path, seed)
        (warm,), (fresh,) = (pictures(each, lora=f"{path}:1") for each in (engine, Engine(small_settings)))
        assert np.array_equal(warm.picture.pixels, fresh.picture.pixels)
        assert warm.record.as_json() == fresh.record.as_json()
        found.append(warm.picture.pixels)
    assert not np.array_equal(*found)


def test_a_file_goes_by_the_name_it_was_asked_for_with(small_settings, small_model, tmp_path):
    engine = Engine(dataclasses.replace(small_settings, home=tmp_path))
    engine.models.store.put("small", small_model, "diffusion")
    save_lora(tmp_path / "file.safetensors", 0)
    engine.models.store.put("hero", tmp_path / "file.safetensors", "lora")
    for lora, name in ((f"{tmp_path / 'file.safetensors'}:1", "file"), ("hero:1", "hero")):
        [made] = pictures(engine, lora=lora)
        assert [model.name for model in made.record.models] == ["small", name]


def test_models_may_be_learnt_with_whoever_opened_them(small_settings, files):
    engine = Engine(small_settings)
    pictures(engine, hires=1.5, hires_upscaler=OTHER, lora=f"{files / 'hero.safetensors'}:1")
    adapter = engine.models.adapter(str(files / "hero.safetensors"))
    tensors = [tensor for own in adapter.modules.values() for tensor in own.values()]
    tensors += [*engine.models.diffusion("small").unet.parameters()]
    assert not any(tensor.is_inference() for tensor in tensors)


def test_threads_and_random_numbers_are_a_runs_own():
    before = torch.get_num_threads()

    def run(seed: int, threads: int) -> Iterator[Any]:
        yield torch.rand(1).item()
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        for _ in range(3):
            yield torch.rand(1).item(), torch.get_num_threads()

    torch.manual_seed(99)
    wanted = torch.rand(2).tolist()
    torch.manual_seed(99)
    first = torch.rand(1).item()
    runs = [[isolated(run(seed, before + seed), torch.device("cpu")) for seed in (1, 2)] for _ in range(2)]
    turns = in_turns(dict(enumerate(runs[0])))
    assert (torch.get_num_threads(), [first, torch.rand(1).item()]) == (before, wanted)
    assert list(turns.values()) == [list(alone) for alone in runs[1]]
    assert turns[0][0] == turns[1][0] and turns[0][1][0] != turns[1][1][0]
    assert [threads for _, threads in turns[1][1:]] == [before + 2] * 3


def test_a_recorded_task_takes_the_face_network_of_then(small_settings, files, monkeypatch):
    """Whatever is the best at hand now; and nothing of it is in the record, whose bytes stay as they were."""
    engine = Engine(small_settings)
    asked = Restore(source=files / "face.png", upscaler="none", scale=1)
    monkeypatch.setattr(engine.models.store, "best_faces", lambda: "faces-v2")
    *_, then = engine.run(asked)
    monkeypatch.undo()
    *_, now = engine.run(asked)
    assert [result.record.models[0].name for result in (then, now)] == ["faces-v2", "faces-v3"]
    stored = StoredRecord(Record.from_json(then.record.as_json()), files / "face.png.json")
    task = task_again(stored, files / "face.png")
    assert task.face_model == "auto" and task.auto_face_model == "faces-v2"
    *_, again = engine.run(task)
    assert np.array_equal(again.picture.pixels, then.picture.pixels)
    assert {**again.record.options, **again.record.computed} == {**then.record.options, **then.record.computed}
    assert "auto_face_model" not in then.record.as_json()
