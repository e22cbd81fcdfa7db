"""LoRA files made of others: names, forms, singular values, and that what they add is what they should."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from calotype.checkpoints.layouts import LAYOUTS
from calotype.checkpoints.lora import attach, read_adapter, read_folder
from calotype.checkpoints.lora import formats as forms
from calotype.checkpoints.lora.deltas import delta
from calotype.checkpoints.lora.keys import kohya_prefix, layers_of, module_path
from calotype.checkpoints.lora.merge import merged, resized
from calotype.checkpoints.lora.peft_config import DIFFUSERS
from calotype.checkpoints.lora.read import Adapter
from calotype.checkpoints.lora.svd import METHODS, clamped, rank_by, spectrum, spectrum_of_product
from calotype.checkpoints.single_file import open_file
from calotype.checkpoints.store import Checkpoint
from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError
from calotype.tasks.adapters import MergeLora, ResizeLora, weighed
from tests.checkpoints.originals import checkpoint, modules, narrow
from tests.checkpoints.test_lora import answer, kohya, written

TO_Q = ("unet", "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q")


@pytest.fixture(scope="module")
def small():
    unet, _, text = modules(narrow("sd1"))
    return unet.requires_grad_(False), [encoder.requires_grad_(False) for encoder in text]


def adapter(tensors, name="mine", layer=TO_Q, **more) -> Adapter:
    return Adapter(name, "", "", more.pop("base", ""), {layer: tensors}, more)


def random_lora(m=24, n=32, rank=4, alpha=2.0, seed=0, kernel=()):
    g = torch.Generator().manual_seed(seed)
    down, up = torch.randn(rank, n, *kernel, generator=g), torch.randn(m, rank, *[1] * len(kernel), generator=g)
    return {"down": down, "up": up, "alpha": torch.tensor(alpha)}


def added(made) -> torch.Tensor:
    up, down = made.tensors["up"].flatten(1), made.tensors["down"].flatten(1)
    return up @ down * float(made.tensors["alpha"]) / len(down)


# names


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_every_layer_has_one_name_and_gets_its_own_back(family):
    unet, _, text = modules(LAYOUTS[family], "meta")
    kinds = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.GroupNorm, torch.nn.LayerNorm, torch.nn.Embedding)
    for part, network in (("unet", unet), *((f"text_encoder{'_2' * n}", one) for n, one in enumerate(text))):
        for name, layer in network.named_modules():
            if isinstance(layer, kinds):
                flat = name.replace(".", "_")
                assert module_path(flat, "x") == name
                key = kohya_prefix(part, flat, family == "sdxl")
                beginning = "lora_unet_" if part == "unet" else key.split("_text_")[0] + "_"
                read = adapter({}, layer=(part, key.removeprefix(beginning)), base={"sdxl": "SDXL"}.get(family, ""))
                assert list(layers_of(read)) == [(part, flat)]


def test_sdxls_keys_are_sd_scripts():
    layer = "up_blocks_0_attentions_1_transformer_blocks_9_attn2_to_k"
    theirs = "lora_unet_output_blocks_1_1_transformer_blocks_9_attn2_to_k"
    assert kohya_prefix("unet", layer, True) == theirs and kohya_prefix("unet", layer, False) == f"lora_unet_{layer}"
    assert kohya_prefix("text_encoder", "text_model_x", True) == "lora_te1_text_model_x"
    assert kohya_prefix("text_encoder", "text_model_x", False) == "lora_te_text_model_x"
    assert kohya_prefix("text_encoder_2", "text_model_x", True) == "lora_te2_text_model_x"


def test_a_layer_of_another_family_is_named():
    with pytest.raises(CalotypeError, match="flux has a layer double_blocks_0_img"):
        module_path("double_blocks_0_img_attn_proj", "flux")


# singular values


@pytest.mark.parametrize("sides", [(20, 50), (50, 20), (7, 7)])
def test_both_ways_find_torchs_singular_values(sides):
    torch.manual_seed(0)
    whole = torch.randn(sides)
    up, down = torch.randn(sides[0], 5), torch.randn(5, sides[1])
    for matrix, found in ((whole, spectrum(whole)), (up @ down, spectrum_of_product(down, up))):
        u, values, v = torch.linalg.svd(matrix, full_matrices=False)
        count = len(found.values)
        assert torch.allclose(found.values, values[:count], atol=1e-5)
        low, high = found.product(3)
        assert torch.allclose(high @ low, u[:, :3] * values[:3] @ v[:3], atol=1e-4)
        assert found.energy_kept(3) == pytest.approx(float(values[:3].square().sum() / values.square().sum()), rel=1e-5)


def test_what_is_extracted_is_clamped_to_a_quantile_as_sd_scripts_does():
    torch.manual_seed(0)
    matrix = torch.randn(30, 40)
    u, s, v = torch.linalg.svd(matrix)
    u, v = u[:, :4] @ torch.diag(s[:4]), v[:4]
    numbers = torch.cat([u.flatten(), v.flatten()])
    most = torch.quantile(torch.cat([numbers, -numbers]), 0.99)
    down, up = clamped(spectrum(matrix), 4, 0.99)
    assert float(max(up.abs().max(), down.abs().max())) == pytest.approx(float(most), rel=1e-2)
    wanted = u.clamp(-most, most) @ v.clamp(-most, most)
    assert torch.allclose(up @ down, wanted, atol=1e-2 * float(wanted.abs().max()))


def theirs(values, method, target):
    """sd-scripts' resize_lora: how many of all singular values stay."""
    if method == "sv_ratio":
        index = int((values > values[0] / target).sum())
    elif method == "sv_fro":
        squares = values.pow(2)
        index = int(torch.searchsorted(torch.cumsum(squares, 0) / float(squares.sum()), target**2)) + 1
    else:
        index = int(torch.searchsorted(torch.cumsum(values, 0) / float(values.sum()), target)) + 1
    return max(1, min(index, len(values) - 1)) + 1


@pytest.mark.parametrize(
    "method, target", [("sv_ratio", 2.0), ("sv_ratio", 30.0), ("sv_fro", 0.9), ("sv_cumulative", 0.7)]
)
def test_dynamic_ranks_are_sd_scripts(method, target):
    for seed in range(4):
        own = random_lora(rank=8, seed=seed)
        whole = torch.linalg.svdvals(own["up"] @ own["down"])
        wanted = theirs(whole, method, target)
        [made] = resized(adapter(own), None, None, (method, target))
        assert made.rank == min(8, wanted)
        assert float(made.tensors["alpha"]) == pytest.approx(2.0 / 8 * made.rank)
    assert rank_by(method, target, torch.zeros(4), (24, 32)) == 1 and set(METHODS) == {
        "sv_ratio",
        "sv_fro",
        "sv_cumulative",
    }


def test_resizing_keeps_the_largest_and_says_how_much():
    own = random_lora(rank=8, kernel=(3, 3))
    [made] = resized(adapter(own), 16, 3)
    whole = (own["up"].flatten(1) @ own["down"].flatten(1)) * 2.0 / 8
    u, s, v = torch.linalg.svd(whole, full_matrices=False)
    assert made.tensors["down"].shape == (3, 32, 3, 3) and made.tensors["up"].shape == (24, 3, 1, 1)
    assert torch.allclose(added(made), u[:, :3] * s[:3] @ v[:3], atol=1e-4)
    assert made.lost / made.energy == pytest.approx(float(s[3:].square().sum() / s.square().sum()), rel=1e-4)
    [same] = resized(adapter(own), 16)
    assert all(torch.equal(same.tensors[role], own[role]) for role in own)


# merging


def test_two_side_by_side_add_what_both_add():
    for kernel in ((), (3, 3), (1, 1)):
        one, two = random_lora(rank=4, kernel=kernel), random_lora(rank=6, alpha=12.0, seed=1, kernel=kernel)
        [made] = merged([(adapter(one), 0.8), (adapter(two), -0.5)])
        place = torch.zeros(24, 32, *kernel)
        wanted = 0.8 * delta(one, place) - 0.5 * delta(two, place)
        assert made.rank == 10 and torch.allclose(delta(made.tensors, place), wanted, atol=1e-4)


def test_at_weight_1_the_very_bits_stay():
    one, two = random_lora(), random_lora(seed=1)
    [made] = merged([(adapter(one), 1.0), (adapter(two), 1.0)])
    assert torch.equal(made.tensors["down"], torch.cat([one["down"], two["down"]]))
    assert torch.equal(made.tensors["up"], torch.cat([one["up"], two["up"]], 1)) and float(made.tensors["alpha"]) == 4.0


def test_with_a_rank_the_nearest_is_taken():
    one, two = random_lora(rank=6), random_lora(rank=6, seed=1)
    [made] = merged([(adapter(one), 1.0), (adapter(two), 0.3)], rank=5)
    whole = delta(one, torch.zeros(24, 32)) + 0.3 * delta(two, torch.zeros(24, 32))
    u, s, v = torch.linalg.svd(whole, full_matrices=False)
    assert made.rank == 5 and torch.allclose(added(made), u[:, :5] * s[:5] @ v[:5], atol=1e-4)
    assert made.energy == pytest.approx(float(s.square().sum()), rel=1e-4)
    [loose] = merged([(adapter(one), 1.0), (adapter(two), 0.3)], rank=20)
    assert loose.rank == 12 and loose.lost == 0 and loose.energy == pytest.approx(made.energy, rel=1e-4)


def test_tuckers_form_is_folded_and_differences_add_up():
    torch.manual_seed(0)
    own = {"down": torch.randn(3, 5, 1, 1), "mid": torch.randn(3, 3, 3, 3), "up": torch.randn(4, 3, 1, 1)}
    [made] = merged([(adapter(own), 0.5)])
    place = torch.zeros(4, 5, 3, 3)
    assert "mid" not in made.tensors
    assert torch.allclose(delta(made.tensors, place), 0.5 * delta(own, place), atol=1e-5)
    norm = {"diff": torch.randn(8), "diff_b": torch.randn(8)}
    [made] = merged([(adapter(norm), 0.5), (adapter(norm), 2.0)], rank=2)
    assert torch.allclose(made.tensors["diff"], 2.5 * norm["diff"])
    assert torch.allclose(made.tensors["diff_b"], 2.5 * norm["diff_b"])


def test_loha_needs_a_rank_and_dora_a_checkpoint():
    torch.manual_seed(0)
    loha = {f"hada_w{n}_{s}": torch.randn(*shape) for n in "12" for s, shape in (("a", (24, 2)), ("b", (2, 32)))}
    with pytest.raises(CalotypeError, match=r"mine is a LoHa.*give rank"):
        list(merged([(adapter(loha), 1.0)]))
    [made] = merged([(adapter(loha), 0.5)], rank=4)  # of rank 2 times 2
    assert torch.allclose(added(made), 0.5 * delta(loha, torch.zeros(24, 32)), atol=1e-4)
    vast = {f"hada_w{n}_{s}": torch.ones(*shape) for n in "12" for s, shape in (("a", (30000, 1)), ("b", (1, 30000)))}
    with pytest.raises(CalotypeError, match="which no model has"):
        list(merged([(adapter(vast), 1.0)], rank=4))
    dora = random_lora() | {"dora_scale": torch.ones(24, 1)}
    with pytest.raises(CalotypeError, match=r"mine has layers of the kind DoRA.*give into"):
        list(merged([(adapter(dora), 1.0)], rank=4))
    with pytest.raises(CalotypeError, match="only LoRA and LoCon have a rank") as caught:
        list(resized(adapter(loha), 1))
    assert WORDING.fill(caught.value).endswith("; calotype lora merge with --rank makes the closest LoRA")
    with pytest.raises(CalotypeError, match="merge LoRAs of the same base"):
        list(merged([(adapter(random_lora()), 1.0), (adapter(random_lora(n=48)), 1.0)]))


# forms: what others make of the files


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in one
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_there_and_back_not_a_bit_changes(small, tmp_path, dtype):
    unet, text = small
    state = {key: value.to(dtype) for key, value in kohya(unet, text, rank=3, has_convolutions=True).items()}
    odd = [key for key in state if key.endswith("alpha")][::7]
    state |= {key: torch.tensor(0.7, dtype=dtype) for key in odd}
    for up in [key for key in state if "_unet_" in key and "lora_up" in key]:  # DoRA
        shape = (state[up].shape[0], *[1] * (state[up].dim() - 1))
        state[up.replace("lora_up.weight", "dora_scale")] = torch.rand(shape).to(dtype)
    read = read_adapter(written(tmp_path / "x.safetensors", state))
    assert same(forms.to_kohya(layers_of(read), False, "x"), state)
    tensors, settings = forms.to_diffusers(layers_of(read), "x")
    save_file(tensors, tmp_path / "d.safetensors", {DIFFUSERS: json.dumps(settings)})
    back = read_adapter(tmp_path / "d.safetensors")
    assert same(forms.to_kohya(layers_of(back), False, "x"), state)
    for part, (tensors, settings) in forms.to_peft(layers_of(back), "x").items():
        (tmp_path / "p" / part).mkdir(parents=True)
        save_file(tensors, tmp_path / "p" / part / "adapter_model.safetensors")
        (tmp_path / "p" / part / "adapter_config.json").write_text(json.dumps(settings))
    assert same(forms.to_kohya(layers_of(read_folder(tmp_path / "p")), False, "x"), state)


@pytest.mark.slow
def test_diffusers_and_peft_draw_the_same_with_their_own_files(small, tmp_path):
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    from diffusers import UNet2DConditionModel
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Theirs

    unet, text = small
    state = kohya(unet, text, rank=4, has_convolutions=True)
    state |= {key: torch.tensor(0.7) for key in [key for key in state if key.endswith("alpha")][::5]}
    read = read_adapter(written(tmp_path / "x.safetensors", state))
    tensors, settings = forms.to_diffusers(layers_of(read), "x")
    path = tmp_path / "d.safetensors"
    save_file(tensors, path, {DIFFUSERS: json.dumps(settings)})

    shape = text[0].shape
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = transformers.CLIPTextConfig(**{name: getattr(shape, name) for name in names}, hidden_act=shape.hidden_act)

    def fresh():
        network = UNet2DConditionModel.from_config(unet.config).eval()
        network.load_state_dict(unet.state_dict())
        encoder = transformers.CLIPTextModel(config).eval()
        names = encoder.state_dict()
        own = text[0].state_dict()
        encoder.load_state_dict({key: own.get(key, own.get(f"text_model.{key}")) for key in names})
        return network, encoder

    ids = torch.arange(5)[None]
    with torch.inference_mode(), attach([(read, 1.0, 1.0)], unet, text):
        wanted, words = answer(unet), text[0](text[0].embed(ids), torch.tensor([4])).layers[-1]
        words = text[0].normalised(words)

    network, encoder = fresh()
    converted, alphas, told = Theirs.lora_state_dict(path, unet_config=unet.config, return_lora_metadata=True)
    assert alphas is None and told == settings
    Theirs.load_lora_into_unet(converted, alphas, network, metadata=told)
    Theirs.load_lora_into_text_encoder(converted, alphas, encoder, metadata=told)
    with torch.inference_mode():
        assert (answer(network) - wanted).abs().max() < 1e-5
        assert (encoder(ids).last_hidden_state - words).abs().max() < 1e-5

    network, encoder = fresh()
    for part, (tensors, settings) in forms.to_peft(layers_of(read), "x").items():
        (tmp_path / part).mkdir()
        save_file(tensors, tmp_path / part / "adapter_model.safetensors", {"format": "pt"})
        (tmp_path / part / "adapter_config.json").write_text(json.dumps(settings))
    network = peft.PeftModel.from_pretrained(network, tmp_path / "unet").base_model.model
    encoder = peft.PeftModel.from_pretrained(encoder, tmp_path / "text_encoder").base_model.model
    with torch.inference_mode():
        assert (answer(network) - wanted).abs().max() < 1e-5
        assert (encoder(ids).last_hidden_state - words).abs().max() < 1e-5


def test_what_has_no_place_in_diffusers_is_named(small):
    loha = adapter({"hada_w1_a": torch.ones(2, 2)})
    with pytest.raises(
        CalotypeError, match=r"mine is more than a LoRA.*hada_w1_a.*give to kohya, .* with merge_lora and rank"
    ):
        forms.to_diffusers(layers_of(loha), "mine")


# into a checkpoint in one file


@pytest.mark.many(plain=1)
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_file_with_it_in_has_the_weights_of_a_model_that_wears_it(family, tmp_path, monkeypatch):
    from calotype.checkpoints import fuse as baked
    from calotype.checkpoints import single_file as single

    layout = narrow(family)
    monkeypatch.setattr(single, "detect_layout", lambda *_: layout)
    monkeypatch.setattr(baked, "detect_layout", lambda *_: layout)
    state = checkpoint(layout)
    source = tmp_path / "base.safetensors"
    save_file({key: value.clone().contiguous() for key, value in state.items()}, source, {"told": "before"})
    before = source.read_bytes()
    unet, _, text = modules(layout)
    tensors = kohya(unet, text[:1], has_convolutions=True)
    if family == "sdxl":
        tensors = {key.replace("lora_te_", "lora_te1_"): value for key, value in tensors.items()}
        name = "lora_te2_text_projection"
        tensors |= {f"{name}.lora_down.weight": torch.randn(2, 32), f"{name}.lora_up.weight": torch.randn(64, 2)}
        name = "lora_te2_text_model_encoder_layers_1_self_attn_k_proj"
        tensors |= {f"{name}.lora_down.weight": torch.randn(2, 32), f"{name}.lora_up.weight": torch.randn(32, 2)}
    read = read_adapter(written(tmp_path / "x.safetensors", tensors))
    out = tmp_path / "out.safetensors"
    assert baked.save_fused(Checkpoint("base", source), [(read, 0.7)], out) == []
    assert source.read_bytes() == before
    worn, made = (open_file(Checkpoint("m", path)) for path in (source, out))
    encoders = [[part.encoder for part in model.text] for model in (worn, made)]
    with attach([(read, 0.7, 0.7)], worn.unet, encoders[0]):
        for one, other in zip((worn.unet, *encoders[0]), (made.unet, *encoders[1]), strict=True):
            weights = other.state_dict()
            assert all(torch.equal(value, weights[key]) for key, value in one.state_dict().items())
    assert load_file(out).keys() == state.keys()


# tasks


def test_a_weight_stands_behind_the_last_colon():
    assert weighed("my.safetensors:0.8") == ("my.safetensors", 0.8)
    assert weighed(r"C:\loras\my.safetensors") == (r"C:\loras\my.safetensors", 1.0)
    assert weighed("a:b:-1") == ("a:b", -1.0) and weighed("plain") == ("plain", 1.0)
    with pytest.raises(CalotypeError, match=r"a number such as 0\.8"):
        weighed("my:nan")


def test_options_that_do_not_go_together(tmp_path):
    out = tmp_path / "x.safetensors"
    with pytest.raises(CalotypeError, match="give rank or into, not both"):
        MergeLora(out=out, loras=("a",), rank=4, into="emoji")
    for rule in ("sv_ratio=1", "sv_fro=1.5", "sv_fro", "sv_other=2", "sv_ratio=nan"):
        with pytest.raises(CalotypeError, match="dynamic is sv_ratio=X"):
            ResizeLora(out=out, lora="a", dynamic=rule)
    assert ResizeLora(out=out, lora="a", dynamic="sv_fro=0.9").rule == ("sv_fro", 0.9)
