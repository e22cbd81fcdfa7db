"""`calotype info` and `calotype doctor`."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from calotype.cli.flags import argument, flag, flags, given_options, set_signature
from calotype.cli.show import print_json, printable, table
from calotype.cli.wording import WORDING
from calotype.errors import Message, recognized
from calotype.measures import Measure
from calotype.outputs.describe import describe
from calotype.settings import Settings
from calotype.tasks import TASKS

LOCATION = {True: "yes, use --strip-location to remove it from results", False: "no"}
WORDS = ("format", "width", "height", "bits", "pixels", "dpi", "profile", "date", "camera", "artist", "software")
WORDS += ("copyright", "location", "pictures", "notes", "exif", "xmp_bytes")  # of facts about a picture
WORDS += ("grey", "colour", "grey with transparency", "colour with transparency")  # its pixels
MARKS = {"good": "ok", "note": "--", "bad": "!!"}


def doctor(**values: Any) -> int:
    """Check what works on this computer, what is missing, and how to fix it."""
    from calotype.doctor import examine, is_well

    findings = examine(Settings.gather(given_options(Settings, values)))
    rows = [(f.state, f.what, WORDING.fill(f.text), f.mend and WORDING.command(f.mend)) for f in findings]
    if values["json"]:
        facts = [{"what": what, "state": state, "text": text, "mend": mend or ""} for state, what, text, mend in rows]
        print_json({"well": is_well(findings), "findings": facts})
    else:
        table("", ["", "what", "found", ""], [[MARKS[state], *_worded(*cells)] for state, *cells in rows])
        text = "Photos can be restored." if is_well(findings) else "Photos can't be restored until !! is fixed."
        print(f"\n{WORDING.translate(text)}")
    return 0 if is_well(findings) else 1


def _worded(what: str, text: str, mend: str) -> list[str]:
    return [WORDING.translate(what), text, WORDING.fill(Message("fix: {command}", command=mend)) if mend else ""]


def info(**values: Any) -> int:
    """Show the metadata of a picture: size, depth, profile, date, and Calotype's record."""
    file = values["file"]
    facts, record = describe(file, Settings.gather().max_pixels, WORDING)
    if "location" in facts:
        facts["location"] = WORDING.translate(LOCATION[bool(facts["location"])])
    if values["json"]:
        print_json({"file": str(file), **facts, "record": record})
        return 0
    facts["pixels"] = WORDING.translate(facts.get("pixels", ""))
    rows = [[WORDING.translate(name), value] for name, value in facts.items() if value and name != "parameters"]
    table("", ["", ""], rows)
    if infotext := facts.get("parameters"):
        print()
        table("parameters", ["", ""], [[name, value] for name, value in infotext.items() if value])
    if record is None:
        print(f"\n{WORDING.translate('no Calotype record')}")
    else:
        print()
        table("record", ["", ""], list(_record_rows(record)))
    return 0


def _record_rows(record: dict[str, Any]) -> Any:
    from calotype.picture.notes import as_message
    from calotype.record import fact_text, fact_title

    yield [WORDING.translate("task"), record["task"]]
    if record["source_name"]:
        yield [WORDING.translate("source"), record["source_name"]]
        yield [WORDING.translate("source sha256"), record["source_sha256"]]
    for model in record["models"]:
        yield [WORDING.translate("model"), f"{model['name']}  sha256 {model['sha256']}"]
    task = record["task"]
    defaults = {spec.name: spec.default for spec in fields(TASKS[task])} if task in TASKS else {}
    changed = {name: value for name, value in record["options"].items() if value != defaults.get(name)}
    for name, value in (changed | record["computed"]).items():
        yield [WORDING.translate(fact_title(task, name)), fact_text(value, WORDING)]
    for face in record["faces"]:
        yield [WORDING.fill(Message("face {number}", number=face["number"])), WORDING.fill(_face(face))]
    for measure in map(Measure.from_data, record.get("measures", ())):
        yield [WORDING.translate(measure.name), printable(WORDING.fill(measure.message))]
    for sentence in record["said"]:
        yield [WORDING.translate("said"), printable(WORDING.fill(as_message(sentence)))]


def _face(face: dict[str, Any]) -> Message:
    from calotype.record import REASONS

    outcome = (
        Message("strength {strength:g}", strength=face["strength"])
        if face["treated"]
        else Message("skipped: {reason}", reason=recognized(face["why"], REASONS))
    )
    x, y, width, height = face["box"]
    return Message(
        "{width:.0f}×{height:.0f} at {x:z.0f},{y:z.0f}, {confidence:.0%}, {outcome}",
        width=width,
        height=height,
        x=x,
        y=y,
        confidence=face["confidence"],
        outcome=outcome,
    )


AS_JSON = flag("json", "as JSON")
set_signature(doctor, *flags(Settings), AS_JSON)
set_signature(info, argument("file", Path, "a picture, or the .json beside a result", "FILE"), AS_JSON)
