"""LoRA and its kin: put on, taken off without trace, equal to what peft and diffusers make of the same file."""

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from calotype.checkpoints.layouts import LAYOUTS
from calotype.checkpoints.lora import attach, read_adapter
from calotype.checkpoints.lora.deltas import delta
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


# What each kind adds, by its paper's formula.


def test_lora_scales_by_alpha_over_rank():
    down, up, weight = torch.randn(4, 6), torch.randn(5, 4), torch.zeros(5, 6)
    assert torch.allclose(delta({"down": down, "up": up}, weight), up @ down)
    assert torch.allclose(delta({"down": down, "up": up, "alpha": torch.tensor(0.0)}, weight), up @ down)
    assert torch.allclose(delta({"down": down, "up": up, "alpha": torch.tensor(1.0)}, weight), up @ down / 4)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3]))
@settings(max_examples=25, deadline=None)
def test_a_convolutions_lora_is_two_convolutions(rank, inputs, outputs, kernel):
    torch.manual_seed(0)
    down, up = torch.randn(rank, inputs, kernel, kernel), torch.randn(outputs, rank, 1, 1)
    x = torch.randn(1, inputs, 6, 6)
    added = delta({"down": down, "up": up}, torch.zeros(outputs, inputs, kernel, kernel))
    two = torch.nn.functional.conv2d(torch.nn.functional.conv2d(x, down, padding=kernel // 2), up)
    assert torch.allclose(torch.nn.functional.conv2d(x, added, padding=kernel // 2), two, atol=1e-4)


def test_a_tucker_form_is_three_convolutions():
    torch.manual_seed(0)
    down, mid, up = torch.randn(3, 5, 1, 1), torch.randn(3, 3, 3, 3), torch.randn(4, 3, 1, 1)
    conv, x = torch.nn.functional.conv2d, torch.randn(1, 5, 6, 6)
    added = delta({"down": down, "mid": mid, "up": up}, torch.zeros(4, 5, 3, 3))
    assert torch.allclose(conv(x, added, padding=1), conv(conv(conv(x, down), mid, padding=1), up), atol=1e-4)


def test_loha_is_a_product_of_two():
    own = {f"hada_w{n}_{s}": torch.randn(*shape) for n in "12" for s, shape in (("a", (5, 2)), ("b", (2, 6)))}
    wanted = (own["hada_w1_a"] @ own["hada_w1_b"]) * (own["hada_w2_a"] @ own["hada_w2_b"])
    assert torch.allclose(delta(own, torch.zeros(5, 6)), wanted)
    assert torch.allclose(delta({**own, "alpha": torch.tensor(1.0)}, torch.zeros(5, 6)), wanted / 2)


def test_lokr_is_a_kronecker_product():
    one, two = torch.randn(2, 3), torch.randn(4, 5)
    assert torch.allclose(delta({"lokr_w1": one, "lokr_w2": two}, torch.zeros(8, 15)), torch.kron(one, two))
    a, b = torch.randn(4, 2), torch.randn(2, 5)
    own = {"lokr_w1": one, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(1.0)}
    assert torch.allclose(delta(own, torch.zeros(8, 15)), torch.kron(one, a @ b) / 2)
    own = {"lokr_w1": one, "lokr_w2": torch.randn(4, 5, 3, 3)}
    assert delta(own, torch.zeros(8, 15, 3, 3)).shape == (8, 15, 3, 3)


def test_dora_keeps_the_learned_magnitude():
    weight, down, up = torch.randn(5, 6), torch.randn(2, 6), torch.randn(5, 2)
    length = torch.rand(5) + 1
    whole = weight + delta({"down": down, "up": up, "dora_scale": length}, weight)
    assert torch.allclose(whole.norm(dim=1), length, atol=1e-5)
    by_input = torch.rand(1, 6) + 1
    whole = weight + delta({"down": down, "up": up, "dora_scale": by_input}, weight)
    assert torch.allclose(whole.norm(dim=0), by_input[0], atol=1e-5)


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


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (
            {"lora_unet_conv_in.lora_down.weight": torch.randn(4, 4, 3, 3)},
            "damaged: the tensors of conv_in do not fit .up is missing",
        ),
        (
            {
                "lora_unet_conv_in.lora_down.weight": torch.randn(4, 4, 3, 3),
                "lora_unet_conv_in.lora_up.weight": torch.randn(9, 2),
            },
            "damaged: the tensors of conv_in do not fit",
        ),
        ({"something.else": torch.randn(3)}, "no LoRA"),
        ({"lora_unet_conv_in.alpha": torch.tensor(1.0)}, "no LoRA"),
    ],
)
def test_a_broken_file_gets_a_sentence(small, tmp_path, state, word):
    unet, text = small
    before = digest(unet)
    with pytest.raises(CalotypeError, match=word):
        attach([(read_adapter(written(tmp_path / "x.safetensors", state)), 1.0, 1.0)], unet, text)
    assert digest(unet) == before


def test_the_short_hash_does_not_heed_the_metadata(tmp_path):
    state = {"lora_unet_conv_in.diff": torch.ones(2, 2)}
    save_file(state, tmp_path / "a.safetensors", {"ss_output_name": "a"})
    save_file(state, tmp_path / "b.safetensors", {"ss_output_name": "another name"})
    one, other = (read_adapter(tmp_path / f"{name}.safetensors") for name in "ab")
    assert one.short_hash == other.short_hash and one.sha256 != other.sha256 and len(one.short_hash) == 12
