"""The command line, through its own door: real networks on small pictures, real signals, real files."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

import calotype
from calotype.cli import app, main
from calotype.cli.flags import SHORT, flags
from calotype.cli.pictures import again, colour, restore, split, upscale
from calotype.cli.wording import WORDING, long_flag
from calotype.errors import Message
from calotype.options import visible
from calotype.outputs.sidecar import sidecar_of
from calotype.picture import read_record
from calotype.pipelines import pipeline
from calotype.settings import Settings
from calotype.tasks import Colour, Restore, Split, Upscale
from calotype.tasks.output import Album
from tests.ops.repair.fades import FADES
from tests.ops.repair.scenes import clean

QUICK = ("--model", "realesr-animevideov3-x2")
PLAIN = ("--upscaler", "none", "--face-model", "none")


def draw(path: Path, size=(24, 20), seed=0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, with a home of its own."""
    monkeypatch.setenv("CALOTYPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CALOTYPE_OFFLINE", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(calotype.__file__).parents[1]))  # where it isn't installed
    monkeypatch.chdir(tmp_path)
    return tmp_path


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_info_speaks_the_language_of_the_user(folder, monkeypatch, capsys):
    draw(folder / "照片.png")
    assert main(["upscale", "照片.png", *QUICK, "--overlap", "12", "-o", "大.png", "-q"]) == 0
    monkeypatch.setenv("CALOTYPE_LANG", "zh")
    assert main(["info", "大.png"]) == 0
    told = capsys.readouterr().out
    for text in ("原图", "重叠", "设备", "精度", "线程数", "分块大小"):
        assert text in told, text
    assert not re.search(r"(?m)^(overlap|cover|crop|device|precision|threads|tile) ", told)


# flags


@pytest.mark.parametrize("command, task", [(restore, Restore), (upscale, Upscale), (split, Split), (colour, Colour)])
def test_every_option_is_a_flag_with_its_help_and_default(command, task, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("calotype.cli.WIDEST", 300)  # so that no line breaks at a hyphen
    assert main([command.__name__, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for spec in (*visible(task), *visible(Album), *visible(Settings)):
        if spec.name in ("source", "dry_run"):  # an argument, --plan
            continue
        assert "--" + long_flag(spec.name) in text
        assert WORDING.fill(Message(spec.metadata["about"].help)) in text
        if isinstance(spec.default, (int, float)) and spec.default and not isinstance(spec.default, bool):
            assert f"default {spec.default if spec.default > 1e6 else format(spec.default, 'g')}" in text


@pytest.mark.parametrize(
    ("words", "argument"), [(["restore"], "INPUT <path>...  "), (["lora", "merge"], "LORA[:WEIGHT] <str>...  ")]
)
def test_an_argument_of_several_is_named_as_one_is(words, argument, capsys):
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert argument in text and "list[" not in text


@pytest.mark.parametrize("words", [["train", "lora"], ["train", "gan"], ["imagine"], ["restore"], ["train"], []])
def test_help_cuts_nothing_in_a_narrow_terminal(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text and not re.search(r"\w\.\.\.", text)
    command = typer.main.get_command(app())
    for word in words:
        command = command.commands[word]
    told = set(re.findall(r"--?[\w-]+", text))
    shown = [param for param in command.params if not getattr(param, "hidden", False)]
    assert {name for param in shown for name in (*param.opts, *param.secondary_opts) if name.startswith("-")} <= told


@pytest.mark.parametrize(("option", "flag"), [("has_uncertainty", "--uncertainty"), ("has_mask", "--save-mask")])
def test_a_picture_beside_a_restored_one_is_asked_for_by_one_flag(option, flag):
    params = typer.main.get_command(app()).commands["restore"].params
    assert [param.name for param in params if flag in param.opts] == [option]
    assert [param.opts for param in params if param.name == option] == [[flag]]
    assert WORDING.option(option) == flag


def test_no_default_is_written_twice():
    for command in (restore, upscale, again):
        for parameter in inspect.signature(command).parameters.values():
            assert parameter.default in (None, False, inspect.Parameter.empty)


def test_short_flags_stand_in_one_table():
    names = [spec.name for spec in flags(Album, Restore, Settings)]
    assert {SHORT[name] for name in names if name in SHORT} == {"-o", "-s", "-n", "-t", "-r", "-w"}


@pytest.mark.parametrize(
    "args, words",
    [
        (["restore", "--sclae", "2", "x"], "no option --sclae, did you mean --scale?"),
        (["restor", "x"], "Did you mean 'restore'?"),
        (["restore"], "missing argument"),
        (["restore", "x.jpg", "--scale"], "--scale"),
        (["restore", "x.jpg", "--scale", "big"], "--scale takes a number, not 'big'"),
        (["restore", "x.jpg", "--scale", "-1"], "from 0.01 up to 64"),
        (["restore", "x.jpg", "--format", "jepg"], "did you mean jpeg?"),
        (["restore", "x.jpg", "--faces", "some"], "--faces is all, none, center"),
        (["restore", "x.jpg", "--strength", "2"], "--strength"),
        (["restore", "x.jpg", "--upscaler", "realesrgan-x4plu"], "did you mean realesrgan-x4plus?"),
        (["restore", "x.jpg", "--face-model", "gfpgan-1.4"], "calotype models pull gfpgan-1.4"),
        (["restore", "x.jpg", "--upscaler", "faces-v2"], "restoring faces"),
        (["restore", "x.jpg", "--threads", "many"], "--threads"),
        (["restore", "x.jpg", "--report", "x.jpg"], "--report"),
        (["restore", "x.jpg"], "x.jpg doesn't exist"),
        (["upscale", "."], "no picture"),
        (["again", "x.json"], "x.json"),
        (["info", "x.json"], "x.json"),
        (["info", "x.jpg"], "x.jpg"),
        (["models", "info", "gfpgan-1.5"], "did you mean gfpgan-1."),
        (["models", "pull", "nonsense"], "models list"),
        (["models", "pull", "gfpgan-1.4", "--offline"], "offline"),
        (["models", "remove", "yunet"], "comes with the program"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(folder, capsys, args, words):
    assert main(args) == 2
    told = capsys.readouterr()
    assert told.out == "" and words in told.err
    assert told.err.count("\n") == 1 and told.err.startswith("calotype: ")


def test_nothing_given_shows_the_help(capsys):
    assert main([]) == 2
    assert "restore" in capsys.readouterr().out


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"calotype \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "calotype", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("calotype ")


# the main job


def test_a_picture_is_enlarged_and_its_record_kept(folder, capsys):
    draw(folder / "a.png")
    assert main(["upscale", "a.png", *QUICK]) == 0
    told = capsys.readouterr()
    assert told.out == "a.png -> out/a.png\n"
    assert Image.open("out/a.png").size == (48, 40)
    assert files(folder / "out") == {"a.png", "a.png.json"}
    record = json.loads(read_record(Path("out/a.png")))
    sidecar = json.loads(Path("out/a.png.json").read_text("utf-8"))
    sidecar.pop("files")
    assert sidecar == record and record["models"][0]["name"] == "realesr-animevideov3-x2"


def test_a_rerun_skips_and_other_options_are_in_the_way(folder, capsys):
    draw(folder / "a.png")
    assert main(["upscale", "a.png", *QUICK]) == 0
    before = os.stat("out/a.png").st_mtime_ns
    capsys.readouterr()
    assert main(["upscale", "a.png", *QUICK]) == 0
    assert "done already" in capsys.readouterr().err
    assert main(["upscale", "a.png", *QUICK, "-s", "3"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert os.stat("out/a.png").st_mtime_ns == before
    assert main(["upscale", "a.png", *QUICK, "-s", "3", "--overwrite"]) == 0
    assert max(Image.open("out/a.png").size) == 72


def test_a_rerun_of_what_is_done_needs_no_torch(folder):
    draw(folder / "a.png")
    command = ["upscale", "a.png", *QUICK, "-q"]
    assert main(command) == 0
    program = "import sys; from calotype.cli import main; s = main(sys.argv[1:]); print(s, 'torch' in sys.modules)"
    again = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True)
    assert again.stdout == "0 False\n"


def test_one_bad_file_does_not_stop_the_others(folder, capsys):
    draw(folder / "in/a.png")
    (folder / "in/b.png").write_bytes(b"no picture")
    (folder / "in/c.png").write_bytes(b"")
    draw(folder / "in/d.png", seed=1)
    assert main(["restore", "in", "--recursive", *PLAIN]) == 1
    told = capsys.readouterr()
    assert told.out == "in/a.png -> out/a.png\nin/d.png -> out/d.png\n"
    assert "2 done, 2 failed" in told.err and "b.png" in told.err and "c.png" in told.err
    assert "Traceback" not in told.err
    assert files(folder / "out") == {"a.png", "a.png.json", "d.png", "d.png.json"}


def test_a_file_that_failed_is_named_once(folder, capsys):
    (folder / "in").mkdir()
    (folder / "in/b.png").write_bytes(b"no picture")
    sentence = "in/b.png is text, not a picture of a kind we read"
    for options in ([], ["--json"], ["--report", "r.html"]):
        assert main(["restore", "in/b.png", *PLAIN, *options]) == 1
        told = capsys.readouterr()
        if options == ["--json"]:
            failed = next(event for event in events(told.out) if event["event"] == "failed")
            assert failed["source"] == "in/b.png" and failed["cause"].startswith(sentence)
            assert events(told.out)[-1]["failures"] == [{name: failed[name] for name in ("source", "cause")}]
        else:
            assert told.err.startswith(f"calotype: {sentence}") and told.err.count("b.png") == 1
    assert (folder / "r.html").read_text("utf-8").count("b.png") == 1


def test_a_mask_that_is_no_picture_is_meant_not_the_photo(folder, capsys):
    draw(folder / "in/a.png")
    (folder / "in/text.jpg").write_bytes(b"no picture")
    assert main(["restore", "in/a.png", *PLAIN, "--repair", "scratches", "--mask", "in/text.jpg"]) == 1
    assert capsys.readouterr().err.startswith("calotype: in/a.png: --mask: text.jpg is text, not a picture of a kind")


def test_a_bug_of_ours_keeps_its_traceback_and_the_batch_goes_on(folder, capsys, monkeypatch):
    real = pipeline("restore")

    def broken(task, models):
        if task.source.name == "a.png":
            raise ZeroDivisionError("our fault")
        yield from real(task, models)

    monkeypatch.setattr("calotype.pipelines.restore.restore", broken)
    draw(folder / "a.png")
    draw(folder / "b.png", seed=1)
    assert main(["restore", "a.png", "b.png", *PLAIN]) == 1
    told = capsys.readouterr()
    assert told.out == "b.png -> out/b.png\n"
    assert "Traceback" in told.err and "our fault" in told.err and told.err.count("Traceback") == 1


def test_names_are_never_markup_nor_harm_a_terminal(folder, capsys):
    names = ["[red]x[bold].png", "[nothing].png", "长 é 🙂.png", "a\x1b[31m.png", "-n.png", "a&b'c\".png"]
    names += ["line\nout -> out.png"]  # the end of a line in a name begins no line of its own
    for n, name in enumerate(names):
        draw(folder / "in" / name, seed=n)
    assert main(["upscale", "in", *QUICK, "--compare", "--report", "r.html"]) == 0
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    assert "line\\nout -> out.png -> " in told.out and len(told.out.splitlines()) == len(names)
    assert (
        "in/[red]x[bold].png -> out/[red]x[bold].png" in told.out and "长 é 🙂" in told.out and "\\x1b[31m" in told.out
    )
    made = {path.name for path in Path("out").iterdir()}
    assert {*names, *(name + ".json" for name in names)} <= made and len(made) == 3 * len(names)


def test_a_name_of_200_characters(folder):
    draw(folder / ("x" * 200 + ".png"))
    draw(folder / ("长" * 80 + ".png"), seed=1)
    assert main(["restore", *map(str, folder.glob("*.png")), *PLAIN, "--compare"]) == 0
    assert len(files(folder / "out")) == 6


def test_a_name_that_is_no_utf8(folder, capsys):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        (folder / name).write_bytes(draw(folder / "a.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert main(["restore", name, *PLAIN, "--report", "r.html", "--json"]) == 0
    assert events(capsys.readouterr().out)[-1]["done"] == 1


def test_for_machines(folder, capsys):
    draw(folder / "a.png")
    (folder / "b.png").write_bytes(b"no")
    assert main(["upscale", "a.png", "b.png", "gone.png", *QUICK, "--json"]) == 1
    told = events(capsys.readouterr().out)
    assert [e["event"] for e in told if e["event"] not in ("progress", "said")] == [
        *("begin", "picture", "done", "picture", "failed", "picture", "failed", "summary"),
    ]
    progress = [e for e in told if e["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"]
    assert {"pictures": 3, "done": 1, "failed": 2, "skipped": 0}.items() <= told[-1].items()
    assert main(["upscale", "a.png", "--scale", "x", "--json"]) == 2
    assert events(capsys.readouterr().out)[0]["event"] == "error"


def test_quiet(folder, capsys):
    draw(folder / "a.png")
    assert main(["restore", "a.png", *PLAIN, "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    (folder / "b.png").write_bytes(b"no")
    assert main(["restore", "b.png", *PLAIN, "-q"]) == 1
    assert "b.png" in capsys.readouterr().err


def test_a_comparison_and_a_report(folder, capsys):
    draw(folder / "a.png")
    assert main(["restore", "a.png", *PLAIN, "--compare", "--report", "pages/r.html", "--no-sidecar"]) == 0
    assert files(folder / "out") == {"a.png", "a-compare.jpg"}
    assert "data:image/jpeg" in Path("pages/r.html").read_text("utf-8")
    assert main(["restore", "a.png", *PLAIN, "--report", "pages/r.html"]) == 0
    assert "done in an earlier run" in Path("pages/r.html").read_text("utf-8")
    assert (folder / "out/a.png.json").exists(), "what the first run left out is made up for"


def test_what_is_not_ours_is_never_replaced_by_what_stands_beside_a_result(folder, capsys):
    """A person's own photo-compare.jpg, and a person's own photo.png.json."""
    draw(Path("in/photo.jpg"))
    own = draw(Path("in/photo-compare.jpg"), seed=1).read_bytes()
    args = ["upscale", "in/photo.jpg", "-n", "realesr-animevideov3", "-o", "in", "--format", "png", "--compare"]
    assert main(args) == 1
    assert "not written by Calotype" in capsys.readouterr().err
    assert Path("in/photo-compare.jpg").read_bytes() == own and not Path("in/photo.png").exists()
    Path("in/photo.png.json").write_text('{"my": "notes"}')
    assert main(args[:-1]) == 1
    assert main([*args[:-1], "--no-sidecar"]) == 0
    assert Path("in/photo.png.json").read_text() == '{"my": "notes"}'


def test_a_comparison_takes_no_name_of_another_picture(folder):
    for name in ("photo.jpg", "photo-compare.jpg"):
        draw(Path("in") / name)
    both = ["in/photo-compare.jpg", "in/photo.jpg"]
    assert main(["upscale", *both, "-n", "realesr-animevideov3", "-o", "out", "--compare"]) == 0
    pictures = {path.name for path in Path("out").iterdir() if path.suffix != ".json"}
    assert len(pictures) == 4
    assert main(["upscale", *both, "-n", "realesr-animevideov3", "-o", "out", "--compare", "-q"]) == 0


def test_a_folder_that_takes_its_own_results_does_not_feed_on_them(folder):
    for name in ("same/a.jpg", "same/a.png"):
        draw(Path(name))
    command = ["upscale", "same", "-n", "realesr-animevideov3", "-o", "same", "--suffix=-r", "--format", "png"]
    assert main(command) == 0
    once = files(folder / "same")
    assert main(command) == 0
    assert main(command) == 0
    assert files(folder / "same") == once and len(once) == 6


def test_a_comparison_can_be_asked_for_afterwards(folder):
    draw(Path("a.png"))
    assert main(["upscale", "a.png", "-n", "realesr-animevideov3"]) == 0
    assert main(["upscale", "a.png", "-n", "realesr-animevideov3", "--compare", "--format", "png"]) == 0
    assert Path("out/a-compare.jpg").is_file()


def test_into_the_folder_of_the_sources_and_again(folder, capsys):
    draw(folder / "a.png")
    command = ["restore", ".", *PLAIN, "-o", ".", "--suffix", "-restored", "--compare"]
    assert main(command) == 0
    assert main(command) == 0
    assert files(folder) == {"a.png", "a-restored.png", "a-restored.png.json", "a-restored-compare.jpg"}
    assert "done already" in capsys.readouterr().err


def test_an_original_is_never_written_to(folder, capsys):
    source = draw(folder / "a.png")
    content = source.read_bytes()
    for out in (".", "a.png"):
        assert main(["restore", "a.png", *PLAIN, "-o", out, "--overwrite"]) == 1
    assert source.read_bytes() == content and files(folder) == {"a.png"}


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_does_not_stop_the_work(folder):
    for n in range(3):
        draw(folder / f"{n}.png", seed=n)
    command = [sys.executable, "-m", "calotype", "restore", ".", *PLAIN]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running.stdout.close()
    assert "Traceback" not in running.stderr.read() and running.wait() == 0
    assert len(files(folder / "out")) == 6


# again


def test_again_gives_the_same_bytes(folder, capsys):
    draw(folder / "in/a.png")
    assert main(["upscale", "in/a.png", *QUICK, "--quality", "80"]) == 0
    assert main(["again", "out/a.png.json"]) == 0
    assert "the same to the last byte" in capsys.readouterr().out
    assert Path("out/a-again.png").read_bytes() == Path("out/a.png").read_bytes()
    sidecar_of(Path("out/a.png")).unlink()
    (folder / "in/a.png").rename(folder / "moved.png")
    assert main(["again", "out/a.png", "-o", "b.png", "--source", "moved.png", "--json"]) == 0
    assert "the same to the last byte" in capsys.readouterr().out
    assert Path("b.png").read_bytes() == Path("out/a.png").read_bytes()
    assert main(["again", "b.png.json", "-o", "c.png"]) == 0  # its sidecar says where the source lies now
    assert "the same to the last byte" in capsys.readouterr().out


def test_again_from_the_result_alone(folder, capsys):
    draw(folder / "a.png")
    assert main(["restore", "a.png", *PLAIN, "--no-sidecar", "-o", "b.png"]) == 0
    assert main(["again", "b.png"]) == 0
    assert "the same to the last byte" in capsys.readouterr().out


def test_what_is_no_record_is_a_plain_sentence(folder, capsys):
    for text in ("{}", '{"task": "restore"}', "[]", "x"):
        Path("a.json").write_text(text)
        assert main(["again", "a.json"]) == 2
        assert "a.json is not a Calotype record; give the .json beside a result" in capsys.readouterr().err


def test_again_refuses_another_source(folder, capsys):
    draw(folder / "a.png")
    assert main(["restore", "a.png", *PLAIN]) == 0
    draw(folder / "a.png", seed=3)
    assert main(["again", "out/a.png.json"]) == 2
    assert "not the recorded source any more" in capsys.readouterr().err
    assert not Path("out/a-again.png").exists()


def test_again_refuses_other_models(folder, capsys):
    draw(folder / "a.png")
    assert main(["upscale", "a.png", *QUICK]) == 0
    sidecar = sidecar_of(Path("out/a.png"))
    sidecar.write_text(re.sub(r'("sha256": ")\w{9}', r"\g<1>000000000", sidecar.read_text()))
    assert main(["again", str(sidecar)]) == 2
    assert "realesr-animevideov3-x2" in capsys.readouterr().err


# info and models


def test_info_tells_what_a_result_carries(folder, capsys):
    draw(folder / "a.png")
    assert main(["upscale", "a.png", *QUICK]) == 0
    capsys.readouterr()
    for file in ("out/a.png", "out/a.png.json"):
        assert main(["info", file]) == 0
        assert "realesr-animevideov3-x2" in capsys.readouterr().out
    assert main(["info", "a.png"]) == 0
    assert "no Calotype record" in capsys.readouterr().out
    assert main(["info", "out/a.png", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bits"] == 8 and told["record"]["task"] == "upscale"


def test_models_are_listed_and_checked(folder, capsys):
    assert main(["models", "list"]) == 0
    assert "S-Lab" in capsys.readouterr().out
    assert main(["models", "list", "--json"]) == 0
    rows = {row["name"]: row for row in events(capsys.readouterr().out)}
    assert rows["codeformer"]["commercial"] is False and rows["yunet"]["path"]
    assert main(["models", "info", "RealESRGAN_x4plus.pth"]) == 0
    assert "realesrgan-x4plus" in capsys.readouterr().out
    assert main(["models", "verify", "yunet"]) == 0
    assert "ok  yunet" in capsys.readouterr().out
    assert main(["models", "verify", "yunet", "--json"]) == 0
    (row,) = events(capsys.readouterr().out)
    assert list(row) == ["name", "path", "sha256", "good", "word"] and row["good"] is True


# interruption


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("kind", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_leaves_whole_files_and_goes_on(folder, kind, capsys):
    for n in range(4):
        draw(folder / f"in/{n}.png", size=(110, 110), seed=n)
    command = ["upscale", "in", *QUICK, "--json"]
    process = [sys.executable, "-m", "calotype", *command]
    running = subprocess.Popen(process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in running.stdout:
        if json.loads(line)["event"] == "done":
            running.send_signal(kind)
            break
    told = events(running.stdout.read())
    assert running.wait(timeout=30) == 130 and running.stderr.read() == ""
    assert told[-1]["event"] == "summary" and told[-1]["interrupted"] and told[-1]["done"] < 4
    for path in Path("out").glob("*.png"):
        Image.open(path).load()
    assert not [name for name in files(folder / "out") if not re.fullmatch(r"\d\.png(\.json)?", name)]
    assert main(command) == 0
    summary = events(capsys.readouterr().out)[-1]
    assert summary["done"] + summary["skipped"] == 4 and summary["skipped"] >= told[-1]["done"]


def test_an_interruption_is_said(folder, capsys, monkeypatch):
    def stopped(task, models):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("calotype.pipelines.restore.restore", stopped)
    draw(folder / "a.png")
    assert main(["restore", "a.png", *PLAIN]) == 130
    assert "run the same command again" in capsys.readouterr().err


def test_examine_measures_and_writes_nothing(folder, capsys):
    draw(folder / "a.png", (200, 160))
    draw(folder / "more/b.png", (200, 160), seed=1)
    (folder / "more/broken.png").write_bytes(b"no picture")
    before = files(folder)
    assert main(["examine", "a.png", "more"]) == 1
    output = capsys.readouterr()
    assert "a.png  200 x 160" in output.out and "b.png  200 x 160" in output.out
    assert "measure" in output.out and "edges are" in output.out and "- 200 x 160 pixels become 400 x 320" in output.out
    assert "broken.png" in output.err and files(folder) == before
    assert main(["restore", "--plan", "a.png", "--scale", "3", "--json"]) == 0
    done = next(event for event in events(capsys.readouterr().out) if event["event"] == "done")
    assert done["plan"][0] == "200 x 160 pixels become 600 x 480" and files(folder) == before
    noise = next(measure for measure in done["measures"] if measure["name"] == "noise")
    assert (noise["name"], noise["threshold"], noise["is_beyond"]) == ("noise", 5.0, False)
    assert noise["decision"].endswith("nothing to smooth")


@pytest.mark.parametrize(
    "args, sentence",
    [
        (["examine", "missing.png"], "missing.png doesn't exist; check the name"),
        (["examine", "a.png", "--repair", "all"], "--repair is auto, none, or a list of"),
        (["restore", "a.png", "--plan", "--aligned"], "--plan measures whole photos; leave --aligned out"),
        (["restore", "a.png", "--fading", "2"], "--fading"),
    ],
)
def test_examine_refuses_in_a_sentence(folder, capsys, args, sentence):
    draw(folder / "a.png")
    assert main(args) == 2
    assert sentence in capsys.readouterr().err


def test_a_faded_photo_is_made_again_byte_for_byte(folder, capsys):
    pixels = FADES["cyan lost"](clean()["lion"]())
    Image.fromarray(pixels).save(folder / "faded.png")
    assert main(["restore", "faded.png", "--scale", "1", "--fading", "0.7", *PLAIN]) == 0
    assert "it has faded" in capsys.readouterr().err
    assert main(["again", "out/faded.png.json"]) == 0
    assert "the same to the last byte" in capsys.readouterr().out
    assert main(["info", "out/faded.png"]) == 0
    assert "black is" in capsys.readouterr().out
