"""Every program's names lead to the same modules, and every program's way of telling alpha to the same strength."""

import re

import pytest
import torch

from calotype.checkpoints.key_maps import unet_names, with_prefix_renamed
from calotype.checkpoints.lora import attach, read_adapter, read_folder
from calotype.checkpoints.lora.formats import to_kohya
from calotype.checkpoints.lora.keys import layers_of
from calotype.errors import CalotypeError
from tests.checkpoints.originals import modules, narrow
from tests.checkpoints.test_lora import answer, digest, kohya, written


@pytest.fixture(scope="module")
def small():
    """A narrow SD 1.x: its U-Net and text encoder."""
    unet, _, text = modules(narrow("sd1"))
    return unet.requires_grad_(False), [encoder.requires_grad_(False) for encoder in text]


def renamed(state, way):
    """The same LoRA by another program's names."""
    roles = {"lora_down": "lora_A", "lora_up": "lora_B"}
    found = {}
    for key, value in state.items():
        module, _, rest = key.partition(".")
        part, name = ("unet", DOTTED[module]) if "unet" in module else ("text_encoder", DOTTED[module])
        role = rest.removesuffix(".weight")
        if way == "diffusers":
            found[f"{part}.{name}.{roles[role]}.weight" if role in roles else f"{part}.{name}.alpha"] = value
        elif way == "peft" and part == "unet":
            found[f"base_model.model.{name}.{roles[role]}.default.weight" if role in roles else f"{name}.alpha"] = value
        elif way == "old" and part == "unet" and "attn" in name and role in roles:
            block, _, layer = name.partition("attn")
            number, _, layer = layer.partition(".")
            layer = layer.removesuffix(".0")
            found[
                f"unet.{block}attn{number}.processor.{layer}_lora.{'down' if role == 'lora_down' else 'up'}.weight"
            ] = value
    return found


DOTTED: dict[str, str] = {}


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("way", ["diffusers", "peft", "old"])
def test_every_naming_is_the_same(small, tmp_path, way):
    unet, text = small
    state = {
        key: value for key, value in kohya(unet, text).items() if "attn" in key and "unet" in key and "alpha" not in key
    }
    DOTTED.update({f"lora_unet_{name.replace('.', '_')}": name for name, _ in unet.named_modules()})
    with attach([(read_adapter(written(tmp_path / "a.safetensors", state)), 1.0, 1.0)], unet, text):
        wanted = answer(unet)
    with attach(
        [(read_adapter(written(tmp_path / "b.safetensors", renamed(state, way))), 1.0, 1.0)], unet, text
    ) as found:
        assert not found.unfit
        assert torch.equal(answer(unet), wanted)


def test_the_originals_block_names_are_known(small, tmp_path):
    """As kohya names SDXL's modules."""
    unet, text = small
    state = kohya(unet, text)
    part = "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    one = {key: value for key, value in state.items() if key.startswith(f"lora_unet_{part}.")}
    theirs = {key.replace("down_blocks_1_attentions_0_", "input_blocks_4_1_"): value for key, value in one.items()}
    answers = []
    for n, own in enumerate((one, theirs)):
        with attach([(read_adapter(written(tmp_path / f"{n}.safetensors", own)), 1.0, 1.0)], unet, text):
            answers.append(answer(unet))
    assert torch.equal(*answers) and not torch.equal(answers[0], answer(unet))


def linear(name, out, inputs, value=0.1):
    """A LoRA of rank 1 that adds `value` to every weight of a layer."""
    return {f"{name}.lora_down.weight": torch.full((1, inputs), value), f"{name}.lora_up.weight": torch.ones(out, 1)}


@pytest.mark.parametrize("text_model", ["text_model_", ""])
def test_kohyas_names_of_text_encoders(tmp_path, text_model):
    """`lora_te_` of SD 1.x and 2.x; `lora_te1_` and `lora_te2_` of SDXL. transformers 5 writes no `text_model`."""
    unet, _, text = modules(narrow("sdxl"))
    layer = f"{text_model}encoder_layers_1_self_attn_q_proj"
    state = linear(f"lora_te1_{layer}", 32, 32) | linear(f"lora_te2_{layer}", 32, 32, 0.2)
    state |= linear("lora_te2_text_projection", 64, 32, 0.3)
    wanted = [[encoder.text_model.encoder.layers[1].self_attn.q_proj.weight.clone() for encoder in text]]
    projection = text[1].text_projection.weight.clone()
    with attach([(read_adapter(written(tmp_path / "x.safetensors", state)), 0.5, 1.0)], unet, text) as found:
        assert not found.unfit
        changed = [encoder.text_model.encoder.layers[1].self_attn.q_proj.weight for encoder in text]
        assert torch.allclose(changed[0], wanted[0][0] + 0.05) and torch.allclose(changed[1], wanted[0][1] + 0.1)
        assert torch.allclose(text[1].text_projection.weight, projection + 0.15)
    assert torch.equal(text[1].text_projection.weight, projection)
    one = read_adapter(written(tmp_path / "y.safetensors", linear(f"lora_te_{layer}", 32, 32)))
    with attach([(one, 1.0, 1.0)], unet, text[:1]) as found:
        assert torch.allclose(text[0].text_model.encoder.layers[1].self_attn.q_proj.weight, wanted[0][0] + 0.1)


# Names of the original's blocks in SDXL, and what diffusers calls the same.
BLOCKS = {
    "input_blocks_1_0_in_layers_2": "down_blocks.0.resnets.0.conv1",
    "input_blocks_3_0_op": "down_blocks.0.downsamplers.0.conv",
    "input_blocks_4_0_skip_connection": "down_blocks.1.resnets.0.conv_shortcut",
    "input_blocks_4_1_proj_in": "down_blocks.1.attentions.0.proj_in",
    "input_blocks_8_1_transformer_blocks_0_ff_net_2": "down_blocks.2.attentions.1.transformer_blocks.0.ff.net.2",
    "middle_block_1_transformer_blocks_0_attn2_to_out_0": "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0",
    "middle_block_2_out_layers_3": "mid_block.resnets.1.conv2",
    "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
    "output_blocks_5_1_transformer_blocks_0_attn1_to_v": "up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_v",
    "output_blocks_8_0_emb_layers_1": "up_blocks.2.resnets.2.time_emb_proj",
    "time_embed_0": "time_embedding.linear_1",
    "label_emb_0_2": "add_embedding.linear_2",
    "out_2": "conv_out",
}


def test_sdxls_block_names(tmp_path):
    unet, _, text = modules(narrow("sdxl"))
    layers = {theirs: unet.get_submodule(ours) for theirs, ours in BLOCKS.items()}
    state = {f"lora_unet_{name}.diff": torch.full(layer.weight.shape, 0.1) for name, layer in layers.items()}
    before = {name: layer.weight.clone() for name, layer in layers.items()}
    with attach([(read_adapter(written(tmp_path / "x.safetensors", state)), 1.0, 1.0)], unet, text) as found:
        assert not found.unfit
        assert all(torch.allclose(layer.weight, before[name] + 0.1) for name, layer in layers.items())


@pytest.mark.many(plain=2)
@pytest.mark.parametrize(
    "settings",
    [
        {"lora_alpha": 4},
        {"lora_alpha": 6, "alpha_pattern": {"attn1.to_k": 1}},
        {"lora_alpha": 3, "use_rslora": True},
        {"lora_alpha": 6, "use_dora": True},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_what_diffusers_saves_is_read_with_its_settings(small, tmp_path, settings):
    """alpha is not among the tensors there; convolutions have a DoRA magnitude of their own shape."""
    peft = pytest.importorskip("peft")
    from diffusers import UNet2DConditionModel

    unet, text = small
    theirs = UNet2DConditionModel.from_config(unet.config)
    theirs.load_state_dict(unet.state_dict())
    theirs.add_adapter(peft.LoraConfig(r=4, target_modules=["to_q", "to_k", "conv1", "proj_in"], **settings))
    generator = torch.Generator().manual_seed(3)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        elif "magnitude" in name:
            parameter.data *= 1 + torch.rand(parameter.shape, generator=generator)
    theirs.save_lora_adapter(tmp_path)
    before = answer(unet)
    with attach([(read_adapter(tmp_path / "pytorch_lora_weights.safetensors"), 1.0, 1.0)], unet, text) as found:
        assert not found.unfit
        assert (answer(unet) - answer(theirs.eval())).abs().max() < 1e-5 < (answer(unet) - before).abs().max()


def test_what_peft_saves_is_read_with_its_settings(tmp_path):
    peft = pytest.importorskip("peft")
    unet, _, text = modules(narrow("sd1"))
    theirs = peft.get_peft_model(text[0], peft.LoraConfig(r=2, lora_alpha=5, target_modules=["q_proj", "fc1"]))
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    theirs.save_pretrained(tmp_path)
    merged = theirs.merge_and_unload().state_dict()
    _, _, fresh = modules(narrow("sd1"))
    plain = digest(*fresh)
    with attach([(read_adapter(tmp_path / "adapter_model.safetensors"), 1.0, 1.0)], unet, fresh) as found:
        assert not found.unfit and digest(*fresh) != plain
        assert all(torch.allclose(value, merged[key], atol=1e-5) for key, value in fresh[0].state_dict().items())
    assert digest(*fresh) == plain
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(CalotypeError, match=r"settings of the LoRA .* are damaged"):
        read_adapter(tmp_path / "adapter_model.safetensors")


def comfyui(unet, state):
    """The same LoRA as ComfyUI saves it: dotted names, the U-Net by its original blocks."""
    names = unet_names(unet.config)
    dotted = {
        f"lora_unet_{name.replace('.', '_')}": with_prefix_renamed(name, names) for name, _ in unet.named_modules()
    }
    found = {}
    for key, value in state.items():
        module, _, role = key.partition(".")
        if module in dotted:
            found[f"diffusion_model.{dotted[module]}.{role}"] = value
        else:
            layer = re.sub(r"_layers_(\d+)_", r".layers.\1.", module.removeprefix("lora_te_text_model_"))
            layer = layer.replace("self_attn_", "self_attn.").replace("mlp_", "mlp.")
            found[f"text_encoders.clip_l.transformer.text_model.{layer}.{role}"] = value
    return found


@pytest.mark.many(plain=1)
@pytest.mark.parametrize("prefix", ["", "lycoris_"])
def test_names_of_comfyui_and_lycoris_are_the_same(small, tmp_path, prefix):
    unet, text = small
    state = kohya(unet, text, has_convolutions=True)
    if prefix:
        other = {key.replace("lora_unet_", prefix).replace("lora_te_", f"{prefix}te_"): state[key] for key in state}
    else:
        other = comfyui(unet, state)
        assert any(key.startswith("diffusion_model.output_blocks.") for key in other)
    with attach([(read_adapter(written(tmp_path / "a.safetensors", state)), 1.0, 1.0)], unet, text):
        wanted = digest(unet, *text)
    with attach([(read_adapter(written(tmp_path / "b.safetensors", other)), 1.0, 1.0)], unet, text) as found:
        assert not found.unfit and digest(unet, *text) == wanted


@pytest.mark.many(plain=2)
@pytest.mark.parametrize(
    "template, magnitude",
    [
        ("unet.{name}.lora_{half}.weight", "unet.{name}.lora_magnitude_vector"),
        # InvokeAI #9252: the name of the adapter in the key, also one that is no word
        ("base_model.model.{name}.lora_{half}.default.weight", "base_model.model.{name}.lora_magnitude_vector.default"),
        ("{name}.lora_{half}.my-style.weight", "{name}.lora_magnitude_vector.my-style.weight"),
        # InvokeAI #9515: ai-toolkit's DoRA
        ("diffusion_model.{name}.lora_{half}.weight", "diffusion_model.{name}.magnitude"),
        # prefixes of a checkpoint, of peft in a part, and of parallel training (OpenTAD #44)
        ("model.diffusion_model.{name}.lora_{half}.weight", "model.diffusion_model.{name}.dora_scale"),
        (
            "unet.base_model.model.{name}.lora_{half}.weight",
            "unet.base_model.model.{name}.lora_magnitude_vector.weight",
        ),
        ("module.unet.{name}.lora_{half}.weight", "module.unet.{name}.lora_magnitude_vector"),
        # ComfyUI #3494: kohya's prefix before peft's names
        ("lora_unet_{flat}.lora_{half}.weight", "lora_unet_{flat}.lora_magnitude_vector"),
    ],
)
def test_dora_by_every_programs_names(small, tmp_path, template, magnitude):
    unet, _ = small
    wanted, other, generator = {}, {}, torch.Generator().manual_seed(0)
    for name, layer in unet.named_modules():
        if not (isinstance(layer, torch.nn.Linear) and "attn" in name):
            continue
        before, _, last = name.partition(".attn")
        flat = f"{before.replace('.', '_')}_attn{last}"  # as there: attn1.to_q
        outputs, inputs = layer.weight.shape
        down, up = (torch.randn(*shape, generator=generator) * 0.1 for shape in ((2, inputs), (outputs, 2)))
        length = layer.weight.norm(dim=1) * 1.1
        module = f"lora_unet_{name.replace('.', '_')}"
        wanted |= {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up}
        wanted[f"{module}.dora_scale"] = length.reshape(-1, 1)
        other |= {template.format(name=name, flat=flat, half=half): value for half, value in (("A", down), ("B", up))}
        key = magnitude.format(name=name, flat=flat)
        other[key] = length.reshape(-1, 1) if key.endswith("dora_scale") else length
    with attach([(read_adapter(written(tmp_path / "a.safetensors", wanted)), 1.0, 1.0)], unet, []):
        right = digest(unet)
    adapter = read_adapter(written(tmp_path / "b.safetensors", other))
    with attach([(adapter, 1.0, 1.0)], unet, []) as found:
        assert not adapter.unknown and not found.unfit and digest(unet) == right


@pytest.mark.parametrize("layers, levels", [(1, 3), (2, 4), (2, 3), (3, 4)])
def test_original_blocks_are_renamed_whatever_the_depth_of_the_unet(tmp_path, layers, levels):
    """As ComfyUI saves a LoRA of the model that ships, which has one layer in each of three blocks."""
    types = ["UpBlock2D", *["CrossAttnUpBlock2D"] * (levels - 1)]
    config = {"layers_per_block": layers, "block_out_channels": (1,) * levels, "up_block_types": types}
    names = {ours: theirs for ours, theirs in unet_names(config).items() if "attentions" in ours or "samplers" in ours}
    state = {f"diffusion_model.{theirs}.lora_down.weight": torch.ones(1, 2) for theirs in names.values()}
    adapter = read_adapter(written(tmp_path / "x.safetensors", state))
    assert {name for _, name in layers_of(adapter)} == {ours.replace(".", "_") for ours in names}


@pytest.mark.parametrize(
    ("module", "family"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv", "Flux"),
        ("transformer.single_transformer_blocks.0.attn.to_q", "Flux"),
        ("diffusion_model.double_blocks.0.img_attn.proj", "Flux"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", "Stable Diffusion 3"),
        ("transformer.transformer_blocks.0.attn.add_q_proj", "Stable Diffusion 3"),
        ("transformer_blocks.0.img_mlp.net.0.proj", "Qwen-Image"),
        ("diffusion_model.blocks.0.self_attn.q", "Wan"),
        ("lora_unet_blocks_0_cross_attn_k", "Wan"),
        ("diffusion_model.layers.0.attention.qkv", "Z-Image or Lumina 2"),
        ("base_model.model.adaln_single.linear", "PixArt"),
        ("lora_unet_single_blocks_0_modulation_linear", "HunyuanVideo"),
        ("lora_prior_unet_down_blocks_0_1_channelwise_0", "Stable Cascade"),
    ],
)
def test_a_lora_for_another_family_is_called_so(small, tmp_path, module, family):
    unet, text = small
    state = {f"{module}.lora_down.weight": torch.zeros(2, 8), f"{module}.lora_up.weight": torch.zeros(8, 2)}
    adapter = read_adapter(written(tmp_path / "x.safetensors", state))
    with pytest.raises(CalotypeError, match=f"was trained for {family};"):
        attach([(adapter, 1.0, 1.0)], unet, text)


def test_names_that_nobody_has_are_called_unknown(small, tmp_path):
    unet, text = small
    state = {"lora_unet_whatever_7_to_x.lora_down.weight": torch.zeros(2, 8)}
    state |= {"lora_unet_whatever_7_to_x.lora_up.weight": torch.zeros(8, 2)}
    adapter = read_adapter(written(tmp_path / "x.safetensors", state))
    with pytest.raises(CalotypeError, match=r"does not know, such as whatever_7_to_x"):
        attach([(adapter, 1.0, 1.0)], unet, text)
    with pytest.raises(CalotypeError, match=r"has a layer whatever_7_to_x"):
        to_kohya(layers_of(adapter), False, "x")


def test_a_file_of_another_kind_is_called_what_it_is(tmp_path):
    state = {"decoder.conv_in.weight": torch.zeros(8, 4, 3, 3), "decoder.conv_out.weight": torch.zeros(3, 8, 3, 3)}
    with pytest.raises(CalotypeError, match=r"is a VAE alone, not a LoRA; imagine takes it with vae"):
        read_adapter(written(tmp_path / "x.safetensors", state))


def test_embeddings_in_a_lora_are_its_learned_words(tmp_path):
    """As kohya's and A1111's bundles have them: each in the form of its own file."""
    state = {
        "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.zeros(2, 8),
        "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.zeros(8, 2),
        "bundle_emb.one.string_to_param.*": torch.ones(2, 8),
        "bundle_emb.two.emb_params": torch.ones(3, 8, dtype=torch.bfloat16) * 2,
        "bundle_emb.xl word.clip_l": torch.ones(1, 8) * 3,
        "bundle_emb.xl word.clip_g": torch.ones(1, 10) * 4,
    }
    adapter = read_adapter(written(tmp_path / "x.safetensors", state))
    words = {word.name: [tuple(tensor.shape) for tensor in word.vectors] for word in adapter.embeddings}
    assert words == {"one": [(2, 8)], "two": [(3, 8)], "xl word": [(1, 8), (1, 10)]}
    assert not adapter.unknown and len(adapter.modules) == 1
    state["bundle_emb.one.string_to_param.*"] = torch.full((2, 8), torch.nan)
    with pytest.raises(CalotypeError, match="not finite"):
        read_adapter(written(tmp_path / "y.safetensors", state))


@pytest.mark.parametrize("name", ["adapter_model.bin", "pytorch_lora_weights.bin", "unet/adapter_model.bin"])
def test_old_folders_have_pickles(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    layer = "mid_block.attentions.0.proj_in"
    torch.save({f"{layer}.lora_A.weight": torch.ones(2, 8), f"{layer}.lora_B.weight": torch.ones(8, 2)}, path)
    path.with_name("adapter_config.json").write_text('{"r": 2, "lora_alpha": 6}')
    adapter = read_folder(tmp_path)
    assert adapter.modules.keys() == {("unet", layer)}
    assert float(adapter.modules[("unet", layer)].get("scale", 1)) == (3 if "adapter_model" in name else 1)
