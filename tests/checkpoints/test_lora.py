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


@pytest.mark.many(plain=1)
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


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
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
    weight, bias = layer.weight.clone(), layer.bias.clone()
    with attach([(read_adapter(written(tmp_path / "x.safetensors", state)), 1.0, 0.5)], unet, text) as found:
        assert torch.allclose(layer.weight - 0.5, weight, atol=1e-6) and not found.unfit
        assert torch.allclose(layer.bias - 0.5, bias, atol=1e-6)


# What is refused.


def test_another_base_is_named_with_what_does_not_fit(small, tmp_path):
    unet, text = small
    wide, _, other = modules(narrow("sdxl"))
    state = {
        k: v for k, v in kohya(wide, other[:1]).items() if "mid_block_attentions_0_transformer_blocks_0_attn2_to_k" in k
    }
    state = {k: torch.randn(4, 2048) if "down" in k else v for k, v in state.items()}
    with pytest.raises(CalotypeError, match=r"another base model than mine \(it was trained for SDXL\).*attn2_to_k"):
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
