"""`calotype bot --check`, the token, and how the program starts and ends, on the double of Discord."""

import asyncio
import subprocess
import sys
from pathlib import Path

import discord
import pytest

from calotype.bot import setup
from calotype.bot.client import INTENTS
from calotype.bot.settings import TOKEN as VARIABLE
from calotype.bot.settings import BotSettings, read_token
from calotype.errors import CalotypeError
from calotype.settings import Settings
from tests.bot.double.conftest import eventually
from tests.bot.double.program import Program
from tests.bot.double.server import Discord
from tests.bot.double.world import USUAL

SECRET = "MTE.a-token-that-nobody.must-read"


def without(*names):
    return discord.Permissions(USUAL.value & ~discord.Permissions(**dict.fromkeys(names, True)).value)


def overwrite(guild, **denied):
    return {guild.id: (0, discord.Permissions(**denied).value)}


@pytest.fixture
def check(tmp_path):
    """Runs `check(prepare)`: what is missing on a double that `prepare` has set up, and the hints."""

    def run(prepare, token=None):
        async def whole():
            async with Discord() as double:
                prepare(double)
                settings = Settings.gather({"home": tmp_path / "home", "offline": True}, environ={})
                with double.redirected():
                    found = await asyncio.to_thread(setup.check, settings, token or double.token)
                assert all(method == "GET" for method, *_ in double.requests), "something was changed"
                assert double.gateway.identified == 0 and not (tmp_path / "home").exists()
                return [str(line) for line in found.missing], [str(line) for line in found.hints]

        return asyncio.run(whole())

    return run


def test_a_bot_with_all_it_needs_lacks_nothing(check):
    def prepare(double):
        double.world.add_channel(double.world.add_guild())

    assert check(prepare) == ([], [])


def test_a_bot_on_no_server_gets_its_invitation(check):
    missing, _ = check(lambda double: None)
    assert len(missing) == 1 and "scope=bot+applications.commands" in missing[0]
    needed = int(missing[0].partition("permissions=")[2].partition("&")[0])
    assert discord.Permissions(needed).send_messages_in_threads


def test_permissions_that_a_server_does_not_give_are_named(check):
    def prepare(double):
        world = double.world
        world.add_channel(world.add_guild("family", without("attach_files", "send_messages_in_threads")))
        world.add_channel(world.add_guild("silent", without("send_messages")))
        world.add_channel(world.add_guild("dark", without("view_channel")))

    missing, _ = check(prepare)
    assert missing == [
        "on family, the bot may not send messages in threads; give its role that permission",
        "on family, the bot may not attach files; give its role that permission",
        "on silent, the bot may not send messages; give its role that permission",
        "on dark, the bot may not see the channel; give its role that permission",
    ]


def test_channels_that_take_a_permission_away_are_named(check):
    def prepare(double):
        guild = double.world.add_guild()
        double.world.add_channel(guild, "studio")
        double.world.add_channel(guild, "news", overwrite(guild, send_messages=True))
        for n in range(7):
            double.world.add_channel(guild, f"room{n}", overwrite(guild, send_messages_in_threads=True))
        double.world.add_channel(guild, "owners", overwrite(guild, view_channel=True))

    missing, hints = check(prepare)
    assert missing == [
        "on family, the bot may not send messages in #news; allow it in the settings of the channel",
        "on family, the bot may not send messages in threads in #room0, #room1, #room2, #room3, #room4 …; "
        "allow it in the settings of the channel",
    ]
    assert hints == ["on family, the bot does not see 1 channel; what is asked for there comes as a direct message"]


def test_a_server_joined_without_commands_is_named(check):
    def prepare(double):
        guild = double.world.add_guild()
        double.world.add_channel(guild)
        double.without_commands.add(guild.id)

    missing, _ = check(prepare)
    assert len(missing) == 1 and "the bot may not have commands; open its invitation address again" in missing[0]


def test_a_public_bot_is_a_hint(check):
    def prepare(double):
        double.is_public = True
        double.world.add_channel(double.world.add_guild())

    missing, hints = check(prepare)
    assert missing == [] and "Public Bot" in hints[0]


def test_the_bot_needs_no_intent_that_the_page_of_the_app_would_have_to_allow():
    assert INTENTS.value & ~discord.Intents(members=True, presences=True, message_content=True).value == INTENTS.value


def test_a_wrong_token_is_a_sentence(check):
    with pytest.raises(CalotypeError, match="does not accept the token"):
        check(lambda double: None, "wrong")


def test_discord_that_cannot_be_reached_is_a_sentence(check):
    with pytest.raises(CalotypeError, match="Discord cannot be reached"):
        check(lambda double: double.fail("GET", "/oauth2", 503))


# The token


def test_programs_that_are_started_later_do_not_inherit_the_token(monkeypatch):
    monkeypatch.setenv(VARIABLE, SECRET)
    assert read_token(BotSettings()) == SECRET
    shown = subprocess.run([sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True, text=True)
    assert shown.stdout.startswith("{") and SECRET not in shown.stdout


@pytest.mark.parametrize("token", ["two\nlines", "Bot abc", "令牌", "a\x00b"])
def test_what_no_token_looks_like_is_refused_and_not_repeated(token):
    with pytest.raises(CalotypeError, match="this is no token") as fault:
        read_token(BotSettings(), {VARIABLE: token})
    assert token not in str(fault.value)


# The program


def test_the_exit_status_says_whether_something_is_missing(tmp_path):
    async def scene():
        async with Discord() as double:
            guild = double.world.add_guild()
            channel = double.world.add_channel(guild)
            program = Program(double, tmp_path, "--check")
            assert await program.run() == 0
            assert (program.output, program.errors) == ("The bot has everything it needs.\n", "")
            channel.overwrites = overwrite(guild, send_messages=True)
            program = Program(double, tmp_path, "--check")
            assert await program.run() == 1
            assert not program.output and program.errors.startswith("calotype: on family, the bot may not send")
            assert double.world.commands == [] and not (tmp_path / "service").exists()

    asyncio.run(scene())


@pytest.mark.slow
def test_no_token_is_in_what_is_logged_at_the_finest_level(tmp_path):
    async def scene():
        async with Discord() as double:
            double.world.add_channel(double.world.add_guild())
            for options in (["--check"], ["--no-worker"]):
                program = Program(double, tmp_path, *options, token=SECRET, is_verbose=True)
                assert await program.run() == 2
                assert "does not accept the token" in program.errors and "Traceback" not in program.errors
                assert "DEBUG" in program.errors and SECRET not in program.output + program.errors
            double.fail("GET", "/users/@me", 418)
            program = Program(double, tmp_path, "--no-worker", is_verbose=True)
            assert await program.run() == 2 and double.token not in program.output + program.errors

    asyncio.run(scene())


@pytest.mark.slow
def test_the_program_waits_for_discord_at_its_start_and_ends_by_a_signal(tmp_path):
    async def scene():
        async with Discord() as double:
            double.world.add_channel(double.world.add_guild())
            double.fail("GET", "/users/@me", 503)
            program = Program(double, tmp_path, "--no-worker", is_verbose=True)
            await program.connect()
            assert await program.stop() == 0
            assert "the next try is in" in program.errors and "Traceback" not in program.errors
            assert double.token not in program.output + program.errors
            assert len(double.world.commands) >= 18

    asyncio.run(scene())


@pytest.mark.slow
def test_a_token_that_is_replaced_meanwhile_ends_the_program_with_a_sentence(tmp_path):
    async def scene():
        async with Discord() as double:
            program = Program(double, tmp_path, "--no-worker")
            await program.connect()
            double.token = "another"
            double.gateway.drop()
            assert await program.wait() == 2
            assert "does not accept the token" in program.errors and "Traceback" not in program.errors

    asyncio.run(scene())


def children_of(process):
    """The ids of processes that its threads have started."""
    return [child for path in Path(f"/proc/{process}/task").glob("*/children") for child in path.read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc")
def test_the_worker_process_does_not_inherit_the_token(tmp_path):
    async def scene():
        async with Discord() as double:
            double.world.add_channel(double.world.add_guild())
            program = Program(double, tmp_path)
            await program.connect()
            children = await eventually(lambda: children_of(program.pid), 60)
            for child in children:
                environ = Path(f"/proc/{child}/environ").read_bytes()
                assert b"CALOTYPE_HOME" in environ and double.token.encode() not in environ
            assert await program.stop() == 0

    asyncio.run(scene())
