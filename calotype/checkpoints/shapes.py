"""Names and shapes of the tensors in a file, without reading their data where the format allows it."""

import json
from pathlib import Path

from calotype.checkpoints.content import NCNN, SAFETENSORS, UNKNOWN
from calotype.checkpoints.header import check_file, header_of
from calotype.checkpoints.ncnn import pair_of
from calotype.checkpoints.state_dict import tensors_in
from calotype.errors import CalotypeError, reason_of


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by key; for a safetensors file from its header alone, as fast for 7 GB as for 7 MB.

    For A1111's textual inversion embeddings these are the entries of `string_to_param`.

    Raises:
        CalotypeError: no such file, damaged, or with code in it.
    """
    content = check_file(path)
    if content == NCNN or (content == UNKNOWN and pair_of(path)):
        return {}
    if content != SAFETENSORS and not (content == UNKNOWN and path.suffix.lower() == ".safetensors"):
        return _shapes_in_pickle(path)
    try:
        header = json.loads(header_of(path))
        return {key: tuple(map(int, tensor["shape"])) for key, tensor in header.items() if key != "__metadata__"}
    except OSError as fault:
        raise CalotypeError("{path} cannot be read: {reason}", path=path, reason=reason_of(fault)) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CalotypeError("{path} is damaged or no safetensors file; fetch or copy it again", path=path) from None


def _shapes_in_pickle(path: Path) -> dict[str, tuple[int, ...]]:
    from calotype.checkpoints.pickles import read_pickle

    data = read_pickle(path)
    embeddings = data.get("string_to_param") if isinstance(data, dict) else None
    if isinstance(embeddings, dict):
        return {str(key): tuple(value.shape) for key, value in embeddings.items() if hasattr(value, "shape")}
    return {key: tuple(value.shape) for key, value in tensors_in(data, path).items()}
