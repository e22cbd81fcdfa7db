"""What the READMEs and the guides in docs/ show: commands, links, headings."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
GUIDES = ("restore", "draw", "lora", "networks", "models", "service", "bot", "examine", "split", "colour", "examples")
PAIRS = (READMES, *((f"docs/{guide}.md", f"docs/{guide}.zh-CN.md") for guide in GUIDES))
PAGES = tuple(page for pair in PAIRS for page in pair)

SETTINGS_FILES = {  # that the guides' commands read
    "train.sh": "accelerate launch train_network.py --pretrained_model_name_or_path=emoji --train_data_dir=photos "
    "--network_dim=4 --max_train_epochs=1 --output_name=zkz\n",
    "settings.toml": 'pretrained_model_name_or_path = "emoji"\ntrain_data_dir = "photos"\nnetwork_dim = 4\n',
    "dataset.toml": '[[datasets]]\nresolution = 256\n[[datasets.subsets]]\nimage_dir = "photos/10_zkz"\n',
    "prompts.txt": 'red apple, noto\n--prompt "cat face, noto" --negative_prompt blurry --steps 2 --seed 7\n',
}

_CODE = re.compile(r"^```sh\n(?P<block>.*?)^```$|`(?P<inline>calotype [^`\n]+)`", re.M | re.S)


def text(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def commands(page: str) -> list[str]:
    """Every `calotype ...` that stands as code on a page, in its order, without where the program lies."""
    found = []
    for match in _CODE.finditer(text(page)):
        lines = match["inline"].splitlines() if match["inline"] else match["block"].splitlines()
        found += [calls[-1] for line in lines if (calls := re.findall(r"(?:^|(?<=\.venv/bin/))calotype .+", line))]
    return [line for line in found if "COMMAND" not in line]


def words(line: str) -> list[str]:
    """The arguments of a command."""
    return shlex.split(line)[1:]


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.M | re.S)


def options(page: str) -> set[str]:
    """Every `--option` that stands as code in the text of a page."""
    spans = re.findall(r"`([^`\n]+)`", prose(page))
    return {option for span in spans for option in re.findall(r"(?<!\S)--[a-z][\w-]*", span)}


def links(page: str) -> list[str]:
    """Targets of links and pictures that lead to a file of ours."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in found if "://" not in target]


def anchors(page: str) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
