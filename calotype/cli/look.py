"""`calotype info` and `calotype doctor`."""

from pathlib import Path
from typing import Any

from calotype.cli.flags import argument, flag, flags, given_options, set_signature
from calotype.cli.show import print_json, printable, table
from calotype.cli.wording import WORDING
from calotype.options import visible
from calotype.outputs.describe import describe
from calotype.settings import Settings
from calotype.tasks import TASKS

LOCATION = "yes, use --strip-location to remove it from results"
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
        rows = [[MARKS[state], what, text, f"fix: {mend}" if mend else ""] for state, what, text, mend in rows]
        table("", ["", "what", "found", ""], rows)
        print("\nPhotos can be restored." if is_well(findings) else "\nPhotos can't be restored until !! is fixed.")
    return 0 if is_well(findings) else 1


def info(**values: Any) -> int:
    """Show the metadata of a picture: size, depth, profile, date, and Calotype's record."""
    file = values["file"]
    facts, record = describe(file, Settings.gather().max_pixels, WORDING)
    if "location" in facts:
        facts["location"] = LOCATION if facts["location"] else "no"
    if values["json"]:
        print_json({"file": str(file), **facts, "record": record})
        return 0
    table("", ["", ""], [[name, value] for name, value in facts.items() if value and name != "parameters"])
    if infotext := facts.get("parameters"):
        print()
        table("parameters", ["", ""], [[name, value] for name, value in infotext.items() if value])
    if record is None:
        print("\nno Calotype record")
    else:
        print()
        table("record", ["", ""], list(_record_rows(record)))
    return 0


def _record_rows(record: dict[str, Any]) -> Any:
    yield ["task", record["task"]]
    if record["source_name"]:
        yield from (["source", record["source_name"]], ["source sha256", record["source_sha256"]])
    for model in record["models"]:
        yield ["model", f"{model['name']}  sha256 {model['sha256']}"]
    defaults = {spec.name: spec.default for spec in visible(TASKS[record["task"]])} if record["task"] in TASKS else {}
    changed = {name: value for name, value in record["options"].items() if value != defaults.get(name)}
    for name, value in (changed | record["computed"]).items():
        yield [name.replace("_", " "), value]
    for face in record["faces"]:
        x, y, width, height = face["box"]
        outcome = f"strength {face['strength']:g}" if face["treated"] else f"skipped: {face['why']}"
        yield [
            f"face {face['number']}",
            f"{width:.0f}×{height:.0f} at {x:.0f},{y:.0f}, {face['confidence']:.0%}, {outcome}",
        ]
    for sentence in record["said"]:
        yield ["said", printable(sentence)]


AS_JSON = flag("json", "as JSON")
set_signature(doctor, *flags(Settings), AS_JSON)
set_signature(info, argument("file", Path, "a picture, or the .json beside a result", "FILE"), AS_JSON)
