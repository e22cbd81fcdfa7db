"""Settings that people bring from lora-scripts and sd-scripts mean here what they meant there, and are never run."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.cli import main
from calotype.cli.train import KOHYA_ONLY, join_values
from calotype.dialects.sd_scripts import args as names
from calotype.dialects.sd_scripts.config import read_config
from calotype.dialects.sd_scripts.powershell import read_powershell
from calotype.dialects.sd_scripts.shell import read_shell
from calotype.dialects.sd_scripts.words import Unreadable
from calotype.errors import CalotypeError
from calotype.options import read
from calotype.tasks import TrainLora
from calotype.training.optim.optimizers import arguments

SAMPLES = Path(__file__).parent / "configs"
NAMES = ("train.sh", "train.ps1", "autosave.toml")


@pytest.fixture
def home(tmp_path):
    """A folder as people have it: a model, photos in a folder with a space, and the settings."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "base.safetensors").write_bytes(b"")
    (tmp_path / "my photos" / "grandma").mkdir(parents=True)
    for path in SAMPLES.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


def of(path):
    config = read_config(path)
    return read(TrainLora, config.options), tuple(map(str, config.notes))


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_of_file_says_the_same(home, name):
    task, notes = of(home / name)
    assert task.model == str(home / "models" / "base.safetensors") and task.photos == home / "my photos" / "grandma"
    assert task.output_dir == home / "output" and task.regular is None and task.resolution == "512x768"
    assert (task.network_dim, task.alpha, task.max_train_epochs, task.train_batch_size) == (8, 4.0, 6, 2)
    assert (task.learning_rate, task.unet_lr, task.text_encoder_lr) == (1e-4, 2e-4, 1e-5)
    assert task.clip_skip == 2 and task.enable_bucket and task.xformers and task.seed == 1337
    assert task.max_token_length == 225 and task.caption_extension == ".txt" and task.save_precision == "fp16"
    assert not any("never to be shown" in note for note in notes)


def test_a_shell_script_is_read_with_its_conditions(home):
    task, notes = of(home / "train.sh")
    assert task.stop_text_encoder_training == 40 and task.min_snr_gamma == 0.5 and task.flip_aug
    assert task.conv_dim == 0 and task.network_module == "networks.lora" and task.noise_offset == 0
    assert task.save_state and not task.network_train_unet_only and task.optimizer_type == "AdamW"
    assert notes == ("train.sh sets --clip_skip, but does not pass it to its command; Calotype uses it",)


def test_a_powershell_script_is_read_with_its_conditions(home):
    task, notes = of(home / "train.ps1")
    assert task.output_name == "grandma's" and task.optimizer_args == "decouple=True" and task.min_snr_gamma == 0.5
    assert (task.conv_dim, task.conv_alpha, task.algo, task.network_dropout) == (4, 2.0, "lora", 0.0)
    assert task.save_state and not task.lowram and not task.network_train_unet_only and not notes


def test_the_forms_autosave_keeps_its_own_words(home):
    task, notes = of(home / "autosave.toml")
    assert task.optimizer_args == "decouple=True weight_decay=0.01 d_coef=2.0" and task.algo == "locon"
    assert task.save_model_as == "pt" and task.full_bf16 and task.network_train_unet_only
    assert task.multires_noise_iterations == 6 and task.cache_latents_to_disk
    assert "captions may have 225 tokens, not 255" in notes and "nothing is sent to wandb" in notes
    assert task.sample_every_n_epochs == 2 and task.log_with == "none" and task.logging_dir == home / "logs"


def test_paths_begin_where_the_photos_are(home):
    """lora-scripts keeps its autosaves two folders below the one that it is started in."""
    inner = home / "config" / "autosave"
    inner.mkdir(parents=True)
    shutil.move(home / "autosave.toml", inner)
    task, _ = of(inner / "autosave.toml")
    assert task.photos == home / "my photos" / "grandma" and task.output_dir == home / "output"


def test_what_is_left_out_is_as_in_sd_scripts(home):
    task, notes = of(home / "sections.toml")
    assert (task.network_dim, task.alpha, task.conv_dim, task.conv_alpha) == (4, 1.0, 8, 1.0)
    assert not task.enable_bucket and task.lr_scheduler == "constant" and task.max_token_length == 75
    assert task.max_train_steps == 900 and task.caption_extension == ".caption" and task.resolution == "512"
    [note] = notes
    assert "no enable_bucket" in note and "network_alpha 1.0" in note and "max_train_steps" not in note


def test_our_own_names_have_our_own_defaults(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('photos = "photos"\nnetwork_dim = 8\noptimizer_args = "weight_decay=0.1"\n', "utf-8")
    task, notes = of(path)
    assert task == TrainLora(photos=tmp_path / "photos", network_dim=8, optimizer_args="weight_decay=0.1") and not notes


def test_the_command_line_wins(home):
    config = read_config(home / "sections.toml")
    task = read(TrainLora, config.under({"conv_dim": "2", "max_train_epochs": "3", "enable_bucket": True}))
    assert task.conv_dim == 2 and task.max_train_epochs == 3 and task.max_train_steps == 0 and task.enable_bucket


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gbk"])
@pytest.mark.parametrize("name", NAMES)
def test_files_of_any_editor_are_read(home, name, encoding):
    path = home / name
    text = path.read_text("utf-8").replace("my photos", "照片").replace("\n", "\r\n")
    path.write_bytes(text.encode(encoding))
    (home / "照片" / "grandma").mkdir(parents=True)
    assert of(path)[0].photos == home / "照片" / "grandma"


CALL = "accelerate launch train_network.py --train_data_dir=x "


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.toml", "train_bach_size = 1", "train_bach_size, did you mean train_batch_size?"),
        ("a.toml", "qqq = 1\nxxx = 2", "has unknown options: qqq; xxx"),
        ("a.toml", "network_dim = ", "is not valid TOML"),
        ("a.toml", "network_dim = 'wide'", "a.toml: network_dim takes a whole number"),
        ("a.toml", "network_dim = 5000", "a.toml: network_dim takes values from 1"),
        ("a.toml", 'model_train_type = "flux-lora"', "is for flux-lora; Calotype trains sd-lora"),
        ("a.toml", 'network_module = "networks.oft"', "is for networks.oft"),
        ("a.toml", 'network_args = ["block_dims=1,2"]', "has no argument block_dims=1,2"),
        ("a.toml", 'base_weights = "x.safetensors"', "sets base_weights, which Calotype does not support"),
        ("a.toml", "text_encoder_lr = [1e-5, 1e-6]", "several values for text_encoder_lr"),
        ("a.sh", "echo nothing", "does not call train_network.py"),
        ("a.sh", "python flux_train_network.py --x=1", "calls flux_train_network.py"),
        ("a.sh", CALL + "--seed=$(date +%s)", "line 1: $(date +%s), which is not defined in it"),
        ("a.sh", CALL + "--vae --flip_aug", "gives no value for vae"),
        ("a.sh", CALL + "--seed=$SEED", "line 1: SEED, which is not defined in it"),
        ("a.sh", "for n in 1 2; do\n" + CALL + "\ndone", "line 1: for"),
        ("a.sh", "\nif nvidia-smi; then\n" + CALL + "\nfi", "line 2: the condition 'nvidia-smi'"),
        ("a.sh", 'x="open\n' + CALL, "quotation mark"),
        ("a.sh", "fi", "fi without if"),
        ("a.sh", "accelerate launch train_network.py stray --seed=1", "'stray' is before"),
        ("a.ps1", CALL + "--seed=$(Get-Random)", "$(Get-Random), which is not defined"),
        ("a.ps1", "foreach ($n in 1,2) {\n" + CALL + "\n}", "line 1: foreach"),
        ("a.ps1", "}", "an unmatched }"),
        ("a.ps1", "if ($a", "an unclosed parenthesis"),
    ],
)
def test_what_cannot_be_followed_is_one_sentence(tmp_path, name, text, words):
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(CalotypeError) as caught:
        read_config(tmp_path / name)
    assert words in str(caught.value) and "\n" not in str(caught.value) and name in str(caught.value)


def test_files_that_are_none_are_said(tmp_path):
    with pytest.raises(CalotypeError, match="cannot be read"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(CalotypeError, match="too large"):
        read_config(tmp_path / "large.toml")
    (tmp_path / "odd.toml").write_bytes(b"\0\xff\0")
    with pytest.raises(CalotypeError, match="no text in UTF-8"):
        read_config(tmp_path / "odd.toml")


def test_nothing_of_a_script_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = "touch ran; x=$(touch ran); y=`touch ran`\n[[ -n $x ]] && touch ran\n" + CALL + "--seed=1\n"
    for name in ("a.sh", "a.ps1"):
        (tmp_path / name).write_text(script.replace("[[", "#") if name == "a.ps1" else script, "utf-8")
        assert of(tmp_path / name)[0].seed == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_a_photo_set_of_a_script_is_planned_by_the_command(home, portrait, small_model, capsys):
    from PIL import Image

    room = home / "my photos" / "grandma" / "2_grandma"
    room.mkdir()
    Image.fromarray(portrait).save(room / "a.png")
    before = (home / "train.sh").read_bytes()
    more = ["--model", str(small_model.parent), "--resolution", "64", "--dry_run"]
    assert main(["train", "lora", "--config", str(home / "train.sh"), *more]) == 0
    said = capsys.readouterr().err
    assert (
        "does not pass it to its command" in said
        and "1 photo to train on" in said
        and "6 steps of batch size 2 in 6 epochs" in said
    )
    assert (home / "train.sh").read_bytes() == before and not (home / "output").exists()


@pytest.mark.slow
def test_flags_may_be_written_as_for_sd_scripts(home, portrait, small_model, capsys):
    from PIL import Image

    Image.fromarray(portrait).save(home / "my photos" / "a.png")
    told = [f"--pretrained_model_name_or_path={small_model.parent}", "--resolution=64", "--network_dim", "2"]
    told += ["--train_data_dir", str(home / "my photos")]
    told += ["--network_args", "conv_dim=4", "conv_alpha=1", "--optimizer_args", "weight_decay=0.1", "betas=0.9,0.99"]
    assert main(["train", "lora", *told, "--no-enable_bucket", "--xformers", "--dry_run"]) == 0
    assert "1 at 64x64" in capsys.readouterr().err
    assert main(["train", "lora", *told, "--network_args", "conv=1", "--dry_run"]) == 2
    assert "has no argument conv=1, did you mean conv_dim?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ("x --network_args a=1 b=2 --seed 1", ["x", "--network_args", "a=1 b=2", "--seed", "1"]),
        ("--optimizer-args=a=1 b=2 c=3", ["--optimizer-args=a=1 b=2 c=3"]),
        ("--network_args a=1 photos", ["--network_args", "a=1", "photos"]),
        ("--network_args a=1 photos b=2", ["--network_args", "a=1", "photos", "b=2"]),
        ("--seed 1 a=1 b=1", ["--seed", "1", "a=1", "b=1"]),
    ],
)
def test_words_behind_one_flag_are_one(args, wanted):
    assert join_values(args.split()) == wanted


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_whatever_a_file_is_it_is_read_or_refused_in_a_sentence(name, data):
    text = (SAMPLES / name).read_text("utf-8")
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = begin + data.draw(st.integers(0, 60))
        text = text[:begin] + data.draw(st.text("${}()[]\"'`\\;\n|&<>=+-# @!", max_size=3)) + text[end:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, "utf-8")
        try:
            read_config(path)
        except CalotypeError as fault:
            assert "\n" not in str(fault)


def test_photos_must_come_from_somewhere(capsys):
    assert main(["train", "lora"]) == 2
    assert "give the folder with your photos" in capsys.readouterr().err


@pytest.fixture
def asked(monkeypatch, tmp_path, capsys):
    """What `calotype train lora PHOTOS` with more words behind it would do, and what is said of them."""

    def of_words(*words):
        tasks = []

        def run(request, engine):
            tasks.extend(request.tasks)
            yield from ()

        monkeypatch.setattr("calotype.runner.run", run)
        status = main(["train", "lora", str(tmp_path), *words])
        assert status == (0 if tasks else 2)
        return (tasks or [None])[0], capsys.readouterr().err

    return of_words


ADAFACTOR = {"optimizer_type": "adafactor", "lr_scheduler": "adafactor"}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--resolution=512,768"], {"resolution": "512x768"}),
        (["--resolution", "512"], {"resolution": "512"}),
        (["--log_with", "all"], {"log_with": "auto"}),
        (["--log_with=wandb"], {"log_with": "none"}),
        (["--optimizer_type=adafactor", "--lr_scheduler=adafactor:1e-4"], ADAFACTOR),
        (["--vae_batch_size", "4", "--no_half_vae"], {}),
        (["--use_8bit_adam"], {"optimizer_type": "AdamW8bit"}),
        (["--debiased_estimation"], {"debiased_estimation_loss": True}),
        (["--caption_extention=.caption"], {"caption_extension": ".caption"}),
        (["--max_token_length=255"], {"max_token_length": 225}),
        (["--train_data_dir=elsewhere"], {}),
        (["--output_dir=a.dir"], {"output_dir": Path("a.dir")}),
    ],
)
def test_flags_are_translated_as_a_file_is(asked, tmp_path, words, wanted):
    task, _ = asked(*words)
    assert task == TrainLora(photos=tmp_path, **wanted)


def test_needless_options_are_taken_as_flags_and_what_is_not_done_is_said(asked, tmp_path):
    taken = [name for name in KOHYA_ONLY if name in names.IGNORED | names.NOTES.keys()]
    words = [word for name in taken for word in (f"--{name}", *([] if name in names.SWITCHES else ["1"]))]
    task, said = asked(*words)
    assert task == TrainLora(photos=tmp_path) and "no_half_vae" in taken and "ddp_timeout" in taken
    assert said.count("nothing is sent to Hugging Face") == 1 and "nothing is sent to wandb" in said


def test_flags_that_would_change_what_is_learnt_are_refused(asked):
    task, said = asked("--weighted_captions", "--base_weights", "x.safetensors")
    assert task is None and "sets base_weights, weighted_captions, which Calotype does not support" in said


def test_epochs_win_over_steps_in_flags_too(asked):
    task, said = asked("--max_train_epochs", "1", "--max_train_steps", "1600")
    assert (task.max_train_epochs, task.max_train_steps) == (1, 0)
    assert "max_train_epochs overrides max_train_steps" in said
    assert asked("--max_train_steps", "1600")[0].max_train_steps == 1600


@pytest.mark.parametrize(
    ("name", "kind"), [("my.v2.safetensors", "safetensors"), ("my.v2.PT", "pt"), ("my.v2.ckpt", "ckpt")]
)
def test_an_output_that_is_a_file_is_that_file(asked, tmp_path, name, kind):
    task, _ = asked("-o", str(tmp_path / "new" / name))
    assert (task.output_dir, task.output_name, task.save_model_as) == (tmp_path / "new", "my.v2", kind)
    assert asked("-o", name)[0].output_dir == Path()


def test_an_output_that_is_a_file_agrees_with_its_name_and_is_no_folder(asked, tmp_path):
    task, said = asked("-o", "my.safetensors", "--output_name", "yours")
    assert task is None and "-o my.safetensors and --output-name yours do not agree" in said
    assert asked("-o", "my.safetensors", "--save_model_as", "pt")[0] is None
    assert asked("-o", "my.safetensors", "--output_name", "my")[0].output_name == "my"
    (tmp_path / "old.ckpt").mkdir()
    assert asked("-o", str(tmp_path / "old.ckpt"))[0].output_dir == tmp_path / "old.ckpt"


SCRAPS = "! [[ ]] [ ] if then fi else elif && || a=1 x $a ( ) > -z == -gt $( test ; { } \" ' train_network.py --seed=1"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*SCRAPS.split(" "), "\n"]), max_size=8))
def test_a_script_of_scraps_is_read_or_refused(scraps):
    """Also a lone `!`."""
    for read_script in (read_shell, read_powershell):
        with contextlib.suppress(Unreadable, CalotypeError):
            read_script(" ".join(scraps))


def test_a_lone_exclamation_mark_is_refused():
    with pytest.raises(Unreadable, match="! without a condition"):
        read_shell("! && x")


def test_an_item_with_spaces_in_brackets_is_one(tmp_path):
    command = 'train_network.py --optimizer_args "weight_decay=0.1" "betas=(0.9, 0.99)" --optimizer_type=AdamW'
    for name, text in (
        ("a.sh", f"python {command}\n"),
        ("a.toml", 'optimizer_args = ["weight_decay=0.1", "betas=(0.9, 0.99)"]\n'),
        ("b.toml", 'optimizer_args = "weight_decay=0.1 betas=(0.9, 0.99)"\n'),
    ):
        (tmp_path / name).write_text(text)
        text = read_config(tmp_path / name).options["optimizer_args"]
        assert arguments(text) == {"weight_decay": 0.1, "betas": (0.9, 0.99)}


FORM = {
    "LoRA_type": "Standard",
    "pretrained_model_name_or_path": "emoji",
    "train_data_dir": "photos",
    "max_resolution": "256,320",
    "optimizer": "AdamW",
    "optimizer_args": "weight_decay=0.1 betas=(0.9, 0.99)",
    "epoch": 2,
    "max_train_steps": "",
    "lr_warmup": 10,
    "lr_warmup_steps": 0,
    "text_encoder_lr": 0.0,
    "unet_lr": 0.0002,
    "caption_extension": ".txt",
    "additional_parameters": "--noise_offset 0.05 --seed=7",
    "sdxl": False,
    "keep_tokens": "1",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            {"resolution": "256x320", "max_train_epochs": 2, "lr_warmup_steps": "0.1", "noise_offset": 0.05, "seed": 7},
        ),
        ({}, {"network_train_unet_only": True, "unet_lr": 0.0002, "keep_tokens": 1, "network_module": "networks.lora"}),
        ({"max_train_steps": "300"}, {"max_train_steps": 300}),
        ({"LoRA_type": "Kohya LoCon", "conv_dim": 4, "conv_alpha": 2}, {"conv_dim": 4, "conv_alpha": 2.0}),
        ({"LoRA_type": "LyCORIS/LoHa", "conv_dim": 4}, {"algo": "loha", "conv_dim": 4}),
        ({"LoRA_type": "LyCORIS/LoKr", "factor": 8}, {"algo": "lokr", "factor": 8}),
        ({"lora_network_weights": "a.safetensors", "module_dropout": 0.2}, {"module_dropout": 0.2}),
    ],
)
def test_the_settings_of_kohya_ss_form_are_read(tmp_path, changes, expected):
    path = tmp_path / "设置.json"
    path.write_text(json.dumps(FORM | changes), "utf-8")
    options = read_config(path).options
    assert {name: options[name] for name in expected} == expected


def test_fields_of_the_form_that_do_nothing_here_are_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(FORM | {"sdxl": True, "new_field": 3, "old_field": 0}))
    [note] = [str(note) for note in read_config(path).notes if "not followed" in str(note)]
    assert note == "fields of the form that are not followed: new_field, sdxl"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[1]", "no settings"),
        (
            json.dumps(FORM | {"LoRA_type": "LyCORIS/BOFT"}),
            "is for LyCORIS/BOFT; Calotype trains Standard",
        ),
        (json.dumps(FORM | {"additional_parameters": '--a "b'}), "additional_parameters: No closing quotation"),
        (json.dumps(FORM | {"weighted_captions": True}), "weighted_captions, which Calotype does not support"),
    ],
)
def test_json_that_is_no_settings_is_said(tmp_path, text, said):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CalotypeError, match=said):
        read_config(tmp_path / "a.json")
