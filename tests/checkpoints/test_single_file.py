"""Stable Diffusion in one file: recognised by its keys, opened offline."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file

from calotype.checkpoints.key_maps import unet_names, with_prefix_renamed
from calotype.checkpoints.layouts import LAYOUTS, UNET, VAE, detect_layout, ema_name
from calotype.checkpoints.open_diffusion import open_diffusion
from calotype.checkpoints.single_file import (
    build_model,
    from_openclip,
    open_file,
    open_unet,
    open_vae,
    predicts_v,
    with_vae,
)
from calotype.checkpoints.store import Checkpoint
from calotype.checkpoints.unet_blocks import blocks_in, blocks_of, with_blocks
from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError
from tests.checkpoints.originals import checkpoint, modules, narrow

HERE = Path("some.safetensors")


def shapes(state):
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.fixture(scope="module")
def full():
    """Full-size checkpoints without numbers."""
    return {name: checkpoint(layout, "meta") for name, layout in LAYOUTS.items()}


@pytest.mark.parametrize(
    ("name", "unet", "vae", "text"),
    [("sd1", 686, 248, 196), ("sd2", 686, 248, 292), ("sdxl", 1680, 248, 196 + 389), ("sdxl-refiner", 1220, 248, 389)],
)
def test_files_have_the_official_number_of_keys(full, name, unet, vae, text):
    state = full[name]
    counted = [sum(key.startswith(prefix) for key in state) for prefix in (UNET, VAE)]
    assert counted == [unet, vae] and len(state) - sum(counted) == text


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_recognised(full, name):
    assert detect_layout(shapes(full[name]), HERE).name == name


def test_known_keys_of_the_official_file_are_there_with_their_shapes(full):
    """Some that are in every SD 1.x file, as published model listings name them."""
    known = {
        "model.diffusion_model.time_embed.0.weight": (1280, 320),
        "model.diffusion_model.input_blocks.1.1.proj_in.weight": (320, 320, 1, 1),
        "model.diffusion_model.input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight": (1280, 768),
        "model.diffusion_model.output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.11.0.skip_connection.weight": (320, 640, 1, 1),
        "model.diffusion_model.out.2.bias": (4,),
        "first_stage_model.encoder.mid.attn_1.q.weight": (512, 512, 1, 1),
        "first_stage_model.decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
        "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
        "first_stage_model.post_quant_conv.weight": (4, 4, 1, 1),
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (49408, 768),
    }
    state = full["sd1"]
    assert {key: tuple(state[key].shape) for key in known} == known
    assert tuple(full["sd2"]["cond_stage_model.model.transformer.resblocks.23.attn.in_proj_weight"].shape) == (
        3072,
        1024,
    )
    assert tuple(full["sdxl"]["model.diffusion_model.label_emb.0.0.weight"].shape) == (1280, 2816)
    assert tuple(full["sdxl"]["conditioner.embedders.1.model.text_projection"].shape) == (1280, 1280)


def test_an_inpainting_model_is_recognised(full):
    state = full["sd1"] | {UNET + "input_blocks.0.0.weight": torch.empty(320, 9, 3, 3, device="meta")}
    layout = detect_layout(shapes(state), HERE)
    assert layout.name == "sd1-inpaint" and layout.unet["in_channels"] == 9


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        (
            {"lora_unet_down_blocks_0.lora_down.weight": (4, 320)},
            "is a LoRA, not a Stable Diffusion checkpoint; calotype imagine takes it with --lora, or as <lora:name:1>",
        ),
        ({"double_blocks.0.img_attn.qkv.weight": (9, 9)}, "Flux"),
        (
            {"decoder.conv_in.weight": (512, 4, 3, 3)},
            "is a VAE alone, not a Stable Diffusion checkpoint; calotype imagine takes it with --vae",
        ),
        ({"stages.0.0.join.weight": (1,)}, "calotype imagine draws from it"),
        ({"body.0.weight": (64, 3, 3, 3)}, "body.0.weight"),
        ({}, "it has no tensors"),
    ],
)
def test_something_else_is_named(keys, word):
    with pytest.raises(CalotypeError) as caught:
        detect_layout(keys, HERE)
    assert word in WORDING.fill(caught.value)


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_tensor_comes_back_in_its_place(name):
    layout = narrow(name)
    unet, vae, text = modules(layout)
    found = build_model(checkpoint(layout), layout, HERE, "x", "0")
    for ours, theirs in (
        (unet, found.unet),
        (vae, found.vae),
        *zip(text, (p.encoder for p in found.text), strict=True),
    ):
        state, other = ours.state_dict(), theirs.state_dict()
        assert state.keys() == other.keys()
        assert all(torch.equal(state[key], other[key]) for key in state)


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("name", LAYOUTS)
def test_names_are_those_that_diffusers_knows(name):
    """diffusers' own converter finds every tensor of our files where we put it."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

    layout = narrow(name)
    state = checkpoint(layout)
    unet, vae, _ = modules(layout)
    for module, converted in (
        (unet, convert_ldm_unet_checkpoint(dict(state), dict(unet.config))),
        (vae, convert_ldm_vae_checkpoint(dict(state), dict(vae.config))),
    ):
        own = module.state_dict()
        assert own.keys() == converted.keys()
        assert all(torch.equal(own[key], converted[key].reshape(own[key].shape)) for key in own)


@pytest.mark.parametrize("name", ["sd2", "sdxl", "sdxl-refiner"])
def test_openclip_is_converted_as_diffusers_converts_it(name):
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    layout = narrow(name)
    part, state = layout.text[-1], checkpoint(layout)
    width = part.shape.hidden_size
    config = CLIPTextConfig(hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    if part.shape.projection_dim:  # diffusers takes its width for that of the network, as it is in the real files
        assert state[part.prefix + "text_projection"].shape[0] == width
    theirs = convert_open_clip_checkpoint(CLIPTextModelWithProjection(config), dict(state), prefix=part.prefix)
    own = {key.removeprefix(part.prefix): value for key, value in state.items() if key.startswith(part.prefix)}
    ours = from_openclip(own, part)
    assert theirs.keys() <= ours.keys() and len(theirs) > 30
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_openclip_reads_as_transformers_reads_it():
    """The same weights through OpenCLIP's names, and by hand through torch's own attention."""
    layout = narrow("sd2")
    part = layout.text[0]
    _, _, [encoder] = modules(layout)
    state = {
        key.removeprefix(part.prefix): value for key, value in checkpoint(layout).items() if key.startswith(part.prefix)
    }
    named = from_openclip(state, part)
    assert named.keys() == encoder.state_dict().keys()
    layer = "transformer.resblocks.0.attn."
    x = torch.randn(5, 1, part.shape.hidden_size, generator=torch.Generator().manual_seed(1))
    mask = torch.full((5, 5), float("-inf")).triu(1)
    wanted, _ = torch.nn.functional.multi_head_attention_forward(
        *(x, x, x, part.shape.hidden_size, 2, state[layer + "in_proj_weight"], state[layer + "in_proj_bias"]),
        *(None, None, False, 0.0, state[layer + "out_proj.weight"], state[layer + "out_proj.bias"]),
        attn_mask=mask,
        need_weights=False,
    )
    found = encoder.text_model.encoder.layers[0].self_attn(x.transpose(0, 1))
    assert torch.allclose(found[0], wanted[:, 0], atol=1e-6)


def test_the_text_encoder_is_transformers_own():
    from transformers import CLIPTextConfig, CLIPTextModel

    from calotype.models.clip_text import TextEncoder, TextShape, transformers_names

    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        eos_token_id=99,
    )
    theirs = CLIPTextModel(config).eval()
    ours = TextEncoder(TextShape(100, 32, 64, 3, 4)).eval()
    ours.load_state_dict(transformers_names(theirs.state_dict()))
    ids = torch.randint(0, 98, (2, 77))
    with torch.inference_mode():
        told = theirs(ids, output_hidden_states=True)
        states = ours(ours.embed(ids), torch.tensor([5, 7]))
        assert torch.allclose(ours.normalised(states.layers[-1]), told.last_hidden_state, atol=1e-5)
        assert all(
            torch.allclose(a, b, atol=1e-5) for a, b in zip(states.layers[:-1], told.hidden_states, strict=False)
        )


def test_a_missing_tensor_is_named():
    layout = narrow("sd1")
    state = checkpoint(layout)
    del state[UNET + "out.2.bias"]
    with pytest.raises(CalotypeError, match=r"out\.2\.bias"):
        open_unet(state, layout, HERE)


@pytest.mark.many(plain=2)
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({UNET + "label_emb.0.0.weight": torch.zeros(2, 2)}, r"have no place there, first .*label_emb"),
        ({UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(64, 32)}, "1 do not fit"),
        ({"edm_mean": torch.zeros(4)}, "EDM"),
        ({"edm_vpred.sigma_max": torch.tensor(120.0)}, "EDM"),
    ],
)
def test_a_model_of_another_kind_is_told_not_drawn_with(change, word):
    layout = narrow("sd1")
    with pytest.raises(CalotypeError, match=word):
        build_model(checkpoint(layout) | change, layout, HERE, "x", "0")


def test_what_files_hold_besides_the_networks_is_passed_over():
    layout = narrow("sd1")
    prefix = "cond_stage_model.transformer."
    state = {key.replace(f"{prefix}text_model.", prefix): value for key, value in checkpoint(layout).items()}
    state |= {prefix + "embeddings.position_ids": torch.arange(77)[None], "betas": torch.ones(1000)}
    state |= {"model_ema.decay": torch.tensor(1.0), "model_ema.diffusion_modelout2bias": torch.zeros(4)}
    found = build_model(state, layout, HERE, "x", "0")
    assert torch.equal(
        found.text[0].encoder.state_dict()["text_model.final_layer_norm.weight"],
        state[prefix + "final_layer_norm.weight"],
    )
    assert found.unet.conv_out.bias.data_ptr() == state[UNET + "out.2.bias"].data_ptr()  # not a copy, not the average


def saved(state, path):
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def test_a_vae_alone_opens_by_all_namings(tmp_path):
    layout = narrow("sd1")
    state = {k: v.clone() for k, v in checkpoint(layout).items() if k.startswith(VAE)}
    _, vae, _ = modules(layout)
    own, old = vae.state_dict(), {}
    for key, value in own.items():
        for new, before in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            key = key.replace(f".{new}.", f".{before}.")
        old[key] = value
    assert len(old.keys() - own.keys()) == 16
    for n, named in enumerate((state, {k.removeprefix(VAE): v for k, v in state.items()}, own, old)):
        found = open_vae(saved(named, tmp_path / f"{n}.safetensors"), layout.vae).state_dict()
        assert found.keys() == own.keys() and all(torch.equal(found[key], own[key]) for key in own)


def test_another_vae_takes_the_scale_of_the_model(tmp_path):
    """SD's VAEs and SDXL's look alike; the scale belongs to the U-Net that was trained on the latents."""
    layout = narrow("sdxl")
    state = checkpoint(layout)
    path = saved({k: v for k, v in state.items() if k.startswith(VAE)}, tmp_path / "fixed.safetensors")
    assert with_vae(build_model(state, layout, HERE, "x", "0"), path).vae.config.scaling_factor == 0.13025
    other = replace(layout, vae={**layout.vae, "block_out_channels": (32, 32, 32, 32)})
    with pytest.raises(CalotypeError, match=r"fixed\.safetensors does not hold the weights"):
        with_vae(build_model(checkpoint(other), other, HERE, "x", "0"), path)


def test_a_checkpoint_without_a_vae_takes_one_that_is_given(tmp_path, monkeypatch):
    layout = narrow("sd1")
    monkeypatch.setattr("calotype.checkpoints.single_file.detect_layout", lambda shapes, where: layout)
    state = checkpoint(layout)
    vae = saved({k: v for k, v in state.items() if k.startswith(VAE)}, tmp_path / "vae.safetensors")
    bare = saved({k: v for k, v in state.items() if not k.startswith(VAE)}, tmp_path / "bare.safetensors")
    found = open_file(Checkpoint("bare", bare), vae)
    assert torch.equal(found.vae.decoder.conv_in.weight, state[VAE + "decoder.conv_in.weight"])
    with pytest.raises(CalotypeError, match="no VAE in it"):
        open_file(Checkpoint("bare", bare))


def test_a_missing_part_is_named_with_the_option_that_gives_it():
    layout = narrow("sd1")
    state = checkpoint(layout)
    with pytest.raises(CalotypeError) as caught:
        build_model({k: v for k, v in state.items() if not k.startswith(VAE)}, layout, HERE, "x", "0")
    assert WORDING.fill(caught.value) == (
        "some.safetensors has no VAE in it; give one with --vae, or the file that has all parts"
    )
    with pytest.raises(CalotypeError, match="has the U-Net, but no text encoder"):
        build_model({k: v for k, v in state.items() if not k.startswith("cond_stage")}, layout, HERE, "x", "0")


@pytest.mark.slow
@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_numbers_that_are_not_finite_matter_only_where_they_are_used(tmp_path, monkeypatch, bad):
    """`sqrt_recip_alphas_cumprod` of zero-SNR checkpoints ends in infinity; trainers left averages of NaN."""
    layout = narrow("sd1")
    monkeypatch.setattr("calotype.checkpoints.single_file.detect_layout", lambda shapes, where: layout)
    unused = {"sqrt_recip_alphas_cumprod": torch.tensor([1.0, bad])}
    unused["model_ema.diffusion_modelout2bias"] = torch.tensor([bad])
    state = checkpoint(layout)
    assert open_file(Checkpoint("x", saved(state | unused, tmp_path / "x.safetensors"))).unet is not None
    for key in (UNET + "out.2.bias", VAE + "decoder.conv_out.bias"):
        broken = {**state, key: torch.full_like(state[key], bad)}
        with pytest.raises(CalotypeError, match="not finite"):
            open_file(Checkpoint("x", saved(broken, tmp_path / "y.safetensors")))


def test_a_file_with_the_moving_average_alone_is_read(full):
    """Its U-Net is stored as `model_ema.diffusion_model...` without dots, as CompVis' trainer names it."""
    for name, state in full.items():
        averaged = {ema_name(key) if key.startswith(UNET) else key: value for key, value in state.items()}
        assert detect_layout(shapes(averaged), HERE).name == name
    layout = narrow("sd1")
    state = checkpoint(layout)
    averaged = {ema_name(key) if key.startswith(UNET) else key: value for key, value in state.items()}
    assert "model_ema.diffusion_modelinput_blocks11transformer_blocks0attn1to_qweight" in averaged
    averaged["model_ema.decay"] = torch.tensor(0.99)
    found, wanted = (build_model(one, layout, HERE, "x", "0").unet.state_dict() for one in (averaged, state))
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


SGM = "model: {params: {denoiser_config: {params: {scaling_config: {target: sgm.modules.KIND}}}}}"


def with_metadata(state, path, **metadata):
    save_file({key: value.contiguous() for key, value in state.items()}, path, metadata)
    return path


@pytest.mark.many(plain=2)
@pytest.mark.parametrize(
    ("metadata", "config", "keys", "given", "wanted"),
    [
        ({}, "", (), "", "epsilon"),
        ({}, "", ("v_pred",), "", "v_prediction"),
        ({}, "", ("v_pred",), "epsilon", "epsilon"),
        ({"modelspec.prediction_type": "v"}, "", (), "", "v_prediction"),
        ({"modelspec.predict_key": "v"}, "", (), "", "v_prediction"),
        ({"modelspec.prediction_type": "v_prediction"}, "", (), "epsilon", "epsilon"),
        ({"modelspec.prediction_type": "epsilon"}, "", (), "v", "v_prediction"),
        ({"modelspec.prediction_type": "flow"}, "", (), "", "flow_prediction"),
        ({"modelspec.prediction_type": "whatever"}, "", (), "", "epsilon"),
        ({}, "model:\n  params:\n    parameterization: 'v'  # as A1111's\n", (), "", "v_prediction"),
        ({"modelspec.predict_key": "epsilon"}, "model: {params: {parameterization: v}}", (), "", "v_prediction"),
        ({}, SGM.replace("KIND", "VScaling"), (), "", "v_prediction"),
        ({}, SGM.replace("KIND", "EpsScaling"), (), "", "epsilon"),
        ({}, "model: [", (), "", "epsilon"),
        ({}, "!!python/object/apply:os.system ['false']", (), "", "epsilon"),
    ],
)  # fmt: skip
def test_what_a_model_predicts_is_given_or_declared(tmp_path, monkeypatch, metadata, config, keys, given, wanted):
    layout = narrow("sd1")
    monkeypatch.setattr("calotype.checkpoints.single_file.detect_layout", lambda shapes, where: layout)
    path = tmp_path / "x.safetensors"
    with_metadata(checkpoint(layout) | {key: torch.zeros(0) for key in keys}, path, **metadata)
    if config:
        path.with_suffix(".yaml").write_text(config, "utf-8")
    opened = open_diffusion(Checkpoint("x", path), prediction=given or "auto")
    assert opened.training["prediction_type"] == wanted


def test_what_sd_2_declares_goes_before_the_test(tmp_path, monkeypatch):
    layout = narrow("sd2")
    monkeypatch.setattr("calotype.checkpoints.single_file.detect_layout", lambda shapes, where: layout)
    path = with_metadata(checkpoint(layout), tmp_path / "x.safetensors", **{"modelspec.prediction_type": "v"})
    opened = open_diffusion(Checkpoint("x", path))
    assert (opened.training["prediction_type"], opened.native) == ("v_prediction", 768)
    opened = open_diffusion(Checkpoint("x", path), prediction="epsilon")
    assert (opened.training["prediction_type"], opened.native) == ("epsilon", 512)


CROSS, DOWN, UP, UPS = "CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"
DISTILLED = {  # as their configs in diffusers' form describe them
    "SSD-1B": ("sdxl", {"transformer_layers_per_block": [1, 2, 4], "mid_block_type": "UNetMidBlock2D",
                        "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1]}),
    "Segmind Vega": ("sdxl", {"transformer_layers_per_block": [1, 1, 2], "mid_block_type": "UNetMidBlock2D",
                              "reverse_transformer_layers_per_block": [[2, 2, 2], 1, 1]}),
    "KOALA 700M": ("sdxl", {"transformer_layers_per_block": [1, 2, 5], "mid_block_type": None, "layers_per_block": 1}),
    "BK-SDM base": ("sd1", {"layers_per_block": 1}),
    "BK-SDM small": ("sd1", {"layers_per_block": 1, "mid_block_type": None}),
    "BK-SDM tiny": ("sd1", {"layers_per_block": 1, "mid_block_type": None, "block_out_channels": (320, 640, 1280),
                            "down_block_types": [CROSS] * 3, "up_block_types": [UP] * 3}),
    "BK-SDM 2 small": ("sd2", {"layers_per_block": 1, "mid_block_type": None}),
}  # fmt: skip


@pytest.mark.many(plain=3)
@pytest.mark.parametrize("name", DISTILLED)
def test_distilled_models_with_fewer_blocks_are_read(name):
    base, change = DISTILLED[name]
    layout = replace(LAYOUTS[base], unet={**LAYOUTS[base].unet, **change})
    with torch.device("meta"):
        wanted = UNet2DConditionModel.from_config(dict(layout.unet)).state_dict()
    names = unet_names(layout.unet)
    state = {UNET + with_prefix_renamed(key, names): value for key, value in wanted.items()}
    found = detect_layout(shapes(state), HERE)
    assert found.name == f"{base} with other blocks" and found.family == base and found.text == LAYOUTS[base].text
    with torch.device("meta"):
        again = UNet2DConditionModel.from_config(dict(found.unet))
    assert {key: value.shape for key, value in again.state_dict().items()} == {k: v.shape for k, v in wanted.items()}
    heads = {"sd1": 8, "sd2": (5, 10, 20, 20), "sdxl": (5, 10, 20)}
    assert again.config.attention_head_dim == heads[base]


def test_a_distilled_model_answers_as_the_one_that_was_saved():
    layout = narrow("sdxl")
    change = {"transformer_layers_per_block": [1, 2, 3], "mid_block_type": "UNetMidBlock2D",
              "reverse_transformer_layers_per_block": [[3, 2, 4], [2, 1, 1], 1]}  # fmt: skip
    distilled = replace(layout, unet={**layout.unet, **change})
    unet, *_ = modules(distilled)
    state = checkpoint(distilled)
    blocks = blocks_of(shapes(state), UNET)
    assert (blocks.down, blocks.middle) == (((0, 0), (2, 2), (3, 3)), 0)
    assert blocks.up == ((0, 0, 0), (2, 1, 1), (3, 2, 4))
    opened = open_unet(state, replace(layout, unet=with_blocks(layout.unet, blocks)), HERE)
    x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 64)
    more = {"text_embeds": torch.randn(1, 64), "time_ids": torch.ones(1, 6)}
    with torch.inference_mode():
        found, wanted = (one(x, torch.tensor(9), text, added_cond_kwargs=more).sample for one in (opened, unet))
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_usual_blocks_are_those_of_the_layout(full, name):
    assert blocks_of(shapes(full[name]), UNET) == blocks_in(LAYOUTS[name].unet)


def answering(unet, value):
    """A U-Net that gives `value` everywhere."""
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.constant_(unet.conv_out.bias, value)
    return unet


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.float8_e4m3fn])
def test_v_is_told_from_epsilon_by_trying(kind):
    unet, *_ = modules(narrow("sd2"))
    assert not predicts_v(answering(unet, 0.4).to(kind))
    assert predicts_v(answering(unet.float(), -1.0).to(kind))


def test_v_is_told_where_half_precision_overflows():
    unet, *_ = modules(narrow("sd2"))
    torch.nn.init.constant_(unet.mid_block.resnets[0].conv1.bias, 6e4)
    torch.nn.init.constant_(unet.mid_block.resnets[0].time_emb_proj.bias, 6e4)
    unet = answering(unet, -1.0).half()
    x, words = torch.full((1, 4, 8, 8), 0.5).half(), torch.full((1, 2, 64), 0.5).half()
    assert not torch.isfinite(unet(x, torch.tensor(999), words).sample).all()
    assert predicts_v(unet) and unet.dtype == torch.float16


def test_the_inpainting_model_of_sd_2_predicts_the_noise():
    layout = narrow("sd2")
    layout = replace(layout, unet={**layout.unet, "in_channels": 9})
    state = checkpoint(layout)
    state[UNET + "out.2.weight"] = torch.zeros_like(state[UNET + "out.2.weight"])
    state[UNET + "out.2.bias"] = torch.full((4,), -5.0)
    assert build_model(state, layout, HERE, "x", "0").training["prediction_type"] == "epsilon"
