"""How the command line words options, tasks and remedies: as flags and commands, in the user's language."""

import shlex
import sys
from typing import Any

from calotype.errors import Remedy, Wording
from calotype.languages import ENGLISH, NAMES, language_of_environment

SHORT = {"out": "-o"}  # options that messages name by their short flag
LONG = {"has_uncertainty": "uncertainty", "has_mask": "save-mask"}  # options whose long flag is not their name
COMMANDS = {
    "restore": "restore",
    "upscale": "upscale",
    "split": "split",
    "colour": "colour",
    "imagine": "imagine",
    "find_faces": "faces",
    "caption": "train caption",
    "again": "again",
    **{f"train_{kind}": f"train {kind}" for kind in ("lora", "gan", "upscaler", "restorer", "repairer", "diffusion")},
    **{f"{verb}_lora": f"lora {verb}" for verb in ("merge", "resize", "extract", "convert")},
}
TO_TYPE = {
    "pull_model": "calotype models pull {target}",
    "list_models": "calotype models list",
    "remove_model": "calotype models remove {target}",
    "replace_model": "calotype models remove {target}",
    "add_model": "calotype models add FILE --name {target}",
    "install": "pip install 'calotype[{target}]'",
    "install_packages": "pip install {target}",
    "upgrade_packages": "pip install --upgrade {target}",
    "reinstall_packages": "pip install --force-reinstall {target}",
    "free_memory": "close other programs; tiles will be small",
    "move_home": "set CALOTYPE_HOME to your folder",
    "free_disk": "make room, or set CALOTYPE_HOME to a folder on another disk",
}  # the command, or action, of a remedy
CLAUSES = {
    "pull_model": "fetch it: {command}",
    "list_models": "{command} shows all",
    "replace_model": "{command}, then fetch or add it again",
    "install": "run {command}",
}  # clauses around the command


def long_flag(option: str) -> str:
    """The long flag of an option, without its dashes: "mask-blur"."""
    return LONG.get(option, option.replace("_", "-"))


class CommandLine(Wording):
    """`--mask-blur`, `calotype train caption`, `calotype models pull gfpgan-1.4`."""

    def __init__(self, language: str = ""):
        super().__init__(language)

    @property
    def language(self) -> str:
        """The given language, or the user's; English on a terminal that cannot show it."""
        if self._language:
            return self._language
        language = language_of_environment()
        streams = (sys.stdout, sys.stderr)
        return language if all(_can_show(NAMES[language], stream) for stream in streams) else ENGLISH

    def option(self, name: str) -> str:
        return SHORT.get(name) or "--" + long_flag(name)

    def task(self, kind: str) -> str:
        return f"calotype {COMMANDS[kind]}"

    def remedy(self, remedy: Remedy) -> str:
        return self.translate(CLAUSES.get(remedy.action, "{command}")).format(command=self.command(remedy))

    def command(self, remedy: Remedy) -> str:
        """The command alone: "calotype models pull gfpgan-1.4"."""
        target = " ".join(map(shlex.quote, remedy.target.split()))
        return self.translate(TO_TYPE[remedy.action]).format(target=target)


def _can_show(text: str, stream: Any) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


WORDING = CommandLine()
