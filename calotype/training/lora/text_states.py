"""Captions as states for the U-Net, as long as kohya's sd-scripts has them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from calotype.models.diffusion import Diffusion
from calotype.ops.prompt.chunks import LENGTH


def encoded(model: Diffusion, captions: Sequence[str], length: int, skip: int) -> tuple[Tensor, Tensor | None]:
    """(N, L, D) as kohya has them: begin, all tokens, end; 150 and 225 tokens go through in chunks and are joined.

    Gradients flow through the text encoders where something hangs on them.
    """
    states, pooled, count = [], None, length // LENGTH
    for encoder in model.text:
        rows = [encoder.tokenizer.encode(caption)[:length] for caption in captions]
        parts = [tokens[n * LENGTH : (n + 1) * LENGTH] for tokens in rows for n in range(count)]
        ids = torch.tensor([encoder.padded(tokens) for tokens in parts], device=model.device)
        ends = torch.tensor([len(tokens) + 1 for tokens in parts], device=model.device)
        told = encoder.encoder(encoder.encoder.embed(ids), ends)
        layer = encoder.select_layer(told, skip).unflatten(0, (len(captions), count))
        middle = layer[:, :, 1:-1].flatten(1, 2)
        states.append(torch.cat([layer[:, 0, :1], middle, layer[:, -1, -1:]], 1))
        if told.pooled is not None:
            pooled = told.pooled.unflatten(0, (len(captions), count))[:, 0]
    return torch.cat(states, -1), pooled
