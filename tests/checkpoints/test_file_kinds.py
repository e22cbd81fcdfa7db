"""What every other kind of file is called, and which option takes it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from calotype.checkpoints.add import kind_of_file as kind_in_store
from calotype.checkpoints.file_kinds import family_of, kind_of_file, wrong_kind_error
from calotype.checkpoints.lora import read_adapter
from calotype.checkpoints.open_network import load
from calotype.checkpoints.single_file import open_file, open_vae
from calotype.checkpoints.state_dict import read_state
from calotype.checkpoints.store import Checkpoint
from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError, Message

UNET = "model.diffusion_model."
FILES = {  # names and shapes of a few of the tensors -> what the file is called
    "a LoRA": {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (4, 8)},
    "a LoRA for Flux": {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (4, 8)},
    "a LoRA for Wan": {"diffusion_model.blocks.0.cross_attn.k.lora_A.weight": (4, 8)},
    "a LoRA for Stable Diffusion 3": {"lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight": (4, 8)},
    "a model of the family FLUX.2": {"single_stream_modulation.lin.weight": (8, 8)},
    "a model of the family Flux": {f"{UNET}double_blocks.0.img_attn.norm.key_norm.scale": (8,)},
    "a model of the family Chroma": {"distilled_guidance_layer.in_proj.bias": (8,), "double_blocks.0.x.weight": (8,)},
    "a model of the family Stable Diffusion 3": {f"{UNET}joint_blocks.0.x_block.mlp.fc1.weight": (8, 8)},
    "a model of the family PixArt": {"adaln_single.linear.weight": (8, 8), "pos_embed.proj.weight": (8, 4, 2, 2)},
    "a model of the family Wan": {"blocks.0.self_attn.q.weight": (8, 8), "head.modulation": (1, 2, 8)},
    "a model of the family Qwen-Image": {"transformer_blocks.0.img_mod.1.weight": (8, 8), "txt_norm.weight": (8,)},
    "a model of the family Z-Image or Lumina 2": {"layers.0.adaLN_modulation.0.weight": (8, 8)},
    "a ControlNet": {"control_model.input_hint_block.0.weight": (16, 3, 3, 3)},
    "a ControlNet-Union": {"control_add_embedding.linear_1.bias": (8,), "controlnet_cond_embedding.conv_in.bias": (8,)},
    "a Control-LoRA": {"lora_controlnet": (0,), "input_blocks.0.0.weight": (8, 4, 3, 3)},
    "a ControlNet-LLLite": {"lllite_unet_input_blocks_4_1.conditioning1.0.weight": (8, 3, 4, 4)},
    "an IP-Adapter": {"image_proj.proj.weight": (8, 8), "ip_adapter.1.to_k_ip.weight": (8, 768)},
    "a T2I-Adapter": {"conv_in.weight": (8, 64, 3, 3), "body.0.block2.weight": (8, 8, 3, 3)},
    "a motion module of AnimateDiff": {"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (8,)},
    "a VAE alone": {"decoder.conv_in.weight": (8, 4, 3, 3), "encoder.conv_in.weight": (8, 3, 3, 3)},
    "a VAE of another family, such as Flux or Stable Diffusion 3": {"decoder.conv_in.weight": (8, 16, 3, 3)},
    "a VAE of Wan or Qwen-Image": {"decoder.middle.0.residual.0.gamma": (8, 1, 1, 1)},
    "a small VAE for previews (TAESD)": {"1.weight": (64, 4, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)},
    "a CLIP text encoder alone": {"text_model.encoder.layers.0.mlp.fc1.weight": (8, 8)},
    "a CLIP image encoder": {"vision_model.encoder.layers.0.mlp.fc1.weight": (8, 8)},
    "a T5 text encoder": {"encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8)},
    "a language model, the text encoder of newer families": {
        "model.layers.0.self_attn.q_proj.weight": (8, 8),
        "model.embed_tokens.weight": (8, 8),
    },
    "an embedding (textual inversion)": {"emb_params": (2, 768)},
    "a U-Net alone, with the names of diffusers": {"conv_in.weight": (8, 4, 3, 3), "down_blocks.0.x.weight": (8,)},
    "a U-Net alone, without text encoders and VAE": {"input_blocks.0.0.weight": (8, 4, 3, 3)},
    "a model with quantised weights (SVDQuant, bitsandbytes or scaled float8)": {"blocks.0.attn.qweight": (8, 8)},
    "a GAN generator": {"stages.0.0.join.weight": (8,)},
    "a network for enlarging pictures (ESRGAN)": {
        "model.0.weight": (64, 3, 3, 3),
        "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3),
    },
}


def saved(path: Path, shapes) -> Path:
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    return path


@pytest.mark.parametrize("noun", FILES)
def test_each_kind_of_file_has_its_name(noun):
    assert str(kind_of_file(FILES[noun]).noun) == noun


@pytest.mark.parametrize("noun", [noun for noun in FILES if "checkpoint" not in noun])
def test_every_task_refuses_it_by_that_name(tmp_path, noun):
    path = saved(tmp_path / "x.safetensors", FILES[noun])
    doors = {
        "a Stable Diffusion checkpoint": lambda: open_file(Checkpoint("x", path)),
        "a network for enlarging pictures or for faces": lambda: load(Checkpoint("x", path)),
        "a VAE of SD 1.x, 2.x or SDXL": lambda: open_vae(path),
        "a LoRA": lambda: read_adapter(path),
    }
    for wanted, door in doors.items():
        if noun.startswith(("a LoRA", "a network", "a VAE alone")) and wanted.split()[1] in noun.split():
            continue  # what the door takes
        with pytest.raises(CalotypeError) as caught:
            door()
        text = WORDING.fill(caught.value)
        assert text.startswith(f"{path} is {noun}, not {wanted}") and "; " in text


@pytest.mark.parametrize("noun", ["a ControlNet", "an IP-Adapter", "a LoRA for Flux", "a T5 text encoder"])
def test_what_no_task_uses_is_not_added_to_the_models(tmp_path, noun):
    with pytest.raises(CalotypeError, match=f"is {noun}, not a model for a task of Calotype"):
        kind_in_store(saved(tmp_path / "x.safetensors", FILES[noun]))


@pytest.mark.parametrize("kind, noun", [("lora", "a LoRA"), ("vae", "a VAE alone"), ("diffusion", "a GAN generator")])
def test_what_a_task_uses_is_added(tmp_path, kind, noun):
    assert kind_in_store(saved(tmp_path / "x.safetensors", FILES[noun])) == kind


def test_a_checkpoint_given_as_something_else_is_called_so():
    shapes = {
        f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3),
        "first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3),
    }
    text = WORDING.fill(wrong_kind_error(Path("x"), shapes, Message("a LoRA")))
    assert text == "x is a Stable Diffusion checkpoint, not a LoRA; calotype imagine takes it with --model"


def test_nested_pickles_are_called_what_they_are(tmp_path):
    torch.save({"image_proj": {"proj.weight": torch.ones(2, 2)}, "ip_adapter": {"1.to_k_ip.weight": torch.ones(2, 2)}},
               tmp_path / "ip.bin")  # fmt: skip
    with pytest.raises(CalotypeError, match="is an IP-Adapter, not a Stable Diffusion checkpoint"):
        open_file(Checkpoint("x", tmp_path / "ip.bin"))
    torch.save({768: [{"linear.weight": torch.ones(2)}], "layer_structure": [1, 2, 1]}, tmp_path / "hyper.pt")
    with pytest.raises(CalotypeError, match="is a hypernetwork"):
        read_state(tmp_path / "hyper.pt")


def test_no_module_of_stable_diffusion_belongs_to_another_family():
    names = [
        *("down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", "mid_block.resnets.0.conv1"),
        *(
            "lora_unet_input_blocks_4_1_transformer_blocks_0_ff_net_0_proj",
            "text_model.encoder.layers.0.self_attn.q_proj",
        ),
        *(
            "lora_te1_text_model_encoder_layers_0_mlp_fc1",
            "diffusion_model.output_blocks.2.2.conv",
            "add_embedding.linear_1",
        ),
    ]
    assert family_of(names) == ""


def test_shapes_that_no_tensor_has_end_in_a_sentence():
    shapes = {"a": (2**62, 2**62), "b": (-1,)}
    assert "it has 2 tensors" in str(wrong_kind_error(Path("x"), shapes, Message("a VAE")))
