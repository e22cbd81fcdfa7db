"""How the command line words options, tasks and remedies in a sentence: as flags and commands to type."""

from calotype.errors import Remedy, Wording

SHORT = {"out": "-o"}  # options that people know by their letter
COMMANDS = {
    "restore": "restore",
    "upscale": "upscale",
    "imagine": "imagine",
    "caption": "train caption",
    "again": "again",
    **{f"train_{kind}": f"train {kind}" for kind in ("lora", "gan", "upscaler", "restorer", "diffusion")},
    **{f"{verb}_lora": f"lora {verb}" for verb in ("merge", "resize", "extract", "convert")},
}
REMEDIES = {
    "pull_model": "fetch it: calotype models pull {target}",
    "list_models": "calotype models list shows all",
    "replace_model": "calotype models remove {target}, then fetch or add it again",
    "add_model": "calotype models add FILE --name {target}",
    "install": "run pip install 'calotype[{target}]'",
}


class CommandLine(Wording):
    """`--mask-blur`, `calotype train caption`, `calotype models pull gfpgan-1.4`."""

    def option(self, name: str) -> str:
        return SHORT.get(name) or "--" + name.replace("_", "-")

    def task(self, kind: str) -> str:
        return f"calotype {COMMANDS[kind]}"

    def remedy(self, remedy: Remedy) -> str:
        return REMEDIES[remedy.action].format(target=remedy.target)


WORDING = CommandLine()
