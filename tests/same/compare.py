"""Two records side by side: a table of commands, what differs, and, apart from that, other words."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from same import forms
from same.run import MANIFEST

UNLIKE = ("torch", "cpu", "python", "machine", "scratch")  # facts without which bytes cannot be the same


@dataclass
class Verdict:
    """What became of one command."""

    files: int = 0
    formed: int = 0  # files that are the same in the form that `forms` gives them
    differences: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)  # other words


class Record:
    """A folder that `record` wrote."""

    def __init__(self, folder: Path):
        self.folder = folder
        told = json.loads((folder / MANIFEST).read_text())
        self.facts: dict[str, str] = told["facts"]
        self.commands: dict[str, dict[str, Any]] = told["commands"]
        self.words = {self.facts["package"]: "PACKAGE", self.facts["scratch"]: "SCRATCH"}

    def files(self, name: str) -> dict[str, Path]:
        """By names without clock and machine."""
        written = filter(forms.is_ours, self.commands[name]["files"])
        return {forms.name(file): self.folder / name / "files" / file for file in written}

    def deleted(self, name: str) -> list[str]:
        return sorted(map(forms.name, filter(forms.is_ours, self.commands[name]["deleted"])))

    def printed(self, name: str, stream: str) -> bytes:
        return (self.folder / name / stream).read_bytes()


def compare(one: Path, other: Path, only: str = "", texts_too: bool = False) -> int:
    """Prints the table. Returns 1 where anything differs, 0 otherwise."""
    first, second = Record(one), Record(other)
    for fact in UNLIKE:
        if first.facts[fact] != second.facts[fact]:
            print(f"{fact} was {first.facts[fact]}, is {second.facts[fact]}: bits may differ for that alone")
    names = [name for name in dict.fromkeys([*first.commands, *second.commands]) if is_chosen(name, only)]
    verdicts = {name: judged(first, second, name) for name in names}
    verdicts["(inputs)"] = _inputs(one / "inputs", other / "inputs")
    for name, verdict in verdicts.items():
        told = "DIFFERENT" if verdict.differences else "same"
        formed = f", {verdict.formed} of them but for clock and paths" if verdict.formed else ""
        print(f"{name:32} {verdict.files:4} files  {told}{formed}")
        for sentence in verdict.differences:
            print(f"{'':33}{sentence}")
    worded = {name: verdict.texts for name, verdict in verdicts.items() if verdict.texts}
    print(f"\nother words: {len(worded)} commands" if worded else "\nno other words")
    for name, texts in worded.items():
        print(f"{name}\n" + "\n".join(f"    {text}" for text in texts))
    wrong = [name for name, verdict in verdicts.items() if verdict.differences]
    print(f"\n{len(verdicts)} compared, {len(wrong)} different{': ' if wrong else ''}{', '.join(wrong)}")
    return 1 if wrong or (texts_too and worded) else 0


def is_chosen(name: str, only: str) -> bool:
    """Whether it begins as one of the words with commas between; all do where there are none."""
    starts = tuple(filter(None, only.split(",")))
    return not starts or name.startswith(starts)


def judged(first: Record, second: Record, name: str) -> Verdict:
    verdict = Verdict()
    missing = [record.folder for record in (first, second) if name not in record.commands]
    if missing:
        verdict.differences.append(f"not in {missing[0]}")
        return verdict
    then, now = first.commands[name], second.commands[name]
    for fact in ("line", "status"):
        if then[fact] != now[fact]:
            verdict.differences.append(f"{fact} {then[fact]}, now {now[fact]}")
    if first.deleted(name) != second.deleted(name):
        verdict.differences.append(f"deleted {first.deleted(name)}, now {second.deleted(name)}")
    _files(first.files(name), second.files(name), (first.words, second.words), verdict)
    _printed(first, second, name, verdict)
    return verdict


def _files(then: dict[str, Path], now: dict[str, Path], words: tuple[forms.Words, forms.Words], to: Verdict) -> None:
    to.files = len(then)
    to.differences += [f"{name} is no longer written" for name in then.keys() - now.keys()]
    to.differences += [f"{name} was not written" for name in now.keys() - then.keys()]
    for name in sorted(then.keys() & now.keys()):
        one, other = then[name].read_bytes(), now[name].read_bytes()
        if one == other:
            continue
        if forms.form(name, one, words[0]) == forms.form(name, other, words[1]):
            to.formed += 1
        else:
            to.differences.append(f"{name}: {forms.difference(name, one, other, words)}")


def _printed(first: Record, second: Record, name: str, to: Verdict) -> None:
    """What is a result in the output is a difference; what is wording goes to the texts."""
    kind = second.commands[name]["kind"]
    if kind == "status":
        return
    streams = ("stdout", "stderr")
    then, now = ({stream: record.printed(name, stream) for stream in streams} for record in (first, second))
    if kind == "result":
        (facts, sentences), (new_facts, new_sentences) = (
            forms.output(printed["stdout"], record.words) for printed, record in ((then, first), (now, second))
        )
        if facts != new_facts:
            to.differences.append(f"stdout {forms.differing(facts, new_facts)}")
        if sentences != new_sentences:
            to.texts.append(f"stdout {forms.differing(sentences, new_sentences)}")
        streams = ("stderr",)
    if kind == "help" and forms.options(then["stdout"]) != forms.options(now["stdout"]):
        to.differences.append(f"options {forms.differing(forms.options(then['stdout']), forms.options(now['stdout']))}")
    to.texts += list(_texts(first, second, then, now, streams))


def _texts(first: Record, second: Record, then: Any, now: Any, streams: tuple[str, ...]) -> Iterator[str]:
    for stream in streams:
        one, other = forms.text(then[stream], first.words), forms.text(now[stream], second.words)
        if one != other:
            yield f"{stream} {forms.differing(one, other)}"


def _inputs(one: Path, other: Path) -> Verdict:
    verdict = Verdict()
    pairs = [{path.relative_to(f).as_posix(): path for path in f.rglob("*") if path.is_file()} for f in (one, other)]
    _files(*pairs, ({}, {}), verdict)
    return verdict
