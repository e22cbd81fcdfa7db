"""The connection to Discord: commands over the gateway, sessions that are resumed or lost."""

import time

from tests.bot.double.conftest import eventually


def test_a_command_over_the_gateway_becomes_a_grid(perform):
    async def scene(stage):
        ann = stage.person("ann")
        start = time.monotonic()
        given = ann.give(stage.channel, "imagine", prompt="red fox")
        await given.answered.wait()
        assert time.monotonic() - start < 1.0
        await given.wait()
        (message,) = await eventually(lambda: stage.messages)
        assert given.texts == [] and message.content == f"**red fox** – <@{ann.id}>\nnext in the queue"
        await stage.work()
        await stage.settled()
        assert "seed 7, done in" in message.content and message.attachments[0]["filename"] == "picture.png"
        assert list(message.buttons)[:5] == ["U1", "U2", "U3", "U4", "🔄"]
        await ann.click(message, "U2")
        await eventually(lambda: len(stage.messages) == 2)
        assert f"by <@{ann.id}>" in stage.messages[1].content and "Vary (subtle)" in stage.messages[1].buttons

    perform(scene)


def test_a_drop_during_a_job_is_resumed_and_presses_meanwhile_are_taken(perform, studio):
    async def scene(stage):
        ann, gateway = stage.person("ann"), stage.discord.gateway
        await stage.imagine(ann, "fox")
        await stage.work(preview=b"\xff\xd8\xff")
        gateway.drop()
        command = ann.give(stage.channel, "imagine", prompt="cat")
        press = ann.press(stage.messages[0], "Cancel")
        await eventually(lambda: gateway.resumed == 1)
        await command.wait()
        await press.wait_for_answer()
        assert not command.has_failed and not press.has_failed
        gateway.drop()
        stage.store.worker_ended("tester")
        await stage.work()
        await stage.settled()
        await eventually(lambda: gateway.resumed == 2)
        states = {job.task["prompt"]: job.state for job in stage.store.find()}
        assert states == {"fox": "cancelled", "cat": "done"}
        assert sorted(message.content.split("*")[2] for message in stage.messages) == ["cat", "fox"]
        assert gateway.identified == 1

    perform(scene)


def test_a_session_that_is_invalid_begins_anew_and_no_job_is_lost(perform):
    async def scene(stage):
        ann, gateway = stage.person("ann"), stage.discord.gateway
        await stage.imagine(ann, "fox")
        gateway.invalidate()
        lost = ann.give(stage.channel, "imagine", prompt="cat")
        await stage.work()
        await eventually(lambda: gateway.identified == 2)
        await stage.settled()
        assert not lost.is_delivered and lost.has_failed, "Discord tells the person that nobody answered"
        assert "U1" in stage.messages[0].buttons and len(stage.messages) == len(stage.store.find()) == 1
        await stage.imagine(ann, "cat")
        assert len(stage.messages) == 2

    perform(scene)


def test_discord_asks_for_another_connection(perform):
    async def scene(stage):
        ann, gateway = stage.person("ann"), stage.discord.gateway
        gateway.ask_to_reconnect()
        command = ann.give(stage.channel, "imagine", prompt="fox")
        await eventually(lambda: gateway.resumed == 1)
        await command.wait()
        await eventually(lambda: len(stage.messages) == 1)
        assert gateway.identified == 1

    perform(scene)


def test_heartbeats_go_on_while_jobs_run(perform):
    async def scene(stage):
        await stage.imagine(stage.person("ann"), "fox")
        await eventually(lambda: stage.discord.gateway.heartbeats >= 4)

    perform(scene, heartbeat=0.2)
