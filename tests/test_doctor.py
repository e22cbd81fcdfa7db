"""The doctor: tells what is there, and for everything that is missing what mends it."""

import json

import pytest

from calotype import doctor
from calotype.checkpoints.store import CATALOG
from calotype.cli import main
from calotype.doctor import examine, is_well
from calotype.errors import Remedy
from calotype.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings.gather({"home": tmp_path / "home"}, {})


def test_an_installation_that_works_is_well(settings):
    findings = {finding.what: finding for finding in examine(settings)}
    assert is_well(list(findings.values()))
    assert CATALOG.keys() < findings.keys()
    assert {
        "device",
        "precision",
        "free memory",
        "memory",
        "home",
        "HEIC",
        "AVIF",
        "JPEG XL",
        "camera raw",
        "PDF",
    } < findings.keys()
    assert ":" in str(findings["precision"].text), "the precision comes with its reason"


def test_what_is_missing_comes_with_its_remedy(settings):
    missing = [finding for finding in examine(settings) if "not fetched" in str(finding.text)]
    assert {finding.what for finding in missing} == {name for name, entry in CATALOG.items() if not entry.ships}
    assert all(finding.mend == Remedy("pull_model", finding.what) for finding in missing)


def test_a_missing_library_is_bad_and_named(settings, monkeypatch):
    monkeypatch.setattr(doctor, "LIBRARIES", ("torch", "no-such-library", "nor-this"))
    found = next(finding for finding in examine(settings) if finding.what == "libraries")
    assert found.state == "bad" and found.mend == Remedy("install_packages", "no-such-library nor-this")
    assert str(found.text).startswith("torch 2") and str(found.text).endswith("missing: no-such-library, nor-this")


def test_looking_makes_nothing(settings):
    examine(settings)
    assert not settings.home.exists()


def test_a_home_that_is_a_file_is_told(settings, tmp_path):
    (tmp_path / "home").write_text("no folder")
    home = next(finding for finding in examine(settings) if finding.what == "home")
    assert home.state == "note" and home.mend == Remedy("move_home")
    assert "not writable" in str(home.text)


def test_a_device_that_is_not_there_is_bad(settings, capsys):
    status = main(["doctor", "--device", "cuda:99", "--home", str(settings.home)])
    out = capsys.readouterr().out
    assert status == 1 and "!!" in out and "can't be restored" in out and "--device" in out


def test_for_people_and_for_machines(settings, capsys):
    assert main(["doctor", "--home", str(settings.home)]) == 0
    assert "Photos can be restored." in capsys.readouterr().out
    assert main(["doctor", "--json", "--home", str(settings.home)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["well"] and all(finding["state"] != "bad" for finding in told["findings"])
    mends = {finding["what"]: finding["mend"] for finding in told["findings"]}
    assert mends["gfpgan-1.4"] == "calotype models pull gfpgan-1.4" and mends["memory"] == ""
