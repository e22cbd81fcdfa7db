"""What the U-Net of a checkpoint predicts: by marker keys, a config beside the file, or the metadata of the file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from calotype.checkpoints.header import metadata_of
from calotype.errors import CalotypeError

EPSILON, V, FLOW = "epsilon", "v_prediction", "flow_prediction"
OPTIONS = {"epsilon": EPSILON, "v": V, "flow": FLOW}  # values of the option -> diffusers' prediction_type
SPELLINGS = {
    EPSILON: ("epsilon", "eps", "epsilon_prediction", "noise"),
    V: ("v", "v_prediction", "v_pred", "vpred", "velocity"),
    FLOW: ("flow", "flow_prediction", "flow_matching", "rectified_flow", "rf"),
}
METADATA = ("modelspec.prediction_type", "modelspec.predict_key")
MAX_CONFIG = 1 << 20  # bytes of a .yaml


def declared(keys: Iterable[str], path: Path) -> str:
    """diffusers' prediction_type as the file declares it; empty if nothing does.

    Keys take precedence (`v_pred`, of NovelAI and its descendants), then a `.yaml` with the name of the file, as A1111
    has it, then the metadata of ModelSpec.
    """
    if "v_pred" in keys:
        return V
    return _in_config(path) or _in_metadata(path)


def named(spelling: Any) -> str:
    """diffusers' prediction_type of one of the many spellings; empty for an unknown one."""
    word = str(spelling).strip().lower().replace("-", "_").replace(" ", "_")
    return next((kind for kind, words in SPELLINGS.items() if word in words), "")


def check_sampled(prediction_type: str, name: str) -> None:
    """Raises CalotypeError for what Calotype cannot sample or train."""
    if prediction_type not in (EPSILON, V):
        raise CalotypeError(
            "{model} predicts {prediction}, which Calotype cannot sample; use a model that predicts epsilon or v, or "
            "give one of these with {option:prediction} if its file is wrong",
            option="prediction",
            model=name,
            prediction="flow" if prediction_type == FLOW else prediction_type,
        )


def _in_metadata(path: Path) -> str:
    metadata = metadata_of(path)
    found = next((kind for name in METADATA if (kind := named(metadata.get(name, "")))), "")
    is_768 = metadata.get("modelspec.architecture", "").startswith("stable-diffusion-v2-768-v")
    return found or (V if is_768 else "")


def _in_config(path: Path) -> str:
    """`model.params.parameterization` of the original's config, or the scaling of its denoiser for SDXL."""
    for config_path in (path.with_suffix(".yaml"), path.with_suffix(".yml")):
        try:
            if not config_path.is_file() or config_path.stat().st_size > MAX_CONFIG:
                continue
            config = yaml.safe_load(config_path.read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            continue  # only what can be read declares anything
        if kind := named(_below(config, "model", "params", "parameterization")):
            return kind
        denoiser = ("model", "params", "denoiser_config", "params", "scaling_config", "target")
        scaling = str(_below(config, *denoiser)).rpartition(".")[2]
        kind = {"VScaling": V, "VScalingWithEDMcNoise": V, "EpsScaling": EPSILON}.get(scaling, "")
        if kind:
            return kind
    return ""


def _below(data: Any, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data
