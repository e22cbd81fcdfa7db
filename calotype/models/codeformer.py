"""CodeFormer (Zhou et al., *Towards Robust Blind Face Restoration with Codebook Lookup Transformer*, 2022).

An encoder reads the degraded face, a transformer predicts entries of a codebook of sharp faces, and a generator decodes
them; `fidelity` is the weight of the encoder's own features. Written from the paper and the names in the published
file. The published weights are for non-commercial use.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REQUIRED_KEYS = (
    "position_emb",
    "idx_pred_layer.1.weight",
    "quantize.embedding.weight",
    "ft_layers.0.self_attn.in_proj_weight",
    "encoder.blocks.0.weight",
)
WIDTHS = (1, 2, 2, 4, 4, 8)  # channels of each level, as multiples of the first
BLOCKS_PER_LEVEL = 2  # residual blocks in each level
HEADS = 8
DOWNSCALE = 2 ** (len(WIDTHS) - 1)  # pixels of the face along one side of a code


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class Residual(nn.Module):
    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm1, self.conv1 = _norm(in_channels), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2, self.conv2 = _norm(out_channels), nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_out = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (N, inside, h, w) -> (N, outside, h, w)
        h = self.conv1(F.silu(self.norm1(x)))
        return self.conv_out(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    """Single-head self-attention over all positions."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w) -> (N, C, h, w)
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).mT for layer in (self.q, self.k, self.v))  # (N, h*w, C)
        attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(attended.mT.reshape(x.shape))


class Downsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w) -> (N, C, h/2, w/2)
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w) -> (N, C, 2h, 2w)
        return self.conv(F.interpolate(x, scale_factor=2.0))


class Encoder(nn.Module):
    """A face to codes; also returns the features of each level, by their size in pixels."""

    def __init__(self, first: int, code: int):
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(3, first, 3, padding=1)]
        in_channels = first
        for level, width in enumerate(WIDTHS):
            last = level == len(WIDTHS) - 1
            for _ in range(BLOCKS_PER_LEVEL):
                blocks.append(Residual(in_channels, first * width))
                in_channels = first * width
                blocks += [Attention(in_channels)] if last else []
            blocks += [] if last else [Downsample(in_channels)]
        blocks += [Residual(in_channels, in_channels), Attention(in_channels), Residual(in_channels, in_channels)]
        self.blocks = nn.ModuleList([*blocks, _norm(in_channels), nn.Conv2d(in_channels, code, 3, padding=1)])

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        features = {}
        for block in self.blocks:
            if isinstance(block, Downsample):
                features[str(x.shape[-1])] = x
            x = block(x)
        return x, features


class CodeDecoder(nn.Module):
    """Codes to a face; `fuse(x)` is called once in each level, after its first block."""

    def __init__(self, first: int, code: int):
        super().__init__()
        in_channels = first * WIDTHS[-1]
        blocks: list[nn.Module] = [nn.Conv2d(code, in_channels, 3, padding=1)]
        blocks += [Residual(in_channels, in_channels), Attention(in_channels), Residual(in_channels, in_channels)]
        for level, width in reversed(list(enumerate(WIDTHS))):
            for _ in range(BLOCKS_PER_LEVEL):
                blocks.append(Residual(in_channels, first * width))
                in_channels = first * width
                blocks += [Attention(in_channels)] if level == len(WIDTHS) - 1 else []
            blocks += [Upsample(in_channels)] if level else []
        self.blocks = nn.ModuleList([*blocks, _norm(in_channels), nn.Conv2d(in_channels, 3, 3, padding=1)])

    def forward(self, x: Tensor, fuse) -> Tensor:
        before = None
        for block in self.blocks:
            x = block(x)
            if isinstance(before, Upsample):
                x = fuse(x)
            before = block
        return x


class TransformerLayer(nn.Module):
    """One layer of the transformer; position embeddings are added to queries and keys, not to values."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, HEADS)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:  # (positions, N, width), (positions, 1, width)
        h = self.norm1(x)
        x = x + self.self_attn(h + positions, h + positions, h, need_weights=False)[0]
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class Fuse(nn.Module):
    """Modulates the generator's features by the encoder's."""

    def __init__(self, channels: int):
        super().__init__()
        self.encode_enc = Residual(2 * channels, channels)
        self.scale, self.shift = _modulation(channels), _modulation(channels)

    def forward(self, encoded: Tensor, x: Tensor, fidelity: float) -> Tensor:
        h = self.encode_enc(torch.cat([encoded, x], 1))
        return x + fidelity * (x * self.scale(h) + self.shift(h))


def _modulation(channels: int) -> nn.Sequential:
    convolutions = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
    return nn.Sequential(convolutions[0], nn.LeakyReLU(0.2), convolutions[1])


class CodeFormer(nn.Module):
    """(N, 3, side, side) in [-1, 1] RGB -> the same; the side follows from the number of positions."""

    def __init__(
        self, first: int, code: int, codes: int, positions: int, width: int, layers: int, fused: dict[str, int]
    ):
        super().__init__()
        self.position_emb = nn.Parameter(torch.zeros(positions, width))
        self.feat_emb = nn.Linear(code, width)
        self.ft_layers = nn.ModuleList(TransformerLayer(width, 2 * width) for _ in range(layers))
        self.idx_pred_layer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, codes, bias=False))
        self.encoder, self.generator = Encoder(first, code), CodeDecoder(first, code)
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(codes, code)})
        self.fuse_convs_dict = nn.ModuleDict({size: Fuse(channels) for size, channels in fused.items()})
        self.side = round(positions**0.5) * DOWNSCALE

    def forward(self, x: Tensor, fidelity: float = 0.5) -> Tensor:
        features, levels = self.encoder(x)
        quantized = _adain(self._lookup(features), features)

        def fuse(h: Tensor) -> Tensor:
            size = str(h.shape[-1])
            is_fused = fidelity > 0 and size in self.fuse_convs_dict
            return self.fuse_convs_dict[size](levels[size], h, fidelity) if is_fused else h

        return self.generator(quantized, fuse)

    def _lookup(self, features: Tensor) -> Tensor:
        """The codebook's entries that the transformer predicts for each position: (N, code, h, w)."""
        positions = self.position_emb[:, None]
        h = self.feat_emb(features.flatten(2).permute(2, 0, 1))  # (positions, N, width)
        for layer in self.ft_layers:
            h = layer(h, positions)
        indices = self.idx_pred_layer(h).argmax(2)  # (positions, N)
        return self.quantize["embedding"](indices).permute(1, 2, 0).reshape(features.shape)


def _adain(x: Tensor, features: Tensor, eps: float = 1e-5) -> Tensor:
    """Adaptive instance normalisation: x with the mean and variance of each channel of `features`."""
    var, mean = torch.var_mean(x, (2, 3), keepdim=True)
    target_var, target_mean = torch.var_mean(features, (2, 3), keepdim=True)
    return (x - mean) / (var + eps).sqrt() * (target_var + eps).sqrt() + target_mean


def detects(state: dict[str, Tensor]) -> bool:
    """Whether these are weights of a CodeFormer."""
    return all(key in state for key in REQUIRED_KEYS)


def build(state: dict[str, Tensor]) -> CodeFormer:
    """A CodeFormer with these weights and the size given by their shapes, on the CPU in float32.

    Raises:
        KeyError, RuntimeError: keys are missing, unknown, or of the wrong shape.
    """
    positions, width = state["position_emb"].shape
    codes, code = state["quantize.embedding.weight"].shape
    sizes = {key.split(".")[1] for key in state if key.startswith("fuse_convs_dict.")}
    fused = {size: state[f"fuse_convs_dict.{size}.scale.0.weight"].shape[0] for size in sorted(sizes, key=int)}
    layers = len({key.split(".")[1] for key in state if key.startswith("ft_layers.")})
    with torch.device("meta"):
        first = state["encoder.blocks.0.weight"].shape[0]
        network = CodeFormer(first, code, codes, positions, width, layers, fused)
    network.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return network
