"""`calotype bot`: the door to Discord."""

import contextlib
import importlib.util
from typing import TYPE_CHECKING, Any

from calotype.bot.settings import BotSettings, read_token
from calotype.cli.flags import flag, flags, given_options, set_signature
from calotype.cli.serve import PACKAGES, worker_process
from calotype.cli.show import print_error
from calotype.cli.wording import WORDING
from calotype.cli.worker import check_packages
from calotype.errors import CalotypeError, Message, Remedy
from calotype.settings import Settings, gathered
from calotype.worker.worker_options import WorkerOptions

if TYPE_CHECKING:
    from calotype.bot.check import Findings


def bot(**values: Any) -> int:
    """Bring the studio into a Discord server: /imagine, /restore, /upscale, and a queue that is fair.

    The token comes from the environment variable CALOTYPE_BOT_TOKEN or from a file of mode 600. It stops at Ctrl-C or
    SIGTERM; jobs stay in the queue, and messages are brought up to date at the next start.
    """
    settings = Settings.gather(given_options(Settings, values))
    options = gathered(WorkerOptions, given_options(WorkerOptions, values))
    bot_settings = gathered(BotSettings, given_options(BotSettings, values))
    check_packages(*PACKAGES)
    if importlib.util.find_spec("discord") is None:
        raise CalotypeError("the bot needs more packages", remedy=Remedy("install", "bot"))
    if values["demo"]:
        from calotype.bot.demo import demo

        return demo(settings)
    token = read_token(bot_settings)
    from calotype.bot import setup
    from calotype.worker.supervisor import ProcessSetup

    setup.set_up_log(quiet=values["quiet"])
    if values["check"]:
        return _check(setup.check(settings, token))
    with contextlib.closing(ProcessSetup(settings, options, "").open_store()) as store:
        studio = setup.new_studio(store, settings, bot_settings, has_tagger=bool(options.tagger))
        with contextlib.nullcontext() if values["no_worker"] else worker_process(settings, options):
            setup.run(studio, token)
    return 0


def _check(found: "Findings") -> int:
    """Prints what the bot lacks. Returns the exit status: 1 if there is anything."""
    for message in found.missing:
        print_error(WORDING.fill(message))
    if not found.missing:
        print(WORDING.fill(Message("The bot has everything it needs.")))
    for message in found.hints:
        print(WORDING.fill(message))
    return 1 if found.missing else 0


set_signature(
    bot,
    *flags(BotSettings, WorkerOptions, Settings),
    flag("check", "say what the bot lacks on Discord, change nothing, and end", panel="Bot"),
    flag("demo", "play an evening in the terminal, without Discord", panel="Bot"),
    flag("no_worker", "start no worker; that of `calotype serve`, or workers of their own run the jobs", panel="Jobs"),
    flag("quiet", "log errors only", "-q", "--quiet", panel="Messages"),
)
