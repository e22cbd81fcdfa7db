"""Text encoder hidden states of captions, as in kohya's sd-scripts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from calotype.models.diffusion import Diffusion
from calotype.ops.prompt.chunks import LENGTH


def encode_captions(
    model: Diffusion, captions: Sequence[str], max_length: int, clip_skip: int
) -> tuple[Tensor, Tensor | None]:
    """(N, L, D) as in sd-scripts: BOS, all tokens, EOS; 150 and 225 tokens are encoded in chunks and concatenated.

    Differentiable in the text encoders' adapters.
    """
    states, pooled, count = [], None, max_length // LENGTH
    for encoder in model.text:
        rows = [encoder.tokenizer.encode(caption)[:max_length] for caption in captions]
        chunks = [tokens[n * LENGTH : (n + 1) * LENGTH] for tokens in rows for n in range(count)]
        ids = torch.tensor([encoder.padded(tokens) for tokens in chunks], device=model.device)
        ends = torch.tensor([len(tokens) + 1 for tokens in chunks], device=model.device)
        output = encoder.encoder(encoder.encoder.embed(ids), ends)
        layer = encoder.select_layer(output, clip_skip).unflatten(0, (len(captions), count))
        middle = layer[:, :, 1:-1].flatten(1, 2)
        states.append(torch.cat([layer[:, 0, :1], middle, layer[:, -1, -1:]], 1))
        if output.pooled is not None:
            pooled = output.pooled.unflatten(0, (len(captions), count))[:, 0]
    return torch.cat(states, -1), pooled
