"""`calotype info` and `calotype doctor`."""

from pathlib import Path
from typing import Any

from calotype.cli.flags import argument, flag, flags, given, shape
from calotype.cli.show import clean, print_json, table
from calotype.cli.wording import WORDING
from calotype.options import visible
from calotype.outputs.describe import describe
from calotype.settings import Settings
from calotype.tasks import TASKS

PLACE = "yes, use --strip-location to leave it out of results"
MARKS = {"good": "ok", "note": "--", "bad": "!!"}


def doctor(**values: Any) -> int:
    """Tell what this computer can do, what is missing, and the command that mends it."""
    from calotype.doctor import examine, is_well

    findings = examine(Settings.gather(given(Settings, values)))
    rows = [(f.state, f.what, WORDING.fill(f.text), f.mend and WORDING.command(f.mend)) for f in findings]
    if values["json"]:
        told = [{"what": what, "state": state, "text": text, "mend": mend or ""} for state, what, text, mend in rows]
        print_json({"well": is_well(findings), "findings": told})
    else:
        rows = [[MARKS[state], what, text, f"mend: {mend}" if mend else ""] for state, what, text, mend in rows]
        table("", ["", "what", "found", ""], rows)
        print("\nPhotos can be restored." if is_well(findings) else "\nPhotos can't be restored until !! is mended.")
    return 0 if is_well(findings) else 1


def info(**values: Any) -> int:
    """Tell what a picture carries: size, depth, profile, date, and the record of what Calotype did."""
    file = values["file"]
    facts, record = describe(file, Settings.gather().max_pixels)
    if "location" in facts:
        facts["location"] = PLACE if facts["location"] else "no"
    if values["json"]:
        print_json({"file": str(file), **facts, "record": record})
        return 0
    table("", ["", ""], [[name, value] for name, value in facts.items() if value and name != "parameters"])
    if infotext := facts.get("parameters"):
        print()
        table("parameters", ["", ""], [[name, value] for name, value in infotext.items() if value])
    if record is None:
        print("\nno record of Calotype's")
    else:
        print()
        table("what was done", ["", ""], list(_flat(record)))
    return 0


def _flat(record: dict[str, Any]) -> Any:
    yield ["task", record["task"]]
    if record["source_name"]:
        yield from (["source", record["source_name"]], ["source sha256", record["source_sha256"]])
    for model in record["models"]:
        yield ["model", f"{model['name']}  sha256 {model['sha256']}"]
    usual = {spec.name: spec.default for spec in visible(TASKS[record["task"]])} if record["task"] in TASKS else {}
    said = {name: value for name, value in record["options"].items() if value != usual.get(name)}
    for name, value in (said | record["computed"]).items():
        yield [name.replace("_", " "), value]
    for face in record["faces"]:
        x, y, width, height = face["box"]
        fate = f"strength {face['strength']:g}" if face["treated"] else f"left alone: {face['why']}"
        yield [
            f"face {face['number']}",
            f"{width:.0f}×{height:.0f} at {x:.0f},{y:.0f}, {face['confidence']:.0%}, {fate}",
        ]
    for sentence in record["said"]:
        yield ["said", clean(sentence)]


AS_JSON = flag("json", "as JSON")
shape(doctor, *flags(Settings), AS_JSON)
shape(info, argument("file", Path, "a picture, or the .json beside a result", "FILE"), AS_JSON)
