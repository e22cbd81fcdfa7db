"""A1111's HTTP API, for programs that were written for it. Its requests become jobs, and wait for them."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from calotype import __version__
from calotype.api.access import WAITING, CallerOf, ServiceOf, admin_of
from calotype.api.body import read_json
from calotype.api.orders import check_task
from calotype.api.responses import NOT_FOUND
from calotype.api.service import Caller, Service
from calotype.api.waiting import (
    as_base64,
    check_success,
    decoded,
    picture_results,
    preview_as_base64,
    stored,
    submit,
    wait,
)
from calotype.checkpoints.store import ModelStore
from calotype.dialects.a1111_api import (
    ApiRequest,
    prompt_of,
    read_extras,
    read_img2img,
    read_interrogate,
    read_settings,
    read_txt2img,
)
from calotype.errors import CalotypeError
from calotype.jobs.jobs import FileRefs, Job, NotFound
from calotype.outputs.infotext import infotext_of
from calotype.samplers import LATENT, SAMPLERS, SCHEDULES, schedule_title
from calotype.tasks.styles import STYLES_FILE, styles

router = APIRouter(prefix="/sdapi/v1", tags=["A1111"], responses=NOT_FOUND)
BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}
NOTHING = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}
EMPTY_STATE = {
    **{"skipped": False, "interrupted": False, "stopping_generation": False, "job": "", "job_timestamp": "0"},
    **{"job_no": 0, "job_count": 0, "sampling_step": 0, "sampling_steps": 0},
}


@router.post("/txt2img", dependencies=WAITING, openapi_extra=BODY)
async def txt2img(request: Request, caller: CallerOf, service: ServiceOf) -> dict[str, Any]:
    """Generate pictures from a prompt, and wait for them."""
    return await _draw(request, caller, service, read_txt2img)


@router.post("/img2img", dependencies=WAITING, openapi_extra=BODY)
async def img2img(request: Request, caller: CallerOf, service: ServiceOf) -> dict[str, Any]:
    """Generate pictures from a picture, with or without a mask, and wait for them."""
    return await _draw(request, caller, service, read_img2img)


async def _draw(request: Request, caller: Caller, service: Service, reader: Any) -> dict[str, Any]:
    data = await read_json(request, service.max_upload)
    asked = await run_in_threadpool(lambda: reader(data, _settings(service, caller)))
    job = await _run(service, caller, asked)
    pictures = await run_in_threadpool(_pictures, service, job) if asked.fields["send_images"] else []
    seeds = [int(result.facts.get("seed") or 0) for result in job.results]
    infotexts = await run_in_threadpool(_infotexts, service, job)
    fields = asked.fields
    count = len(job.results)
    info = {
        "prompt": fields["prompt"],
        "all_prompts": [fields["prompt"]] * count,
        "negative_prompt": fields["negative_prompt"],
        "all_negative_prompts": [fields["negative_prompt"]] * count,
        "seed": seeds[0] if seeds else -1,
        "all_seeds": seeds,
        "subseed": fields["subseed"],
        "all_subseeds": [fields["subseed"]] * count,
        "subseed_strength": fields["subseed_strength"],
        "width": fields["width"],
        "height": fields["height"],
        "sampler_name": asked.task["sampler"],
        "cfg_scale": fields["cfg_scale"],
        "steps": fields["steps"],
        "batch_size": fields["batch_size"],
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": asked.task.get("model", "emoji"),
        "denoising_strength": fields["denoising_strength"],
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": infotexts,
        "styles": list(fields["styles"]),
        "clip_skip": asked.task.get("clip_skip", 1),
        "version": f"Calotype {__version__}",
    }
    hidden = () if fields.get("include_init_images") else ("init_images", "mask")
    shown = {name: None if name in hidden else value for name, value in data.items()}
    return {"images": pictures, "parameters": shown, "info": json.dumps(info)}


@router.post("/extra-single-image", dependencies=WAITING, openapi_extra=BODY)
async def extra_single_image(request: Request, caller: CallerOf, service: ServiceOf) -> dict[str, Any]:
    """Enlarge a picture, and restore its faces."""
    data = await read_json(request, service.max_upload)
    [picture] = await _enhance(data, [data.get("image")], caller, service)
    return {"html_info": "", "image": picture}


@router.post("/extra-batch-images", dependencies=WAITING, openapi_extra=BODY)
async def extra_batch_images(request: Request, caller: CallerOf, service: ServiceOf) -> dict[str, Any]:
    """As extra-single-image, for several pictures."""
    data = await read_json(request, service.max_upload)
    entries = data.get("imageList")
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries) or len(entries) > 100:
        raise CalotypeError("{option} is a list of up to 100 objects with data and name", option="imageList")
    pictures = [entry.get("data") for entry in entries]
    return {"html_info": "", "images": await _enhance(data, pictures, caller, service)}


async def _enhance(data: Mapping[str, Any], pictures: Sequence[Any], caller: Caller, service: Service) -> list[str]:
    faces = await run_in_threadpool(_models, service, caller, "faces")
    results = []
    for picture in pictures:
        job = await _run(service, caller, read_extras(data, picture, faces))
        results += (await run_in_threadpool(_pictures, service, job))[:1] or [""]
    return results


@router.post("/png-info", dependencies=WAITING, openapi_extra=BODY)
async def png_info(request: Request, _: CallerOf, service: ServiceOf) -> dict[str, Any]:
    """The parameters that a picture was generated with."""
    data = await read_json(request, service.max_upload)

    def read() -> tuple[str, dict[str, str]]:
        with tempfile.TemporaryDirectory(prefix="calotype-") as folder:
            path = Path(folder, "picture")
            path.write_bytes(decoded(service, data.get("image"), "image").getvalue())
            return infotext_of(path, service.settings.max_pixels)

    text, parameters = await run_in_threadpool(read)
    return {"info": text, "items": {"parameters": text} if text else {}, "parameters": parameters}


@router.post("/interrogate", dependencies=WAITING, openapi_extra=BODY)
async def interrogate(request: Request, caller: CallerOf, service: ServiceOf) -> dict[str, Any]:
    """Tags of a picture as a prompt, where a tagger is installed: the surest first for the model clip, sorted for
    deepdanbooru."""
    asked = read_interrogate(await read_json(request, service.max_upload))
    if not service.has_tagger:
        raise CalotypeError("no tagger is installed in this service; its owner can name one when it is started")
    job = await _run(service, caller, asked)
    tags = next((str(result.facts.get("text", "")) for result in job.results), "")
    return {"caption": prompt_of(tags, asked.fields["model"])}


async def _run(service: Service, caller: Caller, asked: ApiRequest) -> Job:
    """Queues the job of a request, and waits until it ends. Raises Refusal if it fails."""
    service.check_open()
    job = await wait(service, await run_in_threadpool(_submit, service, caller, asked))
    check_success(job)
    return job


def _submit(service: Service, caller: Caller, asked: ApiRequest) -> Job:
    service.check_storage(caller)
    files: dict[str, FileRefs] = {
        name: stored(service, caller, decoded(service, text, name), name) for name, text in asked.pictures.items()
    }
    if asked.kind == "caption":  # it takes a folder
        files = {"photos": [f"{files['photos']}.png"]}
    return submit(service, caller, asked.kind, asked.task, files)


def _pictures(service: Service, job: Job) -> list[str]:
    return as_base64(service, picture_results(job))


def _infotexts(service: Service, job: Job) -> list[str]:
    files, limit = service.store.files, service.settings.max_pixels
    return [infotext_of(files.result(result.id), limit)[0] for result in picture_results(job)]


# The job at work


@router.get("/progress")
def progress(caller: CallerOf, service: ServiceOf, skip_current_image: bool = False) -> dict[str, Any]:
    """How far one's own running job is."""
    job = _running(service, caller)
    state = dict(EMPTY_STATE)
    if job is None:
        return {"progress": 0.0, "eta_relative": 0.0, "state": state, "current_image": None, "textinfo": None}
    facts = job.progress or {}
    done, total = facts.get("done") or 0, facts.get("total") or 0
    state |= {"job": job.id, "job_count": 1, "sampling_step": done, "sampling_steps": total}
    image = None if skip_current_image else preview_as_base64(service, job)
    fraction, remaining = (done / total if total else 0.0), facts.get("remaining") or 0.0
    found = {"progress": fraction, "eta_relative": remaining, "state": state, "current_image": image}
    return {**found, "textinfo": None, "current_task": job.id}


def _running(service: Service, caller: Caller) -> Job | None:
    return next(iter(service.store.find(caller.owner, ("running",), limit=1)), None)


@router.post("/interrupt", openapi_extra=NOTHING)
def interrupt(caller: CallerOf, service: ServiceOf) -> dict[str, Any]:
    """Cancel one's own running jobs, and nobody else's."""
    for job in service.store.find(caller.owner, ("running",), limit=200):
        service.store.cancel(job.id, caller.owner)
    return {}


@router.post("/skip", openapi_extra=NOTHING)
def skip(caller: CallerOf, service: ServiceOf) -> dict[str, Any]:
    """As interrupt."""
    return interrupt(caller, service)


# Settings


def _settings(service: Service, caller: Caller) -> dict[str, Any]:
    try:
        return service.presets.get(_settings_owner(caller), "settings").task
    except NotFound:
        return {}


def _settings_owner(caller: Caller) -> str:
    return f"a1111-{caller.owner}"


@router.get("/options")
def options(caller: CallerOf, service: ServiceOf) -> dict[str, Any]:
    """The settings that are followed, of this account."""
    defaults = {"sd_model_checkpoint": "emoji", "sd_vae": "Automatic", "CLIP_stop_at_last_layers": 1}
    return {**defaults, "samples_format": "png", **_settings(service, caller)}


@router.post("/options", openapi_extra=BODY)
async def set_options(request: Request, caller: CallerOf, service: ServiceOf) -> dict[str, Any]:
    """Change settings of this account; those of others stay."""
    changes = read_settings(await read_json(request))

    def save() -> None:
        read = read_txt2img({"override_settings": changes}, {})
        check_task("imagine", read.task, {}, service.names_for(caller), caller.limits)
        task = _settings(service, caller) | changes
        service.presets.put(_settings_owner(caller), "settings", "imagine", task)

    await run_in_threadpool(save)
    return {}


# Lists


@router.get("/samplers")
def samplers(_: CallerOf) -> list[dict[str, Any]]:
    """Samplers by A1111's names."""
    return [{"name": name, "aliases": list(sampler.aliases), "options": {}} for name, sampler in SAMPLERS.items()]


@router.get("/schedulers")
def schedulers(_: CallerOf) -> list[dict[str, Any]]:
    """Schedules by A1111's names."""
    more = {"aliases": [], "default_rho": -1, "need_inner_model": False}
    return [{"name": name.replace(" ", "_"), "label": schedule_title(name), **more} for name in SCHEDULES]


def _models(service: Service, caller: Caller, kind: str) -> list[str]:
    return sorted(ModelStore(service.settings, trusted=False).names(kind, caller.owner))


@router.get("/sd-models")
def sd_models(caller: CallerOf, service: ServiceOf) -> list[dict[str, Any]]:
    """Models at hand, by name; `filename` is the name too, since paths of the machine are not shown."""
    more = {"hash": None, "sha256": None, "config": None}
    return [
        {"title": name, "model_name": name, "filename": name, **more} for name in _models(service, caller, "diffusion")
    ]


@router.get("/sd-vae")
def sd_vae(caller: CallerOf, service: ServiceOf) -> list[dict[str, Any]]:
    """VAEs at hand."""
    return [{"model_name": name, "filename": name} for name in _models(service, caller, "vae")]


@router.get("/loras")
def loras(caller: CallerOf, service: ServiceOf) -> list[dict[str, Any]]:
    """LoRAs at hand."""
    return [{"name": name, "alias": name, "path": name, "metadata": {}} for name in _models(service, caller, "lora")]


@router.get("/embeddings")
def embeddings(caller: CallerOf, service: ServiceOf) -> dict[str, Any]:
    """Embeddings at hand."""
    facts = {"step": None, "sd_checkpoint": None, "sd_checkpoint_name": None, "shape": 0, "vectors": 0}
    return {"loaded": dict.fromkeys(_models(service, caller, "embedding"), facts), "skipped": {}}


@router.get("/hypernetworks")
def hypernetworks(_: CallerOf) -> list[dict[str, Any]]:
    """None: hypernetworks are not supported."""
    return []


@router.get("/upscalers")
def upscalers(caller: CallerOf, service: ServiceOf) -> list[dict[str, Any]]:
    """Super-resolution networks at hand."""
    names = ["None", "Lanczos", *_models(service, caller, "upscale")]
    more = {"model_name": None, "model_path": None, "model_url": None, "scale": 4}
    return [{"name": name, **more} for name in names]


@router.get("/realesrgan-models")
def realesrgan_models(caller: CallerOf, service: ServiceOf) -> list[dict[str, Any]]:
    """Super-resolution networks at hand."""
    return [{"name": name, "path": None, "scale": 4} for name in _models(service, caller, "upscale")]


@router.get("/latent-upscale-modes")
def latent_upscale_modes(_: CallerOf) -> list[dict[str, Any]]:
    """Latent upscalers of the hires fix."""
    return [{"name": name.capitalize()} for name in LATENT]


@router.get("/face-restorers")
def face_restorers(caller: CallerOf, service: ServiceOf) -> list[dict[str, Any]]:
    """Face restoration networks at hand."""
    return [{"name": name, "cmd_dir": None} for name in _models(service, caller, "faces")]


@router.get("/prompt-styles")
def prompt_styles(_: CallerOf, service: ServiceOf) -> list[dict[str, Any]]:
    """Styles of styles.csv in the home folder."""
    found = styles(service.settings.home / STYLES_FILE)
    return [{"name": name, "prompt": prompt, "negative_prompt": negative} for name, (prompt, negative) in found.items()]


@router.get("/scripts")
def scripts(_: CallerOf) -> dict[str, list[str]]:
    """None: scripts are not supported."""
    return {"txt2img": [], "img2img": []}


@router.get("/script-info")
def script_info(_: CallerOf) -> list[dict[str, Any]]:
    """None: scripts are not supported."""
    return []


@router.get("/cmd-flags")
def cmd_flags(_: CallerOf) -> dict[str, Any]:
    """Flags of A1111's command line that clients look at."""
    return {"api": True, "listen": False, "share": False}


@router.get("/memory")
def memory(_: CallerOf) -> dict[str, Any]:
    """Nothing of this machine is shown."""
    return {"ram": {}, "cuda": {}}


@router.post("/refresh-checkpoints", openapi_extra=NOTHING)
def refresh_checkpoints(_: CallerOf) -> dict[str, Any]:
    """Lists of models are read at each request anyway."""
    return {}


@router.post("/refresh-vae", openapi_extra=NOTHING)
def refresh_vae(_: CallerOf) -> dict[str, Any]:
    """As refresh-checkpoints."""
    return {}


@router.post("/refresh-loras", openapi_extra=NOTHING)
def refresh_loras(_: CallerOf) -> dict[str, Any]:
    """As refresh-checkpoints."""
    return {}


@router.post("/unload-checkpoint", dependencies=[Depends(admin_of)], openapi_extra=NOTHING)
def unload_checkpoint(service: ServiceOf) -> dict[str, Any]:
    """Workers drop their models before their next job, or within seconds while they wait. Only for the owner: models
    are everybody's."""
    service.store.unload_models()
    return {}


@router.post("/reload-checkpoint", openapi_extra=NOTHING)
def reload_checkpoint(_: CallerOf) -> dict[str, Any]:
    """Models are loaded when a job needs them, and again when their files change."""
    return {}
