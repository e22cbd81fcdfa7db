"""The house keeps its order: a file imports from lines above its own, or from its own line, and never in a circle."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import calotype

ROOT = Path(calotype.__file__).parent
ORDER = [
    "languages",
    "errors",
    "files",
    "out_of_process",
    "memory",
    "options",
    "html",
    "settings",
    "samplers",
    "suffixes",
    "tasks",
    "dialects",
    "jobs",
    "picture",
    "measures",
    "record",
    "ops",
    "models",
    "checkpoints",
    "inference",
    "outputs",
    "training",
    "pipelines",
    "engine",
    "checks",
    "overlap",
    "runner",
    "bench",
    "doctor",
    "worker",
    "cluster",
    "api",
    "web",
    "bot",
    "cli",
    "__main__",
]
HEAVY = ("torch", "cv2", "numpy", "PIL", "torchvision", "spandrel", "jinja2")


def modules() -> dict[str, Path]:
    files = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("calotype", *path.relative_to(ROOT).with_suffix("").parts)
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


MODULES = modules()


@cache
def imports(module: str) -> frozenset[str]:
    """Our own modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            found |= {resolved(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module"):
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return frozenset(name for name in found if name.split(".")[0] == "calotype")


def resolved(package: str, name: str) -> str:
    """`from calotype.cli import show` means the file calotype/cli/show.py, where there is one."""
    return f"{package}.{name}" if f"{package}.{name}" in MODULES else package


def line(module: str) -> int:
    parts = module.split(".")
    return -1 if len(parts) == 1 else ORDER.index(parts[1])


@pytest.mark.many(plain=59)
@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_from_lines_above_its_own(module):
    assert len(module.split(".")) == 1 or module.split(".")[1] in ORDER, "this file has no line in the order yet"
    wrong = [name for name in imports(module) if line(name) > line(module)]
    assert not wrong


def test_every_import_of_ours_is_there():
    missing = {(module, name) for module in MODULES for name in imports(module) if name not in MODULES}
    assert not missing


def test_no_two_files_import_each_other():
    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in seen:
            for name in imports(module) & MODULES.keys():
                walk(name, (*path, module))
            seen.add(module)

    seen: set[str] = set()
    for module in MODULES:
        walk(module, ())


@pytest.mark.parametrize(
    "module", ["calotype.cli", "calotype.doctor", "calotype.outputs", "calotype.runner", "calotype.tasks"]
)
def test_a_door_opens_without_torch(module):
    program = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_comes_within_half_a_second():
    """In processor time, the best of five; on a machine so busy that Python itself starts slowly, relative to that."""
    help_page = "from calotype.cli import main\nwith contextlib.redirect_stdout(io.StringIO()):\n    main(['--help'])\n"
    standard = "import argparse, asyncio, dataclasses, email, json, unittest, urllib.request, xml.dom.minidom\n"

    def seconds(program: str) -> float:
        program = f"import contextlib, io, time\n{program}print(time.process_time())"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return float(done.stdout)

    ours, python = [], []
    while len(ours) < 5 and min(ours, default=1) >= 0.5:
        ours.append(seconds(help_page))
        python.append(seconds(standard))
    assert min(ours) < max(0.5, 4 * min(python))  # 3 times as long, when measured


def test_no_class_name_stands_twice():
    found: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(f"{module}:{node.lineno}")
    assert {name: places for name, places in found.items() if len(places) > 1} == {}
