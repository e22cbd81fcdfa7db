"""What each kind of adapter adds, by its paper's formula, and what is refused."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from calotype.checkpoints.lora import attach, read_adapter
from calotype.checkpoints.lora.deltas import check, delta
from calotype.errors import CalotypeError
from tests.checkpoints.originals import modules, narrow
from tests.checkpoints.test_lora import digest, kohya, written


@pytest.fixture(scope="module")
def small():
    """A narrow SD 1.x: its U-Net and text encoder."""
    unet, _, text = modules(narrow("sd1"))
    return unet.requires_grad_(False), [encoder.requires_grad_(False) for encoder in text]


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


def test_a_told_scale_goes_before_alpha():
    down, up = torch.randn(4, 6), torch.randn(5, 4)
    own = {"down": down, "up": up, "alpha": torch.tensor(1.0), "scale": torch.tensor(0.3)}
    assert torch.allclose(delta(own, torch.zeros(5, 6)), 0.3 * (up @ down), atol=1e-6)


def test_tucker_forms_of_loha_and_lokr():
    """Each half is a convolution in three steps: (in -> rank), rank to rank, (rank -> out)."""
    torch.manual_seed(0)

    def whole(core, out, inputs):  # (r, r', 3, 3), (r, out), (r', in)
        conv = torch.einsum("xjhw,jr->xrhw", core, inputs)
        return torch.einsum("xp,xrhw->prhw", out, conv)

    halves = {"1": [], "2": []}
    for half in halves.values():
        half += [torch.randn(2, 2, 3, 3), torch.randn(2, 4), torch.randn(2, 5)]
    own = {f"hada_{kind}{n}{end}": half[i] for n, half in halves.items() for i, (kind, end) in enumerate(TUCKER)}
    wanted = whole(*halves["1"]) * whole(*halves["2"])
    assert torch.allclose(delta(own, torch.zeros(4, 5, 3, 3)), wanted, atol=1e-5)
    core, a, b = halves["1"]
    one = torch.randn(2, 3)
    own = {"lokr_w1": one, "lokr_t2": core, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(1.0)}
    wanted = torch.einsum("ab,cdhw->acbdhw", one, whole(core, a, b)).reshape(8, 15, 3, 3) / 2
    assert torch.allclose(delta(own, torch.zeros(8, 15, 3, 3)), wanted, atol=1e-5)


TUCKER = (("t", ""), ("w", "_a"), ("w", "_b"))


def test_a_convolutions_loha_and_lokr_may_come_flat():
    torch.manual_seed(0)
    own = {f"hada_w{n}_{s}": torch.randn(*shape) for n in "12" for s, shape in (("a", (4, 2)), ("b", (2, 45)))}
    wanted = (own["hada_w1_a"] @ own["hada_w1_b"]) * (own["hada_w2_a"] @ own["hada_w2_b"])
    assert torch.allclose(delta(own, torch.zeros(4, 5, 3, 3)), wanted.reshape(4, 5, 3, 3))
    one, a, b = torch.randn(2, 3), torch.randn(4, 2), torch.randn(2, 45)
    wanted = torch.kron(one[:, :, None, None], (a @ b).reshape(4, 5, 3, 3))
    own = {"lokr_w1": one, "lokr_w2_a": a, "lokr_w2_b": b}
    assert torch.allclose(delta(own, torch.zeros(8, 15, 3, 3)), wanted, atol=1e-6)


def test_what_is_kept_by_place_is_added():
    down, up = torch.randn(2, 6), torch.randn(5, 2)
    places, values = torch.tensor([[0, 4], [5, 1]], dtype=torch.int16), torch.tensor([2.0, -3.0], dtype=torch.float16)
    own = {"down": down, "up": up, "bias_indices": places, "bias_values": values, "bias_size": torch.tensor([5, 6])}
    wanted = up @ down
    wanted[0, 5] += 2
    wanted[4, 1] -= 3
    assert torch.allclose(delta(own, torch.zeros(5, 6)), wanted)
    with pytest.raises(ValueError, match="indices"):
        delta({**own, "bias_indices": places + 9}, torch.zeros(5, 6))


def test_a_square_doras_magnitude_is_told_by_its_shape():
    """LyCORIS: (out, 1) or (1, in); peft: (out,), for convolutions (1, out, 1, 1)."""
    torch.manual_seed(0)
    weight, length = torch.randn(4, 4, 3, 3), torch.rand(4) + 1
    own = {"down": torch.randn(2, 4, 3, 3), "up": torch.randn(4, 2, 1, 1)}

    def lengths(dims, **magnitude):
        return torch.linalg.vector_norm(weight + delta(own | magnitude, weight), dim=dims)

    assert torch.allclose(lengths((1, 2, 3), dora_scale=length.reshape(4, 1, 1, 1)), length, atol=1e-5)
    assert torch.allclose(lengths((0, 2, 3), dora_scale=length.reshape(1, 4, 1, 1)), length, atol=1e-5)
    assert torch.allclose(lengths((1, 2, 3), magnitude=length.reshape(1, 4, 1, 1)), length, atol=1e-5)


# What is refused.


@pytest.mark.parametrize(
    ("own", "shape"),
    [
        ({"up": (1 << 20, 1), "down": (1, 1 << 20)}, (8, 8)),
        ({f"hada_w{n}_{s}": (1 << 20, 1) if s == "a" else (1, 1 << 20) for n in "12" for s in "ab"}, (8, 8)),
        ({"lokr_w1": (1 << 10, 1 << 10), "lokr_w2": (1 << 10, 1 << 10)}, (8, 8)),
        ({"up": (4, 2), "down": (2, 8)}, (8, 4)),  # as many numbers, in another order
        ({"up": (8, 2), "down": (2, 8), "dora_scale": (3, 1)}, (8, 8)),
    ],
)
def test_shapes_are_compared_before_anything_is_computed(own, shape):
    tensors = {role: torch.ones(*size) for role, size in own.items()}
    with pytest.raises(ValueError, match=r"the layer|for"):
        check(tensors, torch.zeros(*shape))


def test_numbers_that_run_over_are_noticed_and_nothing_stays(small, tmp_path):
    """Each number is finite, their product is not; the modules before are on already, and come off."""
    unet, text = small
    state = kohya(unet, text)
    last = list(state)[-2]
    state[last.replace("lora_down", "lora_up")] *= 1e30
    state[last.replace("lora_up", "lora_down")] *= 1e30
    before = digest(unet, *text)
    with pytest.raises(CalotypeError, match=r"x is damaged: .*not finite"):
        attach([(read_adapter(written(tmp_path / "x.safetensors", state)), 1.0, 1.0)], unet, text)
    assert digest(unet, *text) == before


def test_not_numbers_are_refused_at_the_door(tmp_path):
    state = {"lora_unet_conv_in.diff": torch.full((2, 2), float("nan"))}
    with pytest.raises(CalotypeError, match="not finite"):
        read_adapter(written(tmp_path / "x.safetensors", state))


ROLES = (
    *("lora_down.weight", "lora_up.weight", "lora_mid.weight", "alpha", "scale", "dora_scale", "diff", "diff_b"),
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "lokr_w1", "lokr_w2", "lokr_w2_a", "lokr_w2_b"),
    *("bias_indices", "bias_values", "bias_size", "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"),
)
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 32]), max_size=4).map(tuple)
LAYERS = st.sampled_from(["lora_unet_conv_in", "unet.conv_in", "lora_unet_time_embedding_linear_1", "lora_te_nowhere"])


@pytest.mark.slow
@given(st.dictionaries(st.tuples(LAYERS, st.sampled_from(ROLES)), SHAPES, min_size=1, max_size=6))
@example({("lora_unet_conv_in", "bias_values"): (), ("lora_unet_conv_in", "bias_size"): ()})
@settings(max_examples=150, deadline=None)
def test_whatever_a_file_holds_there_is_a_sentence_and_no_trace(small, tmp_path_factory, parts):
    unet, text = small
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    save_file({f"{layer}.{role}": torch.ones(shape) for (layer, role), shape in parts.items()}, path)
    watched = (unet.conv_in, unet.time_embedding)
    before = digest(*watched)
    try:
        attach([(read_adapter(path), 1.0, 1.0)], unet, text).remove()
    except CalotypeError as fault:
        assert "\n" not in str(fault) and "x" in str(fault)
    assert digest(*watched) == before


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
        ({"something.else": torch.randn(3)}, "not a LoRA"),
        ({"lora_unet_conv_in.alpha": torch.tensor(1.0)}, "not a LoRA"),
    ],
)
def test_a_broken_file_gets_a_sentence(small, tmp_path, state, word):
    unet, text = small
    before = digest(unet)
    with pytest.raises(CalotypeError, match=word):
        attach([(read_adapter(written(tmp_path / "x.safetensors", state)), 1.0, 1.0)], unet, text)
    assert digest(unet) == before
