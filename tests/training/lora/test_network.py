"""Layers that are trained, by the names that sd-scripts gives them."""

import torch
from safetensors.torch import save_file

from calotype.checkpoints.lora import attach, read_adapter
from calotype.training.lora.network import Adapters, Ranks, text_layers, text_parts, unet_layers
from tests.checkpoints.originals import modules, narrow


def test_sdxl_has_the_originals_blocks_and_fits_its_own_model(tmp_path):
    unet, _, encoders = modules(narrow("sdxl"))
    adapters, ranks = Adapters(is_xl=True), Ranks(2, 2.0, 2, 2.0)
    adapters.attach("unet", unet_layers(unet, ranks), ranks)
    for name, encoder in zip(text_parts(encoders), encoders, strict=True):
        adapters.attach(name, text_layers(encoder, ranks), ranks)
    blocks = {key.split("_")[2] for key in adapters.layers if key.startswith("lora_unet_")}
    assert blocks == {"input", "middle", "output"}
    assert any(key.startswith("lora_te1_text_model_") for key in adapters.layers)
    assert any(key.startswith("lora_te2_text_model_") for key in adapters.layers)
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.up.normal_()
    save_file(adapters.state(), tmp_path / "mine.safetensors")
    found = attach([(read_adapter(tmp_path / "mine.safetensors"), 1.0, 1.0)], unet, encoders, "sdxl")
    assert not found.unfit


def test_what_layers_begin_with_is_the_seeds():
    begun = []
    for seed in (1, 1, 2):
        adapters, ranks = Adapters(seed=seed), Ranks(2, 2.0)
        layers = [torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)]
        adapters.attach("unet", ((f"{n}.attentions.", layer, 2, 2.0) for n, layer in enumerate(layers)), ranks)
        begun.append([layer.down.detach().clone() for layer in adapters.layers.values()])
    assert torch.equal(begun[0][0], begun[1][0]) and not torch.equal(begun[0][0], begun[2][0])
    assert not torch.equal(begun[0][0], begun[0][1])
