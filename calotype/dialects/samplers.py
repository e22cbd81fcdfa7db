"""Samplers and schedules by the names of other programs, or the nearest there are."""

import re

from calotype.errors import CalotypeError, Message
from calotype.files import readable
from calotype.samplers import MISSING, SAMPLERS, SHAPED, SPACED, sampler_named, schedule_named

SAME = {  # names that differ by more than spelling
    "pndm": "PLMS",
    "lmsd": "LMS",
    "unipcbh2": "UniPC",
    "dpm++2mcfgpp": "DPM++ 2M",
    "dpmsolver": "DPM++ 2M",
    "dpmsolvermultistep": "DPM++ 2M",
    "dpmmultistep": "DPM++ 2M",
    "kdpm2": "DPM2",
    "kdpm2a": "DPM2 a",
    "ddimv3": "DDIM",
}
NEAREST = {  # samplers that diffusers does not have, besides those of A1111
    "ddpm": "Euler a",
    "naismea": "Euler a",
    "naismeadyn": "Euler a",
    "eulercfgpp": "Euler",
    "euleracfgpp": "Euler a",
    "dpm++2sacfgpp": "DPM++ SDE",
    "dpm++2s": "DPM++ 2M",
    "dpm++3m": "DPM++ 2M",
    "dpm++1s": "DPM++ 2M",
    "dpmsde": "DPM++ SDE",
    "dpm++3mheun": "DPM++ 2M",
    "resmultistep": "DPM++ 2M",
    "gradientestimation": "Euler",
    "ersde": "DPM++ 3M SDE",
    "sasolver": "DPM++ 2M SDE",
    "seeds2": "DPM++ SDE",
    "seeds3": "DPM++ SDE",
    "tcd": "LCM",
}
SCHEDULE_NAMES = {
    "ddim uniform": "ddim",
    "trailing": "sgm uniform",
    "leading": "ddim",
    "linspace": "uniform",
    "native": "uniform",
    "default": "automatic",
    "lcm": "automatic",
    "discrete": "normal",
}
NEAREST_SCHEDULES = {
    "polyexponential": "exponential",
    "kl optimal": "karras",
    "linear quadratic": "simple",
    "turbo": "sgm uniform",
    "align your steps gits": "align your steps",
    "align your steps 11": "align your steps",
    "align your steps 32": "align your steps",
    "ays gits": "align your steps",
    "beta57": "beta",
}

SPACED_INSTEAD = {"simple": "sgm uniform", "normal": "uniform", "uniform": "ddim", "sgm uniform": "uniform"}


def resolve(sampler: str, schedule: str) -> tuple[str, str, list[Message]]:
    """A sampler and a schedule of ours for those of another program, and notes where they are not the same.

    "auto" and "automatic", the model's defaults, where the names say nothing.
    """
    name, suffix, notes = _sampler(sampler)
    requested = schedule if schedule.strip().lower() not in ("", "automatic", "default") else suffix or "automatic"
    found, schedule_notes = _schedule(requested)
    notes += schedule_notes
    if name == "auto":
        return name, "automatic", notes
    if name == "DDIM" and found not in ("automatic", *SPACED):
        name = "Euler"  # without noise between steps the two are the same, and Euler takes every schedule
    if found == "automatic" or _follows(name, found):
        return name, found, notes
    nearest = SPACED_INSTEAD.get(found, "automatic")
    nearest = nearest if _follows(name, nearest) else "automatic"
    sentence = "the sampler {sampler} cannot follow the schedule {schedule}; {nearest} is used"
    return name, nearest, [*notes, Message(sentence, sampler=name, schedule=found, nearest=nearest)]


def _follows(sampler: str, schedule: str) -> bool:
    try:
        sampler_named(sampler, schedule)
    except CalotypeError:
        return False
    return True


def _sampler(text: str) -> tuple[str, str, list[Message]]:
    key, suffix = _key(text), ""
    for ending in (*SHAPED, "ka"):
        if key.endswith(ending) and key.removesuffix(ending) in _KNOWN:
            key, suffix = key.removesuffix(ending), "karras" if ending == "ka" else ending
    if key.endswith("k") and key[:-1] in _KNOWN:  # InvokeAI
        key, suffix = key[:-1], "karras"
    if key in _SAME:
        return _SAME[key], suffix, []
    if key in _NEAREST:
        return _NEAREST[key], suffix, [_instead(text, _NEAREST[key])]
    if key in ("", "auto"):
        return "auto", suffix, []
    return "auto", suffix, [Message("the sampler {name!r} is not known; the model's default is used", name=text)]


def _instead(name: str, nearest: str) -> Message:
    sentence = "the sampler {name} does not exist in diffusers; {nearest}, the nearest, is used"
    return Message(sentence, name=readable(name), nearest=nearest)


def _schedule(text: str) -> tuple[str, list[Message]]:
    name = " ".join(re.sub(r"[_-]", " ", text.lower()).split())
    name = SCHEDULE_NAMES.get(name, name)
    try:
        return schedule_named(name), []
    except CalotypeError:
        nearest = NEAREST_SCHEDULES.get(name)
    if nearest:
        sentence = "there is no schedule {name}; {nearest}, the nearest, is used"
        return nearest, [Message(sentence, name=readable(text), nearest=nearest)]
    return "automatic", [Message("the schedule {name!r} is not known; that of the sampler is used", name=text)]


def _key(text: str) -> str:
    """A name without what only spelling adds: `k_dpmpp_2s_ancestral` and "DPM++ 2S a" are the same."""
    name = text.lower().replace("dpmpp", "dpm++").replace("ancestral", "a").removeprefix("k_").removeprefix("sample_")
    name = re.sub(r"_gpu\b|_brownian\b", "", name)
    return re.sub(r"[\s_\-]+", "", name)


_SAME = {_key(name): name for name in SAMPLERS} | SAME
_NEAREST = {_key(name): nearest for name, nearest in MISSING.items()} | NEAREST
_KNOWN = {*_SAME, *_NEAREST}
