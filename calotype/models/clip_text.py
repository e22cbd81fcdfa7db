"""CLIP's text transformer: tokens in, one vector per token out. Radford et al. 2021, section 2.4.

transformers has the same network, but its import takes two to three seconds, more than generating a small picture.
Modules and weights have the names of transformers 4, which checkpoints and LoRAs use.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
}


@dataclass(frozen=True)
class TextShape:
    """The configuration of a text encoder, by the names of a transformers config.json."""

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int = 0  # 0: none (CLIPTextModel); else CLIPTextModelWithProjection

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "TextShape":
        """From a config.json; the projection is used only where the architecture has one.

        Raises:
            KeyError, TypeError, ValueError: it is not the configuration of a text encoder.
        """
        names = [name for name in cls.__dataclass_fields__ if name != "projection_dim" and name in config]
        has_projection = "CLIPTextModelWithProjection" in (config.get("architectures") or ())
        shape = cls(
            **{name: config[name] for name in names}, projection_dim=config["projection_dim"] if has_projection else 0
        )
        if shape.hidden_act not in ACTIVATIONS or shape.hidden_size % shape.num_attention_heads:
            raise ValueError(f"no text encoder has {shape.hidden_act} and {shape.num_attention_heads} heads")
        return shape


@dataclass(frozen=True, eq=False)
class TextStates:
    """The encoder's output for N rows of L tokens."""

    layers: tuple[Tensor, ...]  # (N, L, D) each: the embeddings, then the output of every layer, not normalised
    pooled: Tensor | None  # (N, P): the end token's projected state; None without a projection


class TextEncoder(nn.Module):
    """`encoder(embedded, ends)`: (N, L, D) embeddings -> TextStates; causal attention."""

    def __init__(self, shape: TextShape):
        super().__init__()
        self.shape = shape
        self.text_model = _Transformer(shape)
        width = shape.hidden_size
        self.text_projection = nn.Linear(width, shape.projection_dim, bias=False) if shape.projection_dim else None

    def embed(self, ids: Tensor) -> Tensor:
        """(N, L) token ids -> (N, L, D), without position embeddings; textual inversion vectors may replace some."""
        return self.text_model.embeddings.token_embedding(ids)

    def forward(self, embedded: Tensor, ends: Tensor) -> TextStates:
        """`ends`, (N,): position of the first end token of each row."""
        positions = self.text_model.embeddings.position_embedding.weight
        x = embedded + positions[: embedded.shape[1]]
        layers = [x]
        for layer in self.text_model.encoder.layers:
            layers.append(layer(layers[-1]))
        return TextStates(tuple(layers), self._pooled(layers[-1], ends))

    def normalised(self, x: Tensor) -> Tensor:
        """The final layer norm, applied to any layer's states."""
        return self.text_model.final_layer_norm(x)

    def _pooled(self, last: Tensor, ends: Tensor) -> Tensor | None:
        if self.text_projection is None:
            return None
        return self.text_projection(self.normalised(last)[torch.arange(len(last), device=last.device), ends])


class _Transformer(nn.Module):
    def __init__(self, shape: TextShape):
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.token_embedding = _embedding(shape.vocab_size, shape.hidden_size)
        self.embeddings.position_embedding = _embedding(shape.max_position_embeddings, shape.hidden_size)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.num_hidden_layers))
        self.final_layer_norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)


def _embedding(count: int, width: int) -> nn.Embedding:
    """Without random initial values, which are never used; on the meta device they would load torch's compiler."""
    return nn.Embedding(count, width, _weight=torch.empty(count, width))


class _Layer(nn.Module):
    def __init__(self, shape: TextShape):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.self_attn = _Attention(shape)
        self.layer_norm2 = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.mlp = _Mlp(shape)

    def forward(self, x: Tensor) -> Tensor:  # (N, L, D)
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class _Attention(nn.Module):
    def __init__(self, shape: TextShape):
        super().__init__()
        self.heads = shape.num_attention_heads
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            self.add_module(name, nn.Linear(shape.hidden_size, shape.hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = (
            project(x).view(n, length, self.heads, width // self.heads).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(y.transpose(1, 2).reshape(n, length, width))


class _Mlp(nn.Module):
    def __init__(self, shape: TextShape):
        super().__init__()
        self.activation = ACTIVATIONS[shape.hidden_act]
        self.fc1 = nn.Linear(shape.hidden_size, shape.intermediate_size)
        self.fc2 = nn.Linear(shape.intermediate_size, shape.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


def transformers_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of any transformers version, by the names of version 4; position_ids is left out."""
    roots = ("embeddings.", "encoder.", "final_layer_norm.")
    named = {("text_model." + key if key.startswith(roots) else key): value for key, value in state.items()}
    return {key: value for key, value in named.items() if not key.endswith("position_ids")}


def init_encoder(shape: TextShape, generator: torch.Generator) -> TextEncoder:
    """An untrained encoder with CLIP's initialisation (Radford et al. 2021, as in transformers)."""
    encoder, width = TextEncoder(shape), shape.hidden_size
    inner = width**-0.5 * (2 * shape.num_hidden_layers) ** -0.5
    std = {"k_proj": inner, "v_proj": inner, "q_proj": inner, "out_proj": width**-0.5, "fc1": (2 * width) ** -0.5}
    std |= {"fc2": inner, "token_embedding": 0.02, "position_embedding": 0.02, "text_projection": width**-0.5}
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std[name.rpartition(".")[2]], generator=generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return encoder
