"""Which state files belong to a run."""

import json

from calotype.training.run.fingerprint import Fingerprint

OPTIONS = {"seed": 1, "rate": 0.1, "steps": 5}


def test_the_same_options_and_data_are_the_same_run():
    stored = str(Fingerprint(OPTIONS, ["data"]))
    assert Fingerprint(OPTIONS, ["data"]).changes(stored) == set()
    assert len(stored.split()) == 1


def test_other_options_or_data_are_another_run():
    stored = str(Fingerprint(OPTIONS, ["data"], free=("rate",)))
    assert Fingerprint({**OPTIONS, "seed": 2}, ["data"], free=("rate",)).changes(stored) is None
    assert Fingerprint(OPTIONS, ["other"], free=("rate",)).changes(stored) is None
    assert Fingerprint({**OPTIONS, "rate": 0.2}, ["data"]).changes(stored) is None  # nothing is free


def test_free_options_may_change_and_are_named_if_their_values_are_stored():
    changed = {**OPTIONS, "rate": 0.2}
    free = ("rate", "steps")
    stored = str(Fingerprint(OPTIONS, ["data"], free))
    assert Fingerprint(changed, ["data"], free).changes(stored) == {"rate", "steps"}  # at least one of them
    stored = str(Fingerprint(OPTIONS, ["data"], free, names_changes=True))
    assert Fingerprint(changed, ["data"], free, names_changes=True).changes(stored) == {"rate"}
    assert json.loads(stored.split(" ", 2)[2]) == {"rate": 0.1, "steps": 5}


def test_an_option_that_is_new_since_the_state_counts_as_changed():
    stored = str(Fingerprint(OPTIONS, [], ("rate",), names_changes=True))
    later = Fingerprint({**OPTIONS, "rate": 0.2, "warmup": 3}, [], ("rate", "warmup"), names_changes=True)
    assert later.changes(stored) == {"rate", "warmup"}


def test_text_that_is_no_fingerprint_is_another_run():
    for stored in ("", "f", "a b c"):
        assert Fingerprint(OPTIONS, [], ("rate",)).changes(stored) is None
