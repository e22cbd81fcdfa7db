"""Whatever Discord refuses when a message is edited or sent: the person sees what became of the job, once."""

import aiohttp
import discord
import pytest

from calotype.bot.delivery import MAX_NONCE, OLD_SECONDS, SMALLER, nonce_of
from calotype.errors import CalotypeError
from tests.bot.conftest import buttons, noise, work

EDIT, SEND = ("PATCH", "/channels/{id}/messages/*"), ("POST", "/channels/{id}/messages")


def fail(evening, route, status, code=0, times=None):
    method, path = route
    evening.env.inject_error(method, path.format(id=evening.channel.id), status=status, code=code, times=times)


def count(evening, route):
    """How often the bot tried."""
    method, path = route
    start, _, rest = path.format(id=evening.channel.id).partition("*")
    found = [entry for entry in evening.env.http_requests if entry.method == method and entry.path.startswith(start)]
    return len([entry for entry in found if rest or method == "PATCH" or entry.path == start])


@pytest.mark.parametrize(("status", "code"), [(404, 10008), (400, 50083), (400, 30046), (429, 30046), (403, 50005)])
def test_where_a_message_can_no_longer_be_edited_the_end_comes_in_a_new_one(play, studio, status, code):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        fail(evening, EDIT, status, code)
        await evening.work(preview=b"\xff\xd8\xff")
        await evening.look()
        assert len(evening.messages) == 1 and count(evening, EDIT) == 1, "it is left alone until the end"
        studio.service.store.worker_ended("tester")
        await evening.work()
        end = evening.messages[-1]
        assert "U1" in buttons(end) and len(end.attachments) == 1
        assert studio.chat.open_messages() == []
        assert len(evening.messages) == (1 if code == 30046 else 2), "one that says that the job waits does not stay"

    play(scene)


def test_an_old_message_that_cannot_be_deleted_harms_nothing(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        fail(evening, EDIT, 400, 30046)
        fail(evening, ("DELETE", EDIT[1]), 500, 0)
        await evening.work()
        assert ["U1" in buttons(message) for message in evening.messages] == [False, True]
        assert studio.chat.open_messages() == []

    play(scene)


def test_where_neither_edits_nor_messages_are_taken_the_person_gets_a_direct_message(play, studio):
    async def scene(evening):
        user = evening.env.create_user("ann")
        ann = evening.guild.add_member(user)
        await ann.slash(evening.channel, "imagine", prompt="fox")
        for route in (EDIT, SEND):
            fail(evening, route, 400, 50083)
        await evening.work()
        assert "U1" in buttons(user.dm_channel.last_message) and studio.chat.open_messages() == []

    play(scene)


def test_where_nobody_is_reached_at_first_the_person_finds_the_job(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        fail(evening, SEND, 403, 50013)
        evening.env.inject_error("POST", "/users/@me/channels", status=403, code=50007, times=None)
        await ann.slash(evening.channel, "imagine", prompt="fox")
        assert studio.chat.open_messages() == []
        evening.env.backend.faults.clear()
        await evening.work()
        (job,) = studio.service.store.find()
        shown = await ann.slash(evening.channel, "show", job=job.id)
        assert "U1" in buttons(shown.response.message)

    play(scene)


@pytest.mark.parametrize("route", [EDIT, SEND], ids=["edit", "send"])
def test_what_discord_refuses_for_any_other_reason_is_said_in_plain_words(play, studio, route):
    async def scene(evening):
        ann = evening.person("ann")
        if route is SEND:
            fail(evening, SEND, 400, 200000, times=1)
        await ann.slash(evening.channel, "imagine", prompt="fox")
        if route is EDIT:
            fail(evening, EDIT, 400, 50035, times=1)
            await evening.work()
            assert studio.chat.open_messages() == []
        (message,) = evening.messages
        (job,) = studio.service.store.find()
        plain = f"{ann.mention} Discord does not take the message of this job; /show `{job.id}` shows the job"
        assert message.content == plain and message.attachments == [] and buttons(message) == {}

    play(scene)


def test_plain_words_are_not_repeated_and_a_direct_message_follows_where_they_are_refused_too(play, studio):
    async def scene(evening):
        user = evening.env.create_user("ann")
        ann = evening.guild.add_member(user)
        await ann.slash(evening.channel, "imagine", prompt="fox")
        fail(evening, EDIT, 400, 50035)
        fail(evening, SEND, 400, 50035)
        before = count(evening, SEND)
        await evening.work()
        await evening.look()
        assert (count(evening, EDIT), count(evening, SEND) - before) == (2, 2)
        assert "U1" in buttons(user.dm_channel.last_message) and studio.chat.open_messages() == []

    play(scene)


@pytest.mark.parametrize(("status", "code"), [(413, 0), (413, 40005), (400, 40005)])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_picture_that_is_too_large_is_made_smaller_and_smaller_and_that_is_said(play, studio, status, code, times):
    large = noise(900)
    assert SMALLER[1] < len(large) < SMALLER[0]

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        fail(evening, EDIT, status, code, times)
        await evening.work(content=large)
        (message,) = evening.messages
        assert "U1" in buttons(message) and studio.chat.open_messages() == []
        sizes = [attachment.size for attachment in message.attachments]
        if times < 3:
            assert sizes[0] <= SMALLER[times] and "was sent smaller, as JPEG" in message.content
        else:
            assert sizes == [] and "too large for Discord, even made smaller" in message.content

    play(scene)


def test_a_small_picture_that_is_too_large_is_not_sent_twice(play):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        fail(evening, EDIT, 413, 40005, times=1)
        await evening.work()
        assert count(evening, EDIT) == 2 and evening.messages[0].attachments == []

    play(scene)


def test_a_new_message_with_a_picture_that_is_too_large_is_sent_smaller_too(play):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        fail(evening, EDIT, 404, 10008)
        fail(evening, SEND, 413, 40005, times=1)
        await evening.work(content=noise(900))
        message = evening.messages[-1]
        assert message.attachments[0].size <= SMALLER[1] and "was sent smaller" in message.content

    play(scene)


UNAVAILABLE = type("Response", (), {"status": 503, "reason": "Unavailable"})()
PASSING = {
    "503": lambda: discord.DiscordServerError(UNAVAILABLE, "busy"),
    "rate limit": lambda: discord.RateLimited(600.0),
    "connection": aiohttp.ServerDisconnectedError,
    "socket": ConnectionResetError,
    "time": TimeoutError,
    "a bug": lambda: RuntimeError("an error of the program"),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("name", ["edit", "send"])
def test_what_may_pass_is_tried_again_later_and_later_and_delays_no_other_job(play, studio, monkeypatch, fault, name):
    places, tries = {"edit": discord.PartialMessage, "send": discord.PartialMessageable}, []
    original = getattr(places[name], name)

    async def failing(self, *args, **more):
        if "fox" in str(args) + str(more.get("content")):
            tries.append(1)
            raise fault()
        return await original(self, *args, **more)

    async def scene(evening):
        ann = evening.person("ann")
        if name == "edit":
            await ann.slash(evening.channel, "imagine", prompt="fox")
        monkeypatch.setattr(places[name], name, failing)
        if name == "send":
            await ann.slash(evening.channel, "imagine", prompt="fox")
        await ann.slash(evening.channel, "imagine", prompt="cat")
        for _ in range(2):
            await evening.work()
        cat = next(message for message in evening.messages if "cat" in message.content)
        assert "U1" in buttons(cat)
        before = len(tries)
        for _ in range(64):
            await evening.look(seconds=1)
        assert len(tries) - before <= 5, "it waits longer each time"
        monkeypatch.setattr(places[name], name, original)
        await evening.look()
        assert all("U1" in buttons(message) for message in evening.messages) and len(evening.messages) == 2
        assert studio.chat.open_messages() == []

    play(scene)


@pytest.mark.parametrize("status", [401, 429, 502])
def test_a_token_that_was_replaced_or_a_limit_loses_no_message(play, studio, status):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        fail(evening, EDIT, status)
        await evening.work()
        await evening.look()
        assert len(studio.chat.open_messages()) == 1 and len(evening.messages) == 1
        evening.env.backend.faults.clear()
        await evening.look()
        assert "U1" in buttons(evening.messages[0])

    play(scene)


def test_a_rate_limit_of_an_old_message_means_a_new_one(play, studio, clock, monkeypatch):
    async def limited(self, **_):
        raise discord.RateLimited(900.0)

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        clock.now += OLD_SECONDS + 1
        monkeypatch.setattr(discord.PartialMessage, "edit", limited)
        await evening.work()
        (message,) = evening.messages
        assert "U1" in buttons(message)

    play(scene)


@pytest.mark.parametrize("ruin", ["broken", "deleted"])
def test_a_picture_that_cannot_be_read_is_said_in_its_message_and_others_are_shown(play, studio, monkeypatch, ruin):
    monkeypatch.setattr("calotype.bot.delivery.Delivery.limit", lambda *_: 20_000)

    async def scene(evening):
        ann = evening.person("ann")
        for prompt in ("fox", "cat"):
            await ann.slash(evening.channel, "imagine", prompt=prompt)
        store = studio.service.store
        if ruin == "broken":
            await evening.work(content=b"\x89PNG\r\n" + b"no picture" * 10_000)
        else:
            claim = work(store)
            for result in store.get(claim.job.id).results:
                store.files.delete_result(result.id)
        await evening.work()
        first, second = evening.messages
        assert "The picture cannot be shown: " in first.content and "/tmp" not in first.content
        assert "U1" in buttons(first) and len(second.attachments) == 1
        assert studio.chat.open_messages() == []

    play(scene)


@pytest.mark.parametrize("is_restarted", [True, False])
def test_an_answer_that_is_lost_doubles_no_message_and_it_shows_the_latest(play, studio, monkeypatch, is_restarted):
    known, send = {}, discord.PartialMessageable.send

    async def enforcing(self, *args, nonce=None, **more):
        """As Discord takes a nonce; the first answer is lost."""
        if nonce in known:
            return known[nonce]
        known[nonce] = await send(self, *args, nonce=nonce, **more)
        raise aiohttp.ServerDisconnectedError

    async def scene(evening):
        ann = evening.person("ann")
        monkeypatch.setattr(discord.PartialMessageable, "send", enforcing)
        await ann.slash(evening.channel, "imagine", prompt="fox")
        if is_restarted:
            await evening.restart()
        await evening.work()
        (message,) = evening.messages
        assert "U1" in buttons(message) and len(message.attachments) == 1
        assert studio.chat.message(studio.service.store.find()[0].id).message == str(message.id)
        assert all(len(nonce) <= MAX_NONCE for nonce in known)

    play(scene)


def test_a_message_whose_answer_was_lost_and_that_was_deleted_is_sent_again(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        fail(evening, SEND, 404, 10008, times=1)
        await ann.slash(evening.channel, "imagine", prompt="fox")
        assert len(evening.messages) == 1 and studio.chat.open_messages()[0].message == str(evening.messages[0].id)

    play(scene)


def test_a_nonce_is_short_and_differs_for_each_message():
    sources = [("1", "job", ""), ("2", "job", ""), ("1", "job", "77"), ("1", "u.job.1", ""), ("1", "u.job.11", "")]
    nonces = [nonce_of(*source) for source in sources]
    assert len(set(nonces)) == len(nonces) and {len(nonce) for nonce in nonces} == {MAX_NONCE}
    assert nonce_of(*sources[0]) == nonces[0]


def test_a_long_reason_of_a_failure_fits_into_its_message(play):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox " * 1000)
        await evening.work(fault=CalotypeError("no: {reason}", reason="word " * 900))
        (message,) = evening.messages
        assert 1900 < len(message.content) <= 2000 and message.content.endswith("word…")
        assert "Try again" in buttons(message)

    play(scene)
