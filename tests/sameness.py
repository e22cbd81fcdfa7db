"""Keeps what every command of Calotype writes, and compares two such records: does a change leave all results alone?

    python tests/sameness.py record before
    ... change the program ...
    python tests/sameness.py record after --inputs before/inputs
    python tests/sameness.py compare before after

What runs is the `calotype` that can be imported: `PYTHONPATH=/another/tree` records another one. Bits depend on torch
and on the processor too, so both records are to be made on one machine. `compare` ends with status 1 where any file,
exit status or output differs; of what is refused, and of help, the wording may differ (--texts: it may not).
`keep tests/data/head` makes anew the files that `test_head.py` reads.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from same import compare, keep
from same.commands import commands
from same.faults import faults
from same.inputs import age, make
from same.run import MANIFEST, Scratch, facts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    does = parser.add_subparsers(required=True)
    one = does.add_parser("record", help="run every command, keep what it writes")
    one.add_argument("folder", type=Path)
    one.add_argument("--inputs", type=Path, help="inputs of an earlier record, in place of new ones")
    one.add_argument("--only", default="", help="only commands whose names begin so; several by commas")
    one.add_argument("--scratch", type=Path, help="where to work; the same place in all records")
    one.set_defaults(does=record)
    two = does.add_parser("compare", help="compare two records")
    two.add_argument("first", type=Path)
    two.add_argument("second", type=Path)
    two.add_argument("--texts", action="store_true", help="other words are a difference too")
    two.add_argument("--only", default="", help="as for record: beginnings of names, by commas")
    two.set_defaults(does=lambda asked: compare.compare(asked.first, asked.second, asked.only, asked.texts))
    three = does.add_parser("keep", help="write the files that later versions must be able to read")
    three.add_argument("folder", type=Path)
    three.add_argument("--scratch", type=Path, help="where to work")
    three.set_defaults(does=lambda asked: in_scratch(asked.scratch, lambda scratch: keep.keep(scratch, asked.folder)))
    asked = parser.parse_args()
    return asked.does(asked)


def record(asked: argparse.Namespace) -> int:
    if asked.folder.exists():
        print(f"{asked.folder} is there already", file=sys.stderr)
        return 2
    return in_scratch(asked.scratch, lambda scratch: _record(scratch, asked))


def in_scratch(place: Path | None, work: Callable[[Scratch], int]) -> int:
    """Paths are part of some results, so all records are made in one place."""
    place = (place or Path(tempfile.gettempdir()) / "calotype-sameness").absolute()
    try:
        place.mkdir(parents=True)
    except FileExistsError:
        print(f"{place} is there: another record is at work, or was broken off; delete it", file=sys.stderr)
        return 2
    try:
        (place / "home").mkdir()
        return work(Scratch(place))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _record(scratch: Scratch, asked: argparse.Namespace) -> int:
    inputs, begun = scratch.folder / "in", time.monotonic()
    if asked.inputs:
        shutil.copytree(asked.inputs, inputs)
        age(inputs)
    else:
        make(inputs)
    shutil.copytree(inputs, asked.folder / "inputs")
    told: dict[str, Any] = {"facts": facts(scratch), "commands": {}}
    for command in (one for one in (*commands(), *faults()) if compare.is_chosen(one.name, asked.only)):
        did = scratch.run(command, asked.folder / command.name)
        told["commands"][command.name] = did
        odd = "" if did["status"] == command.status else f"  expected status {command.status}"
        print(f"{did['seconds']:6.1f} s  status {did['status']:3}  {command.name}{odd}", flush=True)
        (asked.folder / MANIFEST).write_text(json.dumps(told, indent=1))
    print(f"{time.monotonic() - begun:.0f} s in all, {len(told['commands'])} commands")
    return 0


if __name__ == "__main__":
    sys.exit(main())
