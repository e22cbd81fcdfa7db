"""IA3, GLoRA, OFT and BOFT, as LyCORIS, sd-scripts and peft save them, change a model as those programs do."""

import json

import peft
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from calotype.checkpoints.lora import attach, fuse, read_adapter
from calotype.checkpoints.lora.deltas import delta
from calotype.checkpoints.lora.facts import facts_of
from calotype.checkpoints.lora.keys import check_layers
from calotype.checkpoints.lora.merge import merged
from calotype.checkpoints.lora.multiplicative import update
from calotype.errors import CalotypeError
from tests.checkpoints.originals import modules, narrow

MODULE = "mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
CONV = "down_blocks_0_resnets_0_conv1"


@pytest.fixture(scope="module")
def unet():
    return modules(narrow("sd1"))[0].requires_grad_(False)


def layer_of(unet, name):
    return {path.replace(".", "_"): layer for path, layer in unet.named_modules()}[name]


def saved(path, state, **metadata):
    save_file({key: value.contiguous() for key, value in state.items()}, path, metadata)
    return read_adapter(path)


def lycoris(algorithm, layer, **options):
    """A module of LyCORIS on a layer, with random weights."""
    kinds = pytest.importorskip("lycoris.modules")
    torch.manual_seed(1)
    classes = {"ia3": kinds.IA3Module, "glora": kinds.GLoRAModule}
    classes |= {"oft": kinds.DiagOFTModule, "boft": kinds.ButterflyOFTModule}
    module = classes[algorithm]("x", layer, 1.0, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.1)
    return module


LYCORIS = [
    ("ia3", {}),
    ("ia3", {"train_on_input": True}),
    ("glora", {"lora_dim": 3, "alpha": 2}),
    ("oft", {"lora_dim": 4}),
    ("oft", {"lora_dim": 4, "constraint": 1e-3}),
    ("oft", {"lora_dim": 4, "constraint": 10.0, "rescaled": True}),
    ("boft", {"lora_dim": 4}),
    ("boft", {"lora_dim": 4, "constraint": 1e-3, "rescaled": True}),
]


@pytest.mark.parametrize("name", [MODULE, CONV])
@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize(("algorithm", "options"), LYCORIS)
def test_a_file_of_lycoris_changes_the_weight_as_lycoris_does(tmp_path, unet, algorithm, options, strength, name):
    layer = layer_of(unet, name)
    module = lycoris(algorithm, layer, **options)
    if algorithm == "oft":  # linear in the strength; LyCORIS fails for one with `rescaled`
        wanted = layer.weight + strength * module.get_diff_weight(1.0, layer.weight.shape)[0]
    else:
        wanted = layer.weight + module.get_diff_weight(strength, layer.weight.shape)[0]
    tensors = module.custom_state_dict() if algorithm == "glora" else module.state_dict()
    state = {f"lora_unet_{name}.{key}": value for key, value in tensors.items()}
    before = layer.weight.clone()
    with attach([(saved(tmp_path / "x.safetensors", state), 1.0, strength)], unet, []) as attached:
        assert not attached.unfit
        assert torch.allclose(layer.weight, wanted, atol=1e-5)
        assert not torch.allclose(layer.weight, before, atol=1e-3)
    assert torch.equal(layer.weight, before)


def test_old_glora_has_its_factors_the_other_way_round():
    weight = torch.randn(6, 8)
    a1, a2, b1, b2 = torch.randn(2, 8), torch.randn(8, 2), torch.randn(2, 8), torch.randn(6, 2)
    tensors = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2, "alpha": torch.tensor(1.0)}
    assert torch.allclose(delta(tensors, weight), (weight @ a2 @ a1 + b2 @ b1) / 2, atol=1e-5)


def test_kohyas_oft_rotates_the_outputs(tmp_path, unet):
    """R = (I + Q)(I - Q)^-1, |Q| at most alpha times the outputs; W' = R^T W."""
    layer = layer_of(unet, MODULE)
    outputs, blocks = layer.weight.shape[0], torch.randn(4, layer.weight.shape[0] // 4, layer.weight.shape[0] // 4)
    state = {f"oft_unet_{MODULE}.oft_blocks": blocks, f"oft_unet_{MODULE}.alpha": torch.tensor(0.01)}
    q = blocks - blocks.transpose(1, 2)
    q = q * min(1.0, 0.01 * outputs / float(q.norm()))
    eye = torch.eye(blocks.shape[-1])
    rotation = torch.block_diag(*((eye + one) @ torch.linalg.inv(eye - one) for one in q))
    wanted = rotation.T @ layer.weight
    with attach([(saved(tmp_path / "x.safetensors", state), 1.0, 1.0)], unet, []):
        assert torch.allclose(layer.weight, wanted, atol=1e-5)


class Net(nn.Module):
    """Some layers by names of a U-Net."""

    def __init__(self):
        super().__init__()
        self.to_q, self.proj_in = nn.Linear(8, 12), nn.Conv2d(4, 8, 1)
        self.conv1 = nn.Conv2d(4, 8, 3, padding=1)


PEFT = [
    peft.IA3Config(target_modules=["to_q", "proj_in"], feedforward_modules=[], init_ia3_weights=False),
    peft.IA3Config(target_modules=["to_q", "proj_in"], feedforward_modules=["to_q", "proj_in"], init_ia3_weights=False),
    peft.OFTConfig(r=0, oft_block_size=4, target_modules=["to_q", "conv1"], init_weights=False),
    peft.OFTConfig(r=2, oft_block_size=0, target_modules=["to_q"], init_weights=False, use_cayley_neumann=False),
    peft.OFTConfig(r=2, oft_block_size=0, target_modules=["to_q"], init_weights=False, num_cayley_neumann_terms=3),
    peft.OFTConfig(r=2, oft_block_size=0, target_modules=["to_q"], init_weights=False, block_share=True),
    peft.OFTConfig(r=2, oft_block_size=0, target_modules=["to_q"], init_weights=False, coft=True, eps=0.05),
    peft.BOFTConfig(boft_block_size=4, target_modules=["to_q", "conv1"], init_weights=False),
    peft.LoHaConfig(r=2, alpha=3, target_modules=["to_q"], init_weights=False),
    peft.LoKrConfig(r=2, alpha=3, target_modules=["to_q"], init_weights=False),
]


@pytest.mark.parametrize("config", PEFT, ids=lambda config: config.peft_type.value)
def test_a_folder_of_peft_changes_weights_and_biases_as_peft_does(tmp_path, config):
    torch.manual_seed(2)
    net = Net()
    plain = {key: value.clone() for key, value in net.state_dict().items()}
    wrapped = peft.get_peft_model(net, config)
    with torch.no_grad():
        for key, parameter in wrapped.named_parameters():
            if any(role in key for role in ("ia3_l", "oft_R", "boft_", "hada", "lokr")):
                parameter.copy_(torch.randn_like(parameter) * 0.1 + (1 if "ia3_l" in key or "boft_s" in key else 0))
    wrapped.save_pretrained(tmp_path)
    wanted = wrapped.merge_and_unload().state_dict()
    ours = Net()
    ours.load_state_dict(plain)
    adapter = read_adapter(tmp_path / "adapter_model.safetensors")
    assert len(adapter.modules) == len(config.target_modules) and not adapter.unknown
    names = {"layers_per_block": 2, "block_out_channels": (1, 1), "up_block_types": ("UpBlock2D", "UpBlock2D")}
    ours.config = names
    fuse([(adapter, 1.0, 1.0)], ours, [])
    changed = 0
    for key, value in ours.state_dict().items():
        assert torch.allclose(value, wanted[key], atol=1e-5), key
        changed += not torch.allclose(value, plain[key], atol=1e-4)
    assert changed >= len(config.target_modules)


def test_boft_of_several_factors_is_the_papers_product_of_matrices():
    """Factor n is P B P^T for a permutation P: in groups of 2^n blocks, half blocks of even place come first."""
    torch.manual_seed(3)
    factors, blocks, side, outputs = 3, 4, 4, 5
    weight, scales = torch.randn(outputs, blocks * side), torch.rand(outputs, 1) + 0.5
    stored = torch.randn(factors, blocks, side, side) * 0.2
    whole = torch.eye(blocks * side)
    for n in range(factors):
        skew = 0.5 * (stored[n] - stored[n].transpose(1, 2))
        eye = torch.eye(side)
        rotation = torch.block_diag(*((eye - one) @ torch.linalg.inv(eye + one) for one in skew))
        group, half, order = side * 2**n, side // 2, []
        for first in range(0, blocks * side, group):
            places = range(group // half)
            for place in [*(p for p in places if p % 2 == 0), *(p for p in places if p % 2)]:
                order += range(first + place * half, first + (place + 1) * half)
        permutation = torch.zeros(blocks * side, blocks * side)
        permutation[torch.arange(blocks * side), torch.tensor(order)] = 1
        whole = permutation @ rotation @ permutation.T @ whole
    wanted = (whole @ weight.T).T * scales
    found = weight + update({"boft_R": stored, "boft_s": scales}, weight)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose((found / scales).norm(), weight.norm(), atol=1e-4)  # a rotation keeps lengths


def test_kinds_may_be_mixed_in_one_file_and_are_described(tmp_path, unet):
    layer = layer_of(unet, MODULE)
    outputs = layer.weight.shape[0]
    conv = layer_of(unet, CONV)
    state = {
        f"lora_unet_{MODULE}.weight": torch.full((outputs,), 0.5),
        f"lora_unet_{MODULE}.on_input": torch.tensor(0),
        f"lora_unet_{CONV}.lora_down.weight": torch.randn(2, *conv.weight.shape[1:]),
        f"lora_unet_{CONV}.lora_up.weight": torch.randn(conv.weight.shape[0], 2, 1, 1),
    }
    adapter = saved(tmp_path / "x.safetensors", {key: value.to(torch.bfloat16) for key, value in state.items()})
    assert facts_of(adapter)["kinds"] == ["IA3", "LoCon"]
    before = layer.weight.clone()
    with attach([(adapter, 1.0, 1.0)], unet, []):
        assert torch.allclose(layer.weight, before * 1.5, atol=1e-6)
    with pytest.raises(CalotypeError, match=r"layers of the kind IA3.*give into"):
        list(merged([(adapter, 1.0)], rank=4))


@pytest.mark.parametrize(
    "tensors",
    [
        {"oft_blocks": torch.zeros(4, 3, 3)},
        {"oft_blocks": torch.zeros(4, 3, 5)},
        {"weight": torch.zeros(7), "on_input": torch.tensor(0)},
        {"oft_R": torch.zeros(2, 7)},
        {"boft_R": torch.zeros(1, 2, 3, 3), "boft_s": torch.zeros(4, 1)},
    ],
)
def test_what_does_not_fit_the_model_gets_a_sentence(tmp_path, unet, tensors):
    state = {f"lora_unet_{MODULE}.{key}": value for key, value in tensors.items()}
    adapter = saved(tmp_path / "x.safetensors", state)
    with pytest.raises(CalotypeError, match="for another base model"):
        attach([(adapter, 1.0, 1.0)], unet, [])


@pytest.mark.parametrize(
    "tensors",
    [
        {"a1.weight": torch.zeros(5, 2), "a2.weight": torch.zeros(2, 5), "b1.weight": torch.zeros(3, 2)},
        {"a1.weight": torch.zeros(3)},
        {"boft_R": torch.zeros(1, 2, 3, 3)},
    ],
)
def test_a_layer_of_which_a_tensor_is_missing_is_damaged(tmp_path, unet, tensors):
    state = {f"lora_unet_{MODULE}.{key}": value for key, value in tensors.items()}
    adapter = saved(tmp_path / "x.safetensors", state)
    for read in (lambda: attach([(adapter, 1.0, 1.0)], unet, []), lambda: check_layers(adapter)):
        with pytest.raises(CalotypeError, match=r"the LoRA x is damaged: .* is missing"):
            read()


def test_a_config_of_other_values_is_not_followed(tmp_path):
    """Nothing in a stranger's config ends in a traceback."""
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"use_cayley_neumann": "yes", "num_cayley_neumann_terms": [], "coft": 1, "eps": "x", "r": "y"})
    )
    save_file(
        {"base_model.model.mid_block.to_q.oft_R.weight": torch.zeros(2, 6)}, tmp_path / "adapter_model.safetensors"
    )
    adapter = read_adapter(tmp_path / "adapter_model.safetensors")
    assert adapter.modules[("unet", "mid_block.to_q")].keys() == {"oft_R"}
