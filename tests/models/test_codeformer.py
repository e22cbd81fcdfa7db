import torch

from calotype.models import codeformer
from calotype.models.codeformer import CodeFormer


def tiny() -> CodeFormer:
    """A CodeFormer for faces of 64 pixels: four places."""
    torch.manual_seed(0)
    network = CodeFormer(32, 32, 8, 4, 64, 2, {"16": 64, "32": 64})
    for parameter in (network.position_emb, network.quantize["embedding"].weight):
        torch.nn.init.normal_(parameter)
    return network.eval()


def test_the_published_layout():
    """The published file has 515 tensors; a few of its names and shapes."""
    with torch.device("meta"):
        state = CodeFormer(64, 256, 1024, 256, 512, 9, {"32": 256, "64": 256, "128": 128, "256": 128}).state_dict()
    assert len(state) == 515
    shapes = {
        "position_emb": (256, 512),
        "ft_layers.8.self_attn.in_proj_weight": (1536, 512),
        "ft_layers.0.linear1.weight": (1024, 512),
        "idx_pred_layer.1.weight": (1024, 512),
        "quantize.embedding.weight": (1024, 256),
        "encoder.blocks.24.weight": (256, 512, 3, 3),
        "generator.blocks.0.weight": (512, 256, 3, 3),
        "generator.blocks.24.weight": (3, 64, 3, 3),
        "fuse_convs_dict.32.encode_enc.conv_out.weight": (256, 512, 1, 1),
        "fuse_convs_dict.256.shift.2.bias": (128,),
    }
    assert {key: tuple(state[key].shape) for key in shapes} == shapes


@torch.inference_mode()
def test_the_size_is_read_from_the_weights():
    first = tiny()
    assert codeformer.detects(first.state_dict())
    again = codeformer.build(first.state_dict()).eval()
    assert again.side == 64
    faces = torch.rand(2, 3, 64, 64) * 2 - 1
    drawn = again(faces)
    assert drawn.shape == faces.shape
    assert torch.equal(drawn, first(faces))
    assert torch.allclose(drawn[:1], first(faces[:1]), atol=1e-3)  # faces in a batch don't meet


@torch.inference_mode()
def test_fidelity_bends_towards_the_source():
    network, face = tiny(), torch.rand(1, 3, 64, 64) * 2 - 1
    none, half, full = (network(face, f) for f in (0.0, 0.5, 1.0))
    assert 0 < (half - none).abs().mean() < (full - none).abs().mean()
    network.fuse_convs_dict.clear()
    assert torch.equal(network(face, 1.0), none)
