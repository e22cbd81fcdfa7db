"""LoRA and its kin: put on, taken off without trace, equal to what peft and diffusers make of the same file."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from calotype.checkpoints.layouts import LAYOUTS
from calotype.checkpoints.lora import attach, read_adapter
from calotype.errors import CalotypeError
from tests.checkpoints.originals import modules, narrow


@pytest.fixture(scope="module")
def small():
    """A narrow SD 1.x: its U-Net and text encoder."""
    unet, _, text = modules(narrow("sd1"))
    return unet.requires_grad_(False), [encoder.requires_grad_(False) for encoder in text]


def digest(*roots) -> str:
    parts = (p.contiguous().view(torch.uint8).numpy().tobytes() for root in roots for p in root.parameters())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def kohya(unet, text, rank=4, has_convolutions=False, seed=0) -> dict[str, torch.Tensor]:
    """Random weights by kohya's names, for every module that its trainer takes."""
    state, generator = {}, torch.Generator().manual_seed(seed)

    def put(name, layer):
        weight = layer.weight
        kernel = weight.shape[2:] if weight.dim() == 4 else ()
        down = torch.randn(rank, *weight.shape[1:], generator=generator) * 0.1
        up = torch.randn(weight.shape[0], rank, *[1] * len(kernel), generator=generator) * 0.1
        state[f"{name}.lora_down.weight"], state[f"{name}.lora_up.weight"] = down, up
        state[f"{name}.alpha"] = torch.tensor(2.0)

    for name, layer in unet.named_modules():
        flat = name.replace(".", "_")
        if not isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
            continue
        is_convolution = isinstance(layer, torch.nn.Conv2d) and ("resnets" in name or "samplers" in name)
        if "attentions" in name or (has_convolutions and is_convolution):
            put(f"lora_unet_{flat}", layer)
    for name, layer in text[0].named_modules():
        if isinstance(layer, torch.nn.Linear) and "layers" in name:
            put(f"lora_te_{name.replace('.', '_')}", layer)
    return state


def written(path: Path, state) -> Path:
    save_file({key: value.contiguous() for key, value in state.items()}, path, {"ss_base_model_version": "sd_v1-4"})
    return path


def answer(unet) -> torch.Tensor:
    x, words = (torch.randn(*shape, generator=torch.Generator().manual_seed(1)) for shape in ((1, 4, 8, 8), (1, 7, 64)))
    with torch.inference_mode():
        return unet(x, torch.tensor(500), words).sample


def test_stable_diffusion_1_has_192_and_72_modules():
    unet, _, text = modules(LAYOUTS["sd1"], "meta")
    attentions = [
        n for n, m in unet.named_modules() if "attentions" in n and isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))
    ]
    layers = [n for n, m in text[0].named_modules() if "layers" in n and isinstance(m, torch.nn.Linear)]
    assert (len(attentions), len(layers)) == (192, 72)


@pytest.mark.parametrize("has_convolutions", [False, True])
def test_it_is_what_diffusers_makes_of_the_same_file(small, tmp_path, has_convolutions):
    pytest.importorskip("peft")
    from diffusers import UNet2DConditionModel
    from diffusers.loaders import StableDiffusionLoraLoaderMixin

    unet, text = small
    state = kohya(unet, text, has_convolutions=has_convolutions)
    path = written(tmp_path / "x.safetensors", state)
    theirs = UNet2DConditionModel.from_config(unet.config)
    theirs.load_state_dict(unet.state_dict())
    converted, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(path, unet_config=unet.config)
    StableDiffusionLoraLoaderMixin.load_lora_into_unet(converted, alphas, theirs.eval())
    with attach([(read_adapter(path), 1.0, 1.0)], unet, text):
        assert (answer(unet) - answer(theirs)).abs().max() < 1e-5
    theirs.set_adapters(theirs.active_adapters(), 0.6)
    with attach([(read_adapter(path), 1.0, 0.6)], unet, text):
        assert (answer(unet) - answer(theirs)).abs().max() < 1e-5


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_taken_off_the_bits_are_as_before(tmp_path, dtype):
    unet, _, text = modules(narrow("sd1"))
    unet.to(dtype)
    before = digest(unet, *text)
    adapters = [
        read_adapter(written(tmp_path / f"{n}.safetensors", kohya(unet, text, seed=n, has_convolutions=n == 1)))
        for n in range(3)
    ]
    for wanted in ([0], [0, 1], [2, 1, 0], [1, 1]):
        attached = attach([(adapters[n], 0.7, -1.3) for n in wanted], unet, text)
        assert digest(unet, *text) != before
        attached.remove()
        assert digest(unet, *text) == before
    with pytest.raises(ZeroDivisionError), attach([(adapters[0], 1.0, 1.0)], unet, text):
        raise ZeroDivisionError
    assert digest(unet, *text) == before


def test_strengths_count_for_their_part(small, tmp_path):
    unet, text = small
    adapter = read_adapter(written(tmp_path / "x.safetensors", kohya(unet, text)))
    drawing, words = digest(unet), digest(*text)
    with attach([(adapter, 0.0, 1.0)], unet, text):
        assert digest(unet) != drawing and digest(*text) == words
    with attach([(adapter, 1.0, 0.0)], unet, text):
        assert digest(unet) == drawing and digest(*text) != words
    with attach([(adapter, 0.0, 0.0)], unet, text):
        assert (digest(unet), digest(*text)) == (drawing, words)


def test_two_halves_are_a_whole(small, tmp_path):
    unet, text = small
    adapter = read_adapter(written(tmp_path / "x.safetensors", kohya(unet, text)))
    with attach([(adapter, 1.0, 1.0)], unet, text):
        whole = answer(unet)
    with attach([(adapter, 0.5, 0.5), (adapter, 0.5, 0.5)], unet, text):
        assert torch.allclose(answer(unet), whole, atol=1e-5)


def test_a_full_difference_and_a_bias_are_added(small, tmp_path):
    unet, text = small
    name, layer = "lora_unet_conv_in", unet.conv_in
    state = {f"{name}.diff": torch.ones_like(layer.weight), f"{name}.diff_b": torch.ones_like(layer.bias)}
    with attach([(read_adapter(written(tmp_path / "x.safetensors", state)), 1.0, 0.5)], unet, text) as found:
        assert torch.allclose(layer.weight - 0.5, found._kept[layer.weight], atol=1e-6) and not found.unfit
        assert torch.allclose(layer.bias - 0.5, found._kept[layer.bias], atol=1e-6)


# What is refused.


def test_another_base_is_named_with_what_does_not_fit(small, tmp_path):
    unet, text = small
    wide, _, other = modules(narrow("sdxl"))
    state = {
        k: v for k, v in kohya(wide, other[:1]).items() if "mid_block_attentions_0_transformer_blocks_0_attn2_to_k" in k
    }
    state = {k: torch.randn(4, 2048) if "down" in k else v for k, v in state.items()}
    with pytest.raises(CalotypeError, match=r"another base than mine \(it was made for SDXL\).*attn2_to_k"):
        attach([(read_adapter(written(tmp_path / "x.safetensors", state)), 1.0, 1.0)], unet, text, "mine")


def test_modules_that_are_not_there_are_told(small, tmp_path):
    unet, text = small
    state = kohya(unet, text)
    state |= {k.replace("mid_block", "mid_block_9"): v.clone() for k, v in state.items() if "mid_block" in k}
    with attach([(read_adapter(written(tmp_path / "x.safetensors", state)), 1.0, 1.0)], unet, text) as found:
        assert found.unfit and all("mid_block_9" in name for name in found.unfit)


def test_the_short_hash_does_not_heed_the_metadata(tmp_path):
    state = {"lora_unet_conv_in.diff": torch.ones(2, 2)}
    save_file(state, tmp_path / "a.safetensors", {"ss_output_name": "a"})
    save_file(state, tmp_path / "b.safetensors", {"ss_output_name": "another name"})
    one, other = (read_adapter(tmp_path / f"{name}.safetensors") for name in "ab")
    assert one.short_hash == other.short_hash and one.sha256 != other.sha256 and len(one.short_hash) == 12


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


def test_several_are_rounded_once(tmp_path):
    """In bfloat16, three changes of a quarter of the last digit each are seen together, not lost one by one."""
    unet, _, text = modules(narrow("sd1"))
    unet.to(torch.bfloat16)
    weight = unet.time_embedding.linear_1.weight
    weight.data.fill_(1.0)
    state = {"lora_unet_time_embedding_linear_1.diff": torch.full(weight.shape, 2.0**-9)}
    adapter = read_adapter(written(tmp_path / "x.safetensors", state))
    with attach([(adapter, 1.0, 1.0)] * 3, unet, text):
        assert torch.equal(weight, torch.full_like(weight, 1 + 2**-7))
    assert torch.equal(weight, torch.ones_like(weight))


def test_memory_layout_and_identity_of_weights_stay(small, tmp_path):
    """A compiled graph, or channels_last, lives on the very tensors."""
    unet, text = small
    unet.to(memory_format=torch.channels_last)
    told = [(id(p), p.data_ptr(), p.stride(), p.dtype) for p in unet.parameters()]
    adapter = read_adapter(written(tmp_path / "x.safetensors", kohya(unet, text, has_convolutions=True)))
    with attach([(adapter, 1.0, 1.0)], unet, text):
        assert [(id(p), p.data_ptr(), p.stride(), p.dtype) for p in unet.parameters()] == told
    assert [(id(p), p.data_ptr(), p.stride(), p.dtype) for p in unet.parameters()] == told
