"""Stable Diffusion in one file: recognised by its keys, opened offline."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from calotype.checkpoints.layouts import LAYOUTS, UNET, VAE, recognise
from calotype.checkpoints.single import from_openclip, open_unet, open_vae, opened, predicts_v
from calotype.checkpoints.tokens import clip_tokenizer, tokenizer_in
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
    assert recognise(shapes(full[name]), HERE).name == name


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
    layout = recognise(shapes(state), HERE)
    assert layout.name == "sd1-inpaint" and layout.unet["in_channels"] == 9


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"lora_unet_down_blocks_0.lora_down.weight": (4, 320)}, "a LoRA"),
        ({"double_blocks.0.img_attn.qkv.weight": (9, 9)}, "Flux"),
        ({"decoder.conv_in.weight": (512, 4, 3, 3)}, "--vae"),
        ({"body.0.weight": (64, 3, 3, 3)}, "body.0.weight"),
        ({}, "0 tensors"),
    ],
)
def test_something_else_is_named(keys, word):
    with pytest.raises(CalotypeError, match=word):
        recognise(keys, HERE)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_tensor_comes_back_in_its_place(name):
    layout = narrow(name)
    unet, vae, text = modules(layout)
    found = opened(checkpoint(layout), layout, HERE, "x", "0")
    for ours, theirs in (
        (unet, found.unet),
        (vae, found.vae),
        *zip(text, (p.encoder for p in found.text), strict=True),
    ):
        state, other = ours.state_dict(), theirs.state_dict()
        assert state.keys() == other.keys()
        assert all(torch.equal(state[key], other[key]) for key in state)


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

    from calotype.models.text_encoder import TextEncoder, TextShape, classic_names

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
    ours.load_state_dict(classic_names(theirs.state_dict()))
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


def test_a_vae_alone_opens_by_both_namings(tmp_path, monkeypatch):
    layout = narrow("sd1")
    monkeypatch.setattr("calotype.checkpoints.single.vae_config", lambda scale: {**layout.vae, "scaling_factor": scale})
    state = {k: v.clone() for k, v in checkpoint(layout).items() if k.startswith(VAE)}
    _, vae, _ = modules(layout)
    for n, named in enumerate((state, {k.removeprefix(VAE): v for k, v in state.items()}, vae.state_dict())):
        path = tmp_path / f"{n}.safetensors"
        save_file({k: v.contiguous() for k, v in named.items()}, path)
        found = open_vae(path)
        assert all(torch.equal(found.state_dict()[key], value) for key, value in vae.state_dict().items())


def test_v_is_told_from_epsilon_by_trying():
    unet, *_ = modules(narrow("sd2"))
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.constant_(unet.conv_out.bias, 0.4)
    assert not predicts_v(unet)
    torch.nn.init.constant_(unet.conv_out.bias, -1.0)
    assert predicts_v(unet)


TEXTS = [
    "a photo of a cat, déjà vu",
    "猫 在 桌子上",
    "😀👍🏽",
    "don't  can't I'll",
    "123 4.5 (x:1.2)",
    "é e\u0301",
    "ﬁ",
    "",
    "\n\t",
]


def test_words_are_cut_as_transformers_cuts_them(tmp_path):
    from transformers import CLIPTokenizer

    ours = clip_tokenizer()
    ours.inner.save(str(tmp_path / "tokenizer.json"))
    model = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))["model"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges), "utf-8")
    theirs, again = CLIPTokenizer.from_pretrained(tmp_path), tokenizer_in(tmp_path)
    for text in TEXTS:
        wanted = theirs(text, add_special_tokens=False).input_ids
        assert ours.encode(text) == wanted == again.encode(text)
    assert ours.encode("a photo of a cat") == [320, 1125, 539, 320, 2368]  # known of CLIP
    assert (ours.bos, ours.eos, ours.pad, ours.comma) == (49406, 49407, 49407, 267)
    assert clip_tokenizer(pads_with_end=False).pad == 0


def test_a_folder_without_a_tokenizer_is_told(tmp_path):
    with pytest.raises(CalotypeError, match="no tokenizer"):
        tokenizer_in(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CalotypeError, match="damaged"):
        tokenizer_in(tmp_path)
