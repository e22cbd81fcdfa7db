"""CodeFormer (Zhou et al., *Towards Robust Blind Face Restoration with Codebook Lookup Transformer*, 2022).

An encoder looks at the damaged face, a transformer guesses which entries of a codebook of clear faces were meant, and a
generator draws those; `fidelity` says how much of the encoder's own features goes along. Written from the paper and the
names in the published file. The published weights are for non-commercial use.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TELLTALE = (
    "position_emb",
    "idx_pred_layer.1.weight",
    "quantize.embedding.weight",
    "ft_layers.0.self_attn.in_proj_weight",
    "encoder.blocks.0.weight",
)
WIDTHS = (1, 2, 2, 4, 4, 8)  # channels of each level, times the first
RESIDUALS = 2  # in each level
HEADS = 8
SHRINK = 2 ** (len(WIDTHS) - 1)  # pixels of the face a side of one code


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class Residual(nn.Module):
    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.norm1, self.conv1 = _norm(inside), nn.Conv2d(inside, outside, 3, padding=1)
        self.norm2, self.conv2 = _norm(outside), nn.Conv2d(outside, outside, 3, padding=1)
        self.conv_out = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (N, inside, h, w) -> (N, outside, h, w)
        h = self.conv1(F.silu(self.norm1(x)))
        return self.conv_out(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    """Every place looks at every other, one head."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w) -> (N, C, h, w)
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).mT for layer in (self.q, self.k, self.v))  # (N, h*w, C)
        seen = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(seen.mT.reshape(x.shape))


class Smaller(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w) -> (N, C, h/2, w/2)
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Larger(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w) -> (N, C, 2h, 2w)
        return self.conv(F.interpolate(x, scale_factor=2.0))


class Encoder(nn.Module):
    """A face to codes; also returns what each level saw, by its size in pixels."""

    def __init__(self, first: int, code: int):
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(3, first, 3, padding=1)]
        inside = first
        for level, width in enumerate(WIDTHS):
            last = level == len(WIDTHS) - 1
            for _ in range(RESIDUALS):
                blocks.append(Residual(inside, first * width))
                inside = first * width
                blocks += [Attention(inside)] if last else []
            blocks += [] if last else [Smaller(inside)]
        blocks += [Residual(inside, inside), Attention(inside), Residual(inside, inside)]
        self.blocks = nn.ModuleList([*blocks, _norm(inside), nn.Conv2d(inside, code, 3, padding=1)])

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        seen = {}
        for block in self.blocks:
            if isinstance(block, Smaller):
                seen[str(x.shape[-1])] = x
            x = block(x)
        return x, seen


class CodeDecoder(nn.Module):
    """Codes to a face; `fuse(x)` is called once in each level, after its first block."""

    def __init__(self, first: int, code: int):
        super().__init__()
        inside = first * WIDTHS[-1]
        blocks: list[nn.Module] = [nn.Conv2d(code, inside, 3, padding=1)]
        blocks += [Residual(inside, inside), Attention(inside), Residual(inside, inside)]
        for level, width in reversed(list(enumerate(WIDTHS))):
            for _ in range(RESIDUALS):
                blocks.append(Residual(inside, first * width))
                inside = first * width
                blocks += [Attention(inside)] if level == len(WIDTHS) - 1 else []
            blocks += [Larger(inside)] if level else []
        self.blocks = nn.ModuleList([*blocks, _norm(inside), nn.Conv2d(inside, 3, 3, padding=1)])

    def forward(self, x: Tensor, fuse) -> Tensor:
        before = None
        for block in self.blocks:
            x = block(x)
            if isinstance(before, Larger):
                x = fuse(x)
            before = block
        return x


class TransformerLayer(nn.Module):
    """One layer of the transformer; places are added to what asks and what is asked, not to what is answered."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, HEADS)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:  # (places, N, width), (places, 1, width)
        h = self.norm1(x)
        x = x + self.self_attn(h + place, h + place, h, need_weights=False)[0]
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class Fuse(nn.Module):
    """Bends the generator's features towards the encoder's."""

    def __init__(self, channels: int):
        super().__init__()
        self.encode_enc = Residual(2 * channels, channels)
        self.scale, self.shift = _bend(channels), _bend(channels)

    def forward(self, seen: Tensor, x: Tensor, fidelity: float) -> Tensor:
        h = self.encode_enc(torch.cat([seen, x], 1))
        return x + fidelity * (x * self.scale(h) + self.shift(h))


def _bend(channels: int) -> nn.Sequential:
    convolutions = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
    return nn.Sequential(convolutions[0], nn.LeakyReLU(0.2), convolutions[1])


class CodeFormer(nn.Module):
    """Takes (N, 3, side, side) in [-1, 1] RGB and returns the like; the side follows from the number of places."""

    def __init__(self, first: int, code: int, codes: int, places: int, width: int, layers: int, fused: dict[str, int]):
        super().__init__()
        self.position_emb = nn.Parameter(torch.zeros(places, width))
        self.feat_emb = nn.Linear(code, width)
        self.ft_layers = nn.ModuleList(TransformerLayer(width, 2 * width) for _ in range(layers))
        self.idx_pred_layer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, codes, bias=False))
        self.encoder, self.generator = Encoder(first, code), CodeDecoder(first, code)
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(codes, code)})
        self.fuse_convs_dict = nn.ModuleDict({size: Fuse(channels) for size, channels in fused.items()})
        self.side = round(places**0.5) * SHRINK

    def forward(self, x: Tensor, fidelity: float = 0.5) -> Tensor:
        features, seen = self.encoder(x)
        drawn = _in_the_light_of(self._guess(features), features)

        def fuse(h: Tensor) -> Tensor:
            size = str(h.shape[-1])
            wanted = fidelity > 0 and size in self.fuse_convs_dict
            return self.fuse_convs_dict[size](seen[size], h, fidelity) if wanted else h

        return self.generator(drawn, fuse)

    def _guess(self, features: Tensor) -> Tensor:
        """The codebook's entries that the transformer takes for each place: (N, code, h, w)."""
        place = self.position_emb[:, None]
        h = self.feat_emb(features.flatten(2).permute(2, 0, 1))  # (places, N, width)
        for layer in self.ft_layers:
            h = layer(h, place)
        best = self.idx_pred_layer(h).argmax(2)  # (places, N)
        return self.quantize["embedding"](best).permute(1, 2, 0).reshape(features.shape)


def _in_the_light_of(x: Tensor, features: Tensor, least: float = 1e-5) -> Tensor:
    """x with the mean and spread that each channel has in `features`: keeps the photo's light and colour."""
    spread, mean = torch.var_mean(x, (2, 3), keepdim=True)
    wanted_spread, wanted_mean = torch.var_mean(features, (2, 3), keepdim=True)
    return (x - mean) / (spread + least).sqrt() * (wanted_spread + least).sqrt() + wanted_mean


def detects(state: dict[str, Tensor]) -> bool:
    """Whether these are weights of a CodeFormer."""
    return all(key in state for key in TELLTALE)


def build(state: dict[str, Tensor]) -> CodeFormer:
    """A CodeFormer of the size that the weights tell, with these weights, on the CPU in float32.

    Raises:
        KeyError, RuntimeError: keys are missing, unknown, or of the wrong shape.
    """
    places, width = state["position_emb"].shape
    codes, code = state["quantize.embedding.weight"].shape
    sizes = {key.split(".")[1] for key in state if key.startswith("fuse_convs_dict.")}
    fused = {size: state[f"fuse_convs_dict.{size}.scale.0.weight"].shape[0] for size in sorted(sizes, key=int)}
    layers = len({key.split(".")[1] for key in state if key.startswith("ft_layers.")})
    with torch.device("meta"):
        first = state["encoder.blocks.0.weight"].shape[0]
        network = CodeFormer(first, code, codes, places, width, layers, fused)
    network.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return network
