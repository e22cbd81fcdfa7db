"""Settings of the bot. The token is no option: a command line can be read by everybody on the computer."""

import os
import re
import stat
import tomllib
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

from calotype.bot.prompt import ModelRow
from calotype.errors import CalotypeError
from calotype.files import readable
from calotype.options import option, read

TOKEN = "CALOTYPE_BOT_TOKEN"
WRITTEN = re.compile(r"[\w.-]+", re.ASCII)  # how tokens are written
MAX_TOKEN = 1000  # characters
MODELS_FILE = "bot-models.toml"  # in the home folder
ROWS = {
    "default": ModelRow("emoji", 256),
    "v 1": ModelRow("emoji", 256),
    "niji": ModelRow("emoji", 256, prompt="noto"),
}
ROW = re.compile(r"default|(v|niji)( \w[\w.]{0,15})?")


@dataclass(frozen=True, kw_only=True)
class BotSettings:
    """Who may do what, and how much."""

    TITLE = "Bot"

    token_file: Path | None = option(
        None, "file with the bot's token that only you may read (mode 600)", is_path=True, env="CALOTYPE_BOT_TOKEN_FILE"
    )
    owner: tuple[str, ...] = option(
        (), "id of a person on Discord who may use the owner's commands, besides the owner of the app"
    )
    servers: tuple[str, ...] = option(
        (), "id of a server that the bot serves, several times for several; it leaves all others; all where not given"
    )
    daily_seconds: float = option(600.0, "device seconds a day of a member", min=0, max=1e9)
    trial_seconds: float = option(
        60.0, "device seconds of a newcomer, until the person is none any more", min=0, max=1e9
    )
    account_days: float = option(30.0, "age in days below which a Discord account is a newcomer", min=0, max=10_000)
    member_days: float = option(1.0, "days on the server below which a member is a newcomer", min=0, max=10_000)
    blocked_words: Path | None = option(None, "file with words that no prompt may contain, one a line", is_path=True)
    training: bool = option(False, "members may train LoRAs of their own, by /train")
    training_steps: int = option(600, "steps of such a training", min=1, max=100_000)
    appeal: str = option("", "whom to ask if a blocked word is a mistake, such as @maria", max_length=200)


def read_token(settings: BotSettings, environ: MutableMapping[str, str] = os.environ) -> str:
    """The token, from the environment or a file. It leaves the environment, which programs started later inherit.

    Raises:
        CalotypeError: there is none, it is no token, or others may read the file.
    """
    token = environ.pop(TOKEN, "").strip()
    if not token and settings.token_file is None:
        raise CalotypeError(
            "the bot has no token; set {name}, or name a file with it by {option:token_file}",
            name=TOKEN,
            option="token_file",
        )
    if not token:
        token = _token_of(settings.token_file.expanduser())
    if not WRITTEN.fullmatch(token):
        raise CalotypeError("this is no token: it has other characters; copy it from the page of the app again")
    return token


def _token_of(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            mode, token = os.fstat(file.fileno()).st_mode, file.read(MAX_TOKEN + 1).strip()
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or "no text"
        raise CalotypeError(
            "{path} cannot be read: {reason}", path=readable(path), reason=reason, option="token_file"
        ) from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise CalotypeError(
            "{path} can be read by other users of this computer; run chmod 600 on it",
            path=readable(path),
            option="token_file",
        )
    if not token:
        raise CalotypeError("{path} is empty; write the token into it", path=readable(path), option="token_file")
    return token


def read_rows(home: Path) -> dict[str, ModelRow]:
    """What --v and --niji stand for: the owner's table in the home folder, or the one that ships.

    Raises:
        CalotypeError: the file is no such table.
    """
    path = home / MODELS_FILE
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return dict(ROWS)
    except (OSError, ValueError) as fault:
        raise CalotypeError("{path} cannot be read: {reason}", path=readable(path), reason=str(fault)) from None
    for name, row in data.items():
        if not ROW.fullmatch(name) or not isinstance(row, dict):
            raise CalotypeError(
                '{path} has tables such as ["v 6"], ["niji"] and [default], not {name}', path=readable(path), name=name
            )
    return {"default": ModelRow(), **{name: read(ModelRow, row) for name, row in data.items()}}
