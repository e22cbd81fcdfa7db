"""How the bot words options and tasks, and how it shows text in Discord's Markdown."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from calotype.errors import Wording, plural
from calotype.languages import NAMES

SPECIAL = re.compile(r"([\\*_`~|>#\[\]()-])")
MAX_TEXT = 2000  # characters of a message, as Discord has it
MAX_PROMPT = 900  # characters of a prompt that a message shows, with what escapes them
MAX_WORD = 40  # characters; longer ones are cut
PARTS = re.compile(
    r"""\\. | `[^`\n]*` | <[@:#][^>\s]*> | \*\*            # what is escaped, code, a mention or an emoji, bold
    | \[(?:\\.|[^\]\\\n])*\]\([^)\s]*\) | https?://\S+      # links
    | .(?:[\u0300-\u036f\ufe0f\U0001f3fb-\U0001f3ff]|\u200d.)*  # a character with its accents, an emoji of several""",
    re.VERBOSE | re.DOTALL,
)  # of Markdown: none is cut
COMMANDS = {
    "imagine": "/imagine",
    "restore": "/restore",
    "upscale": "/upscale",
    "train_lora": "/train",
    "caption": "/describe",
}  # by the kind of a job
TEMPLATES = {
    "restore": "Restoring",
    "upscale": "Enlarging",
    "split": "Cutting out photos",
    "colour": "Colouring",
    "imagine": "Drawing",
    "find_faces": "Finding faces",
    "caption": "Tags of a picture",
    "train_lora": "Training a LoRA",
    "train_gan": "Training a GAN",
    "train_upscaler": "Training an upscaler",
    "train_restorer": "Training a face restorer",
    "train_repairer": "Training a finder of scratches",
    "train_diffusion": "Training a diffusion model",
    "merge_lora": "Merging LoRAs",
    "resize_lora": "Resizing a LoRA",
    "extract_lora": "Extracting a LoRA",
    "convert_lora": "Converting a LoRA",
}  # what a job does, by its kind


class BotWording(Wording):
    """`/upscale` for a task, or what it does where no command does that; options by their names."""

    def task(self, kind: str) -> str:
        return COMMANDS.get(kind) or self.title(kind)

    def title(self, kind: str) -> str:
        """What a job of a kind does, as a heading."""
        return self.translate(TEMPLATES.get(kind, kind))


WORDINGS = {language: BotWording(language) for language in NAMES}


def escaped(text: str, limit: int = MAX_PROMPT) -> str:
    """Text that Discord shows as it is written, in one line of at most so many characters."""
    return shortened(SPECIAL.sub(r"\\\1", " ".join(text.split())), limit)


def shortened(text: str, limit: int = MAX_TEXT) -> str:
    """Markdown of at most so many characters, as Discord counts them. Words, code, links and mentions stay whole."""
    if _length(text) <= limit:
        return text
    end, length, gap = 0, 0, 0
    for part in PARTS.finditer(text[: 2 * limit]):
        length += _length(part[0])
        if length > limit - len("**…"):
            break
        end = part.end()
        if part[0].isspace():
            gap = end
    if gap and end - gap <= MAX_WORD:
        end = gap
    short = text[:end].rstrip()
    is_bold = sum(part[0] == "**" for part in PARTS.finditer(short)) % 2
    return f"{short}…**" if is_bold else f"{short}…"


def _length(text: str) -> int:
    """In units of UTF-16: some clients count so, none counts more."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def listed(lines: Sequence[str], language: str, limit: int = MAX_TEXT) -> str:
    """As many whole lines as a message has room for, and how many there are besides."""
    sizes = list(accumulate(_length(line) + 1 for line in lines))
    for count in range(bisect_right(sizes, limit + 1), 0, -1):
        rest = len(lines) - count
        more = [WORDINGS[language].fill(plural(rest, "and 1 more", "and {count} more"))] if rest else []
        if _length(text := "\n".join([*lines[:count], *more])) <= limit:
            return text
    return shortened("\n".join(lines), limit)


def address(guild: int | None, channel: str | int, message: str | int) -> str:
    """The address of a message."""
    return f"https://discord.com/channels/{guild or '@me'}/{channel}/{message}"
