"""Every trainer as a job: its plan, its figures and samples as it goes, its files, a stop and a continuation."""

import io

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from PIL import Image

from calotype.api.orders import read_order
from calotype.api.shown import learning_view
from calotype.checkpoints.names import allowed_names
from calotype.engine import Engine
from calotype.worker.worker import Worker
from calotype.worker.worker_options import WorkerOptions

NETWORK = {"batch_size": 2, "discriminator_feat": 8, "mixed_precision": "no", "perceptual": "none", "gan_steps": 2}
NETWORK |= {"l1_steps": 2, "gan_warmup_steps": 0, "validation_split": 0.4, "sample_count": 1}
UPSCALER = NETWORK | {"model": "none", "network": "srvgg", "num_feat": 16, "num_block": 2, "gt_size": 64}
RESTORER = NETWORK | {"side": 64, "channels": "8,16", "blocks": "1,1", "codes": 8, "identity_weight": 0, "pieces": 16}
REPAIRER = {"channels": "4,4", "patch_size": 64, "train_batch_size": 2, "max_train_steps": 4, "validate_every": 2}
DIFFUSION = {"resolution": 32, "vae_channels": "32,32", "unet_channels": "32,32", "text_width": 32, "text_layers": 1}
DIFFUSION |= {"vocab_size": 600, "vae_batch_size": 2, "train_batch_size": 4, "mixed_precision": "no"}
DIFFUSION |= {"vae_train_steps": 2, "max_train_steps": 2, "sample_count": 1}
LORA = {"model": "small", "max_train_steps": 4, "network_dim": 2, "resolution": "64", "min_bucket_reso": 64}
LORA |= {"sample_every_n_steps": 2}
GAN = {"resolution": 32, "capacity": 0.1, "max_train_steps": 4, "train_batch_size": 2, "snapshots": 3}
TASKS = {  # options, and the names of the results
    "train_lora": (LORA, ["lora.safetensors", "report.html"]),
    "train_gan": (GAN, ["gan.safetensors", "gan.gif", "report.html"]),
    "train_upscaler": (UPSCALER, ["upscaler.safetensors", "report.html"]),
    "train_restorer": (RESTORER, ["restorer.safetensors", "report.html"]),
    "train_repairer": (REPAIRER, ["repairer.safetensors", "report.html"]),
    "train_diffusion": (DIFFUSION, ["diffusion.zip", "report.html"]),
}
SIDE = {"train_restorer": 64}


@pytest.fixture
def worker(store, small_settings):
    return Worker(store, Engine(small_settings), WorkerOptions(min_free=0.0, poll=0.05, progress_every=0.0), "w")


def submit(store, settings, kind, **more):
    """As the API takes it: checked, with photos and captions as uploads."""
    refs = []
    for number in range(8):
        side, file = SIDE.get(kind, 96), io.BytesIO()
        Image.radial_gradient("L").rotate(40 * number).resize((side, side)).convert("RGB").save(file, "PNG")
        for content, name in ((file.getvalue(), f"fox {number}.png"), (b"a red fox", f"fox {number}.txt")):
            refs.append(f"{store.upload('ann', io.BytesIO(content)).id}/{name}")
    data = {"kind": kind, "task": {**TASKS[kind][0], **more}, "files": {"photos": refs}}
    order = read_order(data, allowed_names(settings))
    return store.submit("ann", order.kind, order.task, files=order.files)


@pytest.mark.parametrize("kind", TASKS)
def test_a_training_tells_its_losses_and_samples_and_leaves_its_files(kind, store, worker, small_settings):
    job = submit(store, small_settings, kind)
    assert worker.run_next()
    job = store.get(job.id)
    assert job.state == "done", job.error
    names = [result.name for result in job.results]
    assert [name for name in names if not name.endswith((".mp4", ".pth"))] == TASKS[kind][1]
    told = learning_view(store, job)
    assert [step for step, _ in told.losses] == [1, 2, 3, 4]
    assert told.notes and any(note.step is None for note in told.notes)
    assert len(told.samples) >= 2 and told.samples[-1].step == 4
    for sample in told.samples:
        with Image.open(store.files.sample(job.id, sample.step)) as sheet:
            assert sheet.format == "JPEG" and max(sheet.size) <= 1024


@pytest.mark.parametrize("kind", TASKS)
def test_a_plan_trains_nothing(kind, store, worker, small_settings):
    job = submit(store, small_settings, kind, dry_run=True)
    assert worker.run_next()
    job = store.get(job.id)
    told = learning_view(store, job)
    assert (job.state, job.results, told.losses, told.samples) == ("done", (), [], [])
    assert told.notes
