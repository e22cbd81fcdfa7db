"""JSON Schemas of requests, made from the dataclasses of the tasks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from calotype.errors import PLAIN, Wording
from calotype.options import about, is_required, schema, visible
from calotype.tasks import TASKS, Imagine
from calotype.tasks.output import JOB_OUTPUT_OPTIONS, DrawingOutput

UPLOAD_ID = "^[0-9a-f]{64}$"
JOB_ID = "^[0-9a-f]{32}$"
FILE_REF = r"^[0-9a-f]{64}(/[^\x00-\x1f\x7f/\\:*?\"<>|.][^\x00-\x1f\x7f/\\:*?\"<>|]{0,99})?$"
OUTPUTS = ("out", "output_dir", "report", "logging_dir")  # paths that the worker chooses
NOT_UPLOADED = (*OUTPUTS, "resume", "tagger", "tagger_tags")  # a state and an ONNX model are the owner's own


def file_options(cls: type) -> list[dataclasses.Field]:
    """The options of a task that take uploads."""
    return [spec for spec in visible(cls) if about(spec).is_path and spec.name not in NOT_UPLOADED]


def task_schema(kind: str, prefix: str = "#/$defs/", *, wording: Wording = PLAIN) -> dict[str, Any]:
    """The schema of `task` in a request: the options that are given as values.

    `prefix`: where references to nested options point. `wording`: of titles and descriptions.
    """
    root = schema(TASKS[kind], wording)
    root.pop("$schema")
    return _moved(_without_files(root), prefix)


def _without_files(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_files(entry) for entry in value]
    if not isinstance(value, Mapping):
        return value
    value = {key: _without_files(entry) for key, entry in value.items()}
    if isinstance(value.get("properties"), dict) and value.get("type") == "object":
        properties = {name: spec for name, spec in value["properties"].items() if not spec.get("x-file")}
        required = [name for name in value.get("required", ()) if name in properties]
        value = {**value, "properties": properties, "required": required}
    return value


def _moved(value: Any, prefix: str) -> Any:
    if isinstance(value, list):
        return [_moved(entry, prefix) for entry in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: entry.replace("#/$defs/", prefix) if key == "$ref" else _moved(entry, prefix)
        for key, entry in value.items()
    }


def job_schema() -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of the body of `POST /jobs`, and the components that it refers to."""
    components: dict[str, Any] = {}
    for kind, cls in TASKS.items():
        task = task_schema(kind, "#/components/schemas/")
        components |= task.pop("$defs", {})
        components[cls.__name__] = task
        components[f"{cls.__name__}Job"] = _job_of(kind, cls)
    references = [{"$ref": f"#/components/schemas/{cls.__name__}Job"} for cls in TASKS.values()]
    return {"oneOf": references}, components


def _job_of(kind: str, cls: type) -> dict[str, Any]:
    files = file_options(cls)
    upload = {"type": "string", "pattern": FILE_REF, "description": "id of an upload, or ID/photo.jpg"}
    folder = {"type": "array", "items": upload, "minItems": 1, "description": "the files of a folder"}
    file_schema = {
        "type": "object",
        "description": "ids of uploads, by the option or its path",
        "properties": {spec.name: {"anyOf": [upload, folder]} for spec in files},
        "required": [spec.name for spec in files if is_required(spec)],
    }
    properties = {
        "kind": {"const": kind},
        "task": {"$ref": f"#/components/schemas/{cls.__name__}"},
        "files": file_schema,
        "output": _output_schema() if cls is Imagine else {"type": "object", "maxProperties": 0},
        "priority": {"type": "integer", "minimum": -10, "maximum": 10, "description": PRIORITY},
        "parent": {"type": ["string", "null"], "pattern": JOB_ID},
    }
    needed = [spec.name for spec in visible(cls) if is_required(spec) and not about(spec).is_path]
    required = ["kind", *(["task"] if needed else []), *(["files"] if file_schema["required"] else [])]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


PRIORITY = "counts among jobs of the account; without it 0, or 1 for a training that only tells its plan (`dry_run`)"
JOB_EXAMPLES = {
    "imagine": {"value": {"kind": "imagine", "task": {"prompt": "red fox face, noto", "seed": 7, "count": 4}}},
    "restore": {
        "value": {"kind": "restore", "task": {"scale": 2, "strength": "0.8"}, "files": {"source": "9f86d081" * 8}}
    },
    "upscale": {
        "value": {"kind": "upscale", "task": {"model": "realesrgan-x4plus"}, "files": {"source": "9f86d081" * 8}}
    },
}


def _output_schema() -> dict[str, Any]:
    properties = schema(DrawingOutput)["properties"]
    options = {name: properties[name] for name in JOB_OUTPUT_OPTIONS}
    return {"type": "object", "properties": options, "additionalProperties": False}


def body_of(cls: type) -> dict[str, Any]:
    """The OpenAPI description of a body with the options of a dataclass."""
    root = schema(cls)
    root.pop("$schema")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": root}}}}


def preset_body() -> dict[str, Any]:
    kinds = [
        {
            "type": "object",
            "properties": {"kind": {"const": kind}, "task": {"$ref": f"#/components/schemas/{cls.__name__}"}},
            "required": ["kind"],
            "additionalProperties": False,
        }
        for kind, cls in TASKS.items()
    ]
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": kinds}}}}}
