"""The program is killed, and started again: what it has missed is mended."""

import asyncio

import pytest

from calotype.jobs.chat import Chat
from calotype.jobs.store import JobStore
from calotype.jobs.users import Accounts
from tests.bot.conftest import work
from tests.bot.double.conftest import eventually, seen
from tests.bot.double.program import Program
from tests.bot.double.server import Discord

MINUTE = 60.0


@pytest.fixture
def restart(tmp_path):
    """Runs `restart(scene)`, a coroutine function of the double, its channel, the program and the job store."""

    def run(scene):
        async def whole():
            store = JobStore("", tmp_path / "service")
            async with Discord(rate=(5, 0.2)) as double:
                program = Program(double, tmp_path, "--no-worker", "--account-days", "0", "--member-days", "0")
                channel = double.world.add_channel(double.world.add_guild())
                await program.connect()
                try:
                    await scene(double, channel, program, store)
                finally:
                    await program.kill()
                    store.close()

        asyncio.run(whole())

    return run


def open_messages(store):
    return Chat(store.database, Accounts(store.database)).open_messages()


@pytest.mark.slow
def test_messages_missed_while_it_was_killed_are_mended_at_the_start(restart):
    async def scene(double, channel, program, store):
        ann = double.person("ann", channel.guild)
        for prompt in ("fox", "cat", "dog"):
            await ann.slash(channel, "imagine", prompt=prompt)
        await eventually(lambda: all(message.message for message in open_messages(store)))
        fox, cat, dog = seen(channel)
        await program.kill()
        press = ann.press(fox, "Cancel")
        assert not press.is_delivered, "Discord tells the person that the application did not respond"
        work(store)
        work(store)
        double.world.delete(cat)
        await program.connect()
        await eventually(lambda: len(open_messages(store)) == 1)
        assert "U1" in fox.buttons and len(fox.attachments) == 1
        (again,) = [message for message in seen(channel) if message not in (fox, dog)]
        assert "**cat**" in again.content and "U1" in again.buttons
        await ann.click(fox, "V1")
        await eventually(lambda: len(store.find()) == 4)  # a press is acknowledged before its job is in the queue
        work(store)
        work(store)
        await eventually(lambda: not open_messages(store))
        assert len(seen(channel)) == len(store.find()) == 4 and "next in the queue" not in dog.content

    restart(scene)


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [0, 10])
def test_killed_while_a_message_is_sent_it_does_not_send_another(restart, minutes):
    """Discord knows a nonce for some minutes only."""

    async def scene(double, channel, program, store):
        ann = double.person("ann", channel.guild)
        double.fail("POST", r"^/channels/\d+/messages$", is_lost=True)
        double.hooks.append(lambda method, path: program.kill_now() if path.endswith("/messages") else None)
        ann.give(channel, "imagine", prompt="fox")
        await program.wait()
        double.hooks.clear()
        assert len(seen(channel)) == len(store.find()) == 1
        double.clock.move(minutes * MINUTE)
        work(store)
        await program.connect()
        await eventually(lambda: not open_messages(store))
        finals = [message for message in seen(channel) if "U1" in message.buttons]
        assert len(finals) == 1 and len(seen(channel)) == 1

    restart(scene)


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [0, 10])
def test_killed_while_a_result_is_sent_it_does_not_send_another(restart, minutes):
    """The message was deleted, so that the result comes in a new one."""

    async def scene(double, channel, program, store):
        ann = double.person("ann", channel.guild)
        await ann.slash(channel, "imagine", prompt="fox")
        await eventually(lambda: open_messages(store)[0].message)
        double.world.delete(seen(channel)[0])
        double.fail("POST", r"^/channels/\d+/messages$", is_lost=True)
        is_sent = ("POST", f"/channels/{channel.id}/messages")
        double.hooks.append(lambda *request: program.kill_now() if request == is_sent else None)
        work(store)
        await program.wait()
        double.hooks.clear()
        double.clock.move(minutes * MINUTE)
        await program.connect()
        await eventually(lambda: not open_messages(store))
        assert [len(message.attachments) for message in seen(channel)] == [1]

    restart(scene)


@pytest.mark.slow
def test_killed_while_u1_is_sent_a_second_press_does_not_send_another(restart):
    async def scene(double, channel, program, store):
        ann = double.person("ann", channel.guild)
        await ann.slash(channel, "imagine", prompt="fox")
        work(store)
        await eventually(lambda: not open_messages(store))
        (grid,) = seen(channel)
        double.fail("POST", r"^/channels/\d+/messages$", is_lost=True)
        is_sent = ("POST", f"/channels/{channel.id}/messages")
        double.hooks.append(lambda *request: program.kill_now() if request == is_sent else None)
        ann.press(grid, "U1")
        await program.wait()
        double.hooks.clear()
        await program.connect()
        press = await ann.click(grid, "U1")
        await eventually(lambda: press.text or len(seen(channel)) > 1)
        await asyncio.sleep(0.5)
        assert len([message for message in seen(channel) if message.content.startswith("picture 1")]) == 1

    restart(scene)


@pytest.mark.slow
def test_a_window_that_was_open_while_it_was_killed_counts(restart):
    async def scene(double, channel, program, store):
        ann = double.person("ann", channel.guild)
        await ann.slash(channel, "settings", remix=True)
        await ann.slash(channel, "imagine", prompt="fox")
        work(store)
        await eventually(lambda: not open_messages(store))
        (grid,) = seen(channel)
        window = await ann.click(grid, "V2")
        await program.kill()
        await program.connect()
        sent = await ann.submit(window, prompt="cat")
        assert not sent.has_failed
        await eventually(lambda: len(seen(channel)) == 2)
        assert store.find()[0].task["prompt"] == "cat" and (await ann.click(grid, "V2")).form

    restart(scene)
