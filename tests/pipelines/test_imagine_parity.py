"""Checkpoints of the official layouts, drawn by our loop and by diffusers' own pipelines: equal within 1e-4.

The weights are random, because the real ones may not be copied here; keys, shapes and configs are the official ones
(narrow in width, except in the slow test).
"""

import json

import pytest
import torch
from safetensors.torch import save_file

from calotype.checkpoints.layouts import LAYOUTS, Layout
from calotype.checkpoints.single_file import build_model, open_file
from calotype.checkpoints.store import Checkpoint
from calotype.checkpoints.tokenizer import clip_tokenizer
from calotype.engine import Engine
from calotype.models.diffusion import Diffusion
from calotype.record import Result
from calotype.settings import Settings
from calotype.tasks import Imagine
from tests.checkpoints.originals import checkpoint, modules, narrow

PROMPT, NEGATIVE = "a red (fox) in the snow", "blue"
SAMPLERS = [("Euler", "uniform"), ("DPM++ 2M", "karras"), ("DDIM", "ddim")]
transformers = pytest.importorskip("transformers")


def tokenizer(folder):
    """CLIP's, as transformers has it."""
    clip_tokenizer().inner.save(str(folder / "tokenizer.json"))
    model = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges), "utf-8")
    (folder / "tokenizer.json").unlink()
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def text_encoder(ours, layers: int, projects: bool = False):
    """transformers' network with our weights; `layers` of them, as diffusers cuts SD 2.x's."""
    shape = ours.shape
    config = transformers.CLIPTextConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=shape.num_attention_heads,
        hidden_act=shape.hidden_act,
        projection_dim=shape.projection_dim or 512,
        bos_token_id=49406,
        eos_token_id=49407,
    )
    cls = transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel
    made = cls(config).eval()
    wanted = made.state_dict()
    state = {
        (key if key in wanted else key.removeprefix("text_model.")): value for key, value in ours.state_dict().items()
    }
    made.load_state_dict({key: value for key, value in state.items() if key in wanted}, strict=True)
    return made


def theirs(layout: Layout, folder, scheduler=None):
    """diffusers' pipeline on the same weights."""
    import diffusers

    unet, vae, text = modules(layout)
    words = tokenizer(folder)
    common = {"vae": vae, "unet": unet, "scheduler": scheduler, "tokenizer": words}
    if layout.family == "sdxl":
        return diffusers.StableDiffusionXLPipeline(
            **common,
            text_encoder=text_encoder(text[0], 3),
            text_encoder_2=text_encoder(text[1], 3, projects=True),
            tokenizer_2=padded(folder),
            add_watermarker=False,
        )
    if layout.family == "sd2":
        common["tokenizer"] = padded(folder)
    cut = 2 if layout.family == "sd2" else 3  # SD 2.x takes the last layer but one
    parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return diffusers.StableDiffusionPipeline(**common, text_encoder=text_encoder(text[0], cut), **parts)


def padded(folder):
    """OpenCLIP pads with token 0, which is "!"."""
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token="!")


def opened(layout: Layout, folder):
    """An engine that has a file of this layout open, and the file."""
    path = folder / "model.safetensors"
    save_file({key: value.contiguous() for key, value in checkpoint(layout).items()}, path)
    engine = Engine(Settings.gather({"home": folder / "home", "precision": "float32", "device": "cpu"}, environ={}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calotype.checkpoints.single_file.detect_layout", lambda shapes, where: layout)
        engine.models.diffusion(str(path))
    return engine, path


def drawn(engine, path, monkeypatch, negative=NEGATIVE, **options):
    """Our pipeline's pixels, (1, 3, H, W) in [0, 1]."""
    made, keep = [], Diffusion.decode
    monkeypatch.setattr(
        Diffusion, "decode", lambda self, latents, tiles=False: (made.append(keep(self, latents, tiles)), made[-1])[1]
    )
    task = Imagine(prompt=PROMPT, negative=negative, model=str(path), seed=3, size="64", **options)
    results = [step for step in engine.run(task) if isinstance(step, Result)]
    assert results[0].picture.pixels.shape == (64, 64, 3)
    return made[0]


@pytest.fixture(scope="module", params=["sd1", "sd2", "sdxl"])
def both(request, tmp_path_factory):
    """A file of each layout in an engine of ours, and in diffusers' pipeline."""
    folder, layout = tmp_path_factory.mktemp(request.param), narrow(request.param)
    pipe = theirs(layout, folder)
    pipe.set_progress_bar_config(disable=True)
    return *opened(layout, folder), pipe


@pytest.mark.many(plain=1)
@pytest.mark.parametrize(
    ("sampler", "schedule", "negative"), [*((*one, NEGATIVE) for one in SAMPLERS), (*SAMPLERS[0], "")]
)
def test_a_file_of_each_layout_draws_what_diffusers_draws(both, monkeypatch, sampler, schedule, negative):
    from calotype.inference.diffusion.schedulers import make_scheduler
    from calotype.samplers import sampler_named

    engine, path, pipe = both
    options = {"steps": 3, "guidance": 5.0, "sampler": sampler, "schedule": schedule, "emphasis": "ignore"}
    found = drawn(engine, path, monkeypatch, negative, **options)
    training = engine.models.diffusion(str(path)).training
    pipe.scheduler = make_scheduler(*sampler_named(sampler, schedule), 3, training)
    picture = pipe(
        prompt=PROMPT.replace("(", "").replace(")", ""),
        negative_prompt=negative or None,
        num_inference_steps=3,
        guidance_scale=5.0,
        height=64,
        width=64,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
    ).images
    assert found.std() > 0.01
    assert (found - picture).abs().max() < 1e-4


def test_an_inpainting_model_takes_its_nine_channels(tmp_path, monkeypatch):
    import numpy as np
    from PIL import Image

    layout = narrow("sd1")
    layout = Layout(**{**vars(layout), "name": "sd1-inpaint", "unet": {**layout.unet, "in_channels": 9}})
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.eye(64, dtype=np.uint8) * 255).save(tmp_path / "m.png")
    options = {"init": tmp_path / "a.png", "mask": tmp_path / "m.png", "strength": 1.0, "steps": 2}
    engine, path = opened(layout, tmp_path)
    drawn(engine, path, monkeypatch, **options)
    assert engine.models.diffusion(str(path)).is_inpainting


def test_a_v_model_of_novelais_is_known_by_its_marks(tmp_path):
    layout = narrow("sdxl")
    state = checkpoint(layout) | {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    made = build_model(state, layout, tmp_path, "x", "0")
    assert made.training["prediction_type"] == "v_prediction" and made.training["rescale_betas_zero_snr"]


@pytest.mark.slow
def test_stable_diffusion_1_in_full_size(tmp_path):
    """A file of 2.1 GB in float16 with all 1,130 keys: recognised, opened as diffusers opens it, and drawn with."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    layout = LAYOUTS["sd1"]
    state = {}
    generator = torch.Generator().manual_seed(0)
    for key, value in checkpoint(layout, "meta").items():
        spread = 0.02 if value.dim() > 1 else 0.0
        plain = 1.0 if value.dim() == 1 and key.endswith("weight") else 0.0
        state[key] = (torch.randn(value.shape, generator=generator) * spread + plain).half()
    path = tmp_path / "v1-5-random.safetensors"
    save_file(state, path)
    assert len(state) == 1130 and path.stat().st_size > 2.0e9
    found = open_file(Checkpoint("random", path))
    assert found.family == "sd1" and found.native == 512
    converted = convert_ldm_unet_checkpoint(dict(state), dict(found.unet.config))
    own = found.unet.state_dict()
    assert own.keys() == converted.keys()
    assert all(torch.equal(own[key], converted[key].reshape(own[key].shape)) for key in own)
    del state, converted, own
    engine = Engine(Settings.gather({"home": tmp_path / "home", "device": "cpu"}, environ={}))
    task = Imagine(prompt="a fox", model=str(path), steps=2, size="128", seed=1)
    [made] = [step for step in engine.run(task) if isinstance(step, Result)]
    assert made.picture.pixels.shape == (128, 128, 3)
    assert "Model: v1-5-random" in made.picture.metadata.infotext
