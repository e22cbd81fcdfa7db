"""Writes the mean of the weights of two networks, of which one was trained from the other: faces-v3 is such a mean.

    python recipes/faces/mean.py FIRST SECOND OUT

What a network learns for one end costs it a little at others; halfway, more of both is left than half. The notes in
FIRST are kept.
"""

import sys

from safetensors import safe_open
from safetensors.torch import load_file, save_file


def main(first: str, second: str, out: str) -> None:
    weights, others = load_file(first), load_file(second)
    if weights.keys() != others.keys():
        sys.exit(f"{first} and {second} are not of the same architecture")
    with safe_open(first, "pt") as file:
        notes = file.metadata()
    means = {name: ((w.float() + others[name].float()) / 2).to(w.dtype) for name, w in weights.items()}
    save_file(means, out, metadata=notes)


if __name__ == "__main__":
    main(*sys.argv[1:])
