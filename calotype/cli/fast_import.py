"""Imports diffusers' networks in 0.7 seconds instead of 4, without optional dependencies.

diffusers imports transformers, peft, accelerate and others if they are installed, and all of its networks. Generating
pictures needs none of them, so they are hidden during the import. In such a process diffusers' own pipelines cannot be
imported any more: only a short-lived process that generates pictures and exits may use it.
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
STUBBED = ("diffusers.models.transformers", "diffusers.models.unets", "diffusers.models.autoencoders")
NEEDED = ("diffusers.models.unets.unet_2d_condition", "diffusers.models.autoencoders.autoencoder_kl")

FEW_PICTURES = 8  # a run of seconds


def import_quickly() -> bool:
    """Imports diffusers' U-Net and VAE alone. False if diffusers was imported before, or its layout is unknown.

    A failure leaves sys.modules unchanged: the ordinary import, which comes next, imports everything then.
    """
    if "diffusers" in sys.modules or any(name in sys.modules for name in HIDDEN):
        return False
    before = set(sys.modules)
    try:
        with _hidden(), _without_compiler(), _without_package_list():
            importlib.import_module("diffusers.utils.import_utils")
            with _stub_packages():
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
    sys.modules.update(dict.fromkeys(HIDDEN))  # None: the import fails, and diffusers works without
    try:
        yield
    finally:
        for name in HIDDEN:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """Replaces torch._dynamo, whose import takes over a second, by a stub: diffusers only uses its decorators."""
    if "torch._dynamo" in sys.modules:
        yield
        return
    stub = ModuleType("torch._dynamo")
    stub.allow_in_graph = lambda function: function
    stub.disable = lambda function=None, *_, **__: function if function is not None else lambda decorated: decorated
    sys.modules["torch._dynamo"] = stub
    try:
        yield
    finally:
        del sys.modules["torch._dynamo"]


@contextlib.contextmanager
def _without_package_list() -> Iterator[None]:
    """Skips diffusers' listing of all installed packages, which looks for onnxruntime; that is hidden here."""
    original = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = dict
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = original


@contextlib.contextmanager
def _stub_packages() -> Iterator[None]:
    """Replaces packages by stubs without their __init__, which imports all networks."""
    stubbed = []
    try:
        for name in STUBBED:
            spec = importlib.util.find_spec(name)
            package = ModuleType(name)
            package.__path__, package.__spec__, package.__package__ = list(spec.submodule_search_locations), spec, name
            sys.modules[name] = package
            stubbed.append(name)
        yield
    finally:
        for name in stubbed:
            del sys.modules[name]


def quick_import_hook(tasks: Sequence[Imagine], settings: Settings) -> Callable[[], None]:
    """The function that the engine calls before importing torch: it chooses the fastest imports for these tasks if the
    process is the program's own; else it does nothing."""

    def before_torch() -> None:
        if not threads.OWN_PROCESS:
            return
        if sum(task.count for task in tasks) <= FEW_PICTURES and not any(task.x or task.y for task in tasks):
            threads.spin_if_quiet()
        if _is_supported(tasks, settings) and settings.device in ("auto", "cpu"):
            import_quickly()

    return before_torch


def _is_supported(tasks: Sequence[Imagine], settings: Settings) -> bool:
    """Whether the quick import suffices: no single-file checkpoints, no samplers that need scipy."""
    from calotype.checkpoints.store import INDEX, ModelStore

    store = ModelStore(settings)
    samplers = " ".join(f"{task.sampler} {task.schedule} {task.x} {task.y}" for task in tasks).lower()
    if "lms" in samplers or "beta" in samplers or any(task.vae for task in tasks):
        return False
    try:
        return all(store.find(name, "diffusion").path.name == INDEX for name in sorted({task.model for task in tasks}))
    except CalotypeError:
        return False
