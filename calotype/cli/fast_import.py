"""diffusers' networks in 0.7 seconds instead of 4: its import without all that they do not use.

diffusers asks at import whether transformers, peft, accelerate and others are there, and imports them, and every
network that it has. A program that only draws needs none of that, so here they are hidden for the moment of the import.
In such a process diffusers' own pipelines are not to be had any more: only a door that draws and ends asks for it.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

from calotype.cli import threads
from calotype.errors import CalotypeError
from calotype.settings import Settings
from calotype.tasks import Imagine

HIDDEN = ("transformers", "peft", "accelerate", "scipy", "torchvision", "onnxruntime", "bitsandbytes", "k_diffusion")
BARE = ("diffusers.models.transformers", "diffusers.models.unets", "diffusers.models.autoencoders")
NEEDED = ("diffusers.models.unets.unet_2d_condition", "diffusers.models.autoencoders.autoencoder_kl")

FEW = 8  # pictures: a job of seconds


def import_quickly() -> bool:
    """Imports diffusers' U-Net and VAE without the rest. False where diffusers was imported before, or is not made so.

    Whatever goes wrong leaves no trace: the ordinary import, which comes next, does the work then.
    """
    if "diffusers" in sys.modules or any(name in sys.modules for name in HIDDEN):
        return False
    before = set(sys.modules)
    try:
        with _hidden(), _without_compiler(), _without_list():
            importlib.import_module("diffusers.utils.import_utils")
            with _bare():
                for name in NEEDED:
                    importlib.import_module(name)
    except (ImportError, AttributeError, RuntimeError, TypeError):
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "diffusers":
                del sys.modules[name]
        return False
    return True


@contextlib.contextmanager
def _hidden() -> Iterator[None]:
    sys.modules.update(dict.fromkeys(HIDDEN))  # None: the import fails, and diffusers goes on without
    try:
        yield
    finally:
        for name in HIDDEN:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """diffusers marks functions for torch's compiler, whose import takes over a second; here the marks do nothing."""
    if "torch._dynamo" in sys.modules:
        yield
        return
    stand_in = ModuleType("torch._dynamo")
    stand_in.allow_in_graph = lambda function: function
    stand_in.disable = lambda function=None, *_, **__: function if function is not None else lambda given: given
    sys.modules["torch._dynamo"] = stand_in
    try:
        yield
    finally:
        del sys.modules["torch._dynamo"]


@contextlib.contextmanager
def _without_list() -> Iterator[None]:
    """diffusers asks for a list of all files of all packages, to find out about onnxruntime, which is hidden here."""
    real = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = dict
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = real


@contextlib.contextmanager
def _bare() -> Iterator[None]:
    """Packages that give their files without running their own __init__, which imports every network."""
    made = []
    try:
        for name in BARE:
            spec = importlib.util.find_spec(name)
            package = ModuleType(name)
            package.__path__, package.__spec__, package.__package__ = list(spec.submodule_search_locations), spec, name
            sys.modules[name] = package
            made.append(name)
        yield
    finally:
        for name in made:
            del sys.modules[name]


def imports_quickly(tasks: Sequence[Imagine], settings: Settings) -> Callable[[], None]:
    """What an engine is to call before it imports torch: in a process of our own, the way that is quickest for these
    tasks; else nothing."""

    def before_loading() -> None:
        if not threads.OWN_PROCESS:
            return
        if sum(task.count for task in tasks) <= FEW and not any(task.x or task.y for task in tasks):
            threads.spin_if_quiet()
        if _is_plain(tasks, settings) and settings.device in ("auto", "cpu"):
            import_quickly()

    return before_loading


def _is_plain(tasks: Sequence[Imagine], settings: Settings) -> bool:
    """Whether nothing is wanted that the quick import leaves out: single files, samplers that need scipy."""
    from calotype.checkpoints.store import INDEX, ModelStore

    shelf = ModelStore(settings)
    words = " ".join(f"{task.sampler} {task.schedule} {task.x} {task.y}" for task in tasks).lower()
    if "lms" in words or "beta" in words or any(task.vae for task in tasks):
        return False
    try:
        return all(shelf.find(name, "diffusion").path.name == INDEX for name in sorted({task.model for task in tasks}))
    except CalotypeError:
        return False
