"""The comparison of two records of `sameness.py`: blind to clock, place and chance, and to nothing else."""

import json
import struct

import pytest

from tests.same import forms


def tensors(numbers, **metadata):
    body = struct.pack(f"<{len(numbers)}f", *numbers)
    part = {"dtype": "F32", "shape": [len(numbers)], "data_offsets": [0, len(body)]}
    header = json.dumps({"__metadata__": metadata, "w": part}).encode()
    return struct.pack("<Q", len(header)) + header + body


def is_same(name, one, other):
    words = ({"/here": "SCRATCH"}, {"/there": "SCRATCH"})
    return forms.form(name, one, words[0]) == forms.form(name, other, words[1])


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        (
            "a.safetensors",
            tensors([1], a="1", ss_training_started_at="5"),
            tensors([1], ss_training_started_at="6", a="1"),
        ),
        ("a.log.jsonl", b'{"step": 1, "seconds": 2}\n{"fact": "memory", "value": 3}', b'{"step": 1, "seconds": 4}'),
        ("a.html", b"<p>finished in 1 min 3 s", b"<p>finished in 59 s"),
        ("a.json", b'{"path": "/here/a"}', b'{"path": "/there/a"}'),
    ],
)
def test_clock_place_and_order_are_no_differences(name, one, other):
    assert is_same(name, one, other)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("a.safetensors", tensors([1], a="1"), tensors([2], a="1")),
        ("a.safetensors", tensors([1], a="1"), tensors([1], a="2")),
        ("a.log.jsonl", b'{"step": 1, "loss/current": 2}', b'{"step": 1, "loss/current": 2.1}'),
        ("a.html", b"<p>loss 0.1", b"<p>loss 0.2"),
        ("a.png", b"one", b"two"),
    ],
)
def test_all_else_is(name, one, other):
    assert not is_same(name, one, other) and forms.difference(name, one, other, ({}, {}))


def test_progress_and_sentences_are_apart_from_facts():
    progress, done = {"event": "progress", "done": 1}, {"event": "done", "sha256": "a", "seconds": 3, "text": "well"}
    told = "\n".join([json.dumps(progress), json.dumps(done), "x  y in 0:03"]).encode()
    assert forms.output(told, {}) == ([{"event": "done", "sha256": "a"}, "x y in TIME"], ["text: well"])


def test_options_of_a_help_text():
    assert forms.options(b"  -s, --scale X  larger, well-known\n  --tile/--no-tile") == [
        "--no-tile",
        "--scale",
        "--tile",
        "-s",
    ]
