"""The loop behind the messages: what it reads, in which order it edits, and that nobody waits for another."""

import asyncio
from collections import Counter

import discord
import pytest

from calotype.api.limiter import Rate, RateLimiter
from calotype.bot import follow
from calotype.bot.commands import new_bot
from calotype.bot.delivery import OLD_SECONDS
from calotype.bot.follow import EDIT_SECONDS, EDITS
from calotype.jobs.account import Allowance
from calotype.jobs.users import Accounts
from tests.bot.conftest import NEVER, buttons, work

JPEG = b"\xff\xd8\xff"


@pytest.fixture
def edits(monkeypatch):
    """The texts of all edits, as they are made."""
    made, edit = [], discord.PartialMessage.edit

    async def counted(self, **content):
        made.append(content["content"])
        return await edit(self, **content)

    monkeypatch.setattr(discord.PartialMessage, "edit", counted)
    return made


@pytest.fixture(autouse=True)
def patient(studio):
    studio.flood = studio.crowd = RateLimiter(Rate(1000, 1000))


def test_ends_of_jobs_come_first_then_running_ones_then_waiting_ones(play, studio, edits):
    async def scene(evening):
        ann, store = evening.person("ann"), studio.service.store
        for prompt in ("fox", "cat", "dog", "owl"):
            await ann.slash(evening.channel, "imagine", prompt=prompt)
        work(store, preview=JPEG)
        owl = store.queue(studio.chat.member(str(ann.id)).account.id)[-1]
        store.cancel(owl.id)
        edits.clear()
        await evening.look()
        first, second, *others = edits
        assert "cancelled" in first and "25 %" in second and others and all("before it" in text for text in others)

    play(scene)


def test_a_look_reads_the_store_once_for_all_messages_and_places_only_if_a_job_waits(play, studio, monkeypatch):
    reads, store = Counter(), studio.service.store

    def counted(read):
        def read_and_counted(*args, **more):
            reads[read.__name__] += 1
            return read(*args, **more)

        return read_and_counted

    for part, name in ((studio.chat, "open_messages"), (store, "places"), (studio.chat, "message"), (store, "get")):
        monkeypatch.setattr(part, name, counted(getattr(part, name)))

    async def scene(evening):
        people = [evening.person(f"person{n}") for n in range(4)]
        for person in people:
            await person.slash(evening.channel, "imagine", prompt="fox")
        await evening.look()
        reads.clear()
        await evening.look()
        assert reads == {"open_messages": 1, "places": 1}, "nothing has changed"
        reads.clear()
        await evening.look(seconds=1)
        assert reads == {"open_messages": 1}
        for _ in people:
            work(store)
        reads.clear()
        await evening.look()
        assert (reads["open_messages"], reads["places"]) == (1, 0)

    play(scene)


def test_a_channel_takes_few_edits_at_a_time_and_ends_do_not_wait_for_them(play, studio, edits):
    async def scene(evening):
        store = studio.service.store
        for n in range(2 * EDITS + 1):
            await evening.person(f"person{n}").slash(evening.channel, "imagine", prompt=f"fox {n}")
        claims = [work(store, preview=JPEG) for _ in range(2 * EDITS + 1)]
        edits.clear()
        await evening.look()
        assert len(edits) == EDITS
        await evening.look(seconds=1)
        assert len(edits) == EDITS
        store.finish(claims[-1], [], 1.0)
        await evening.look(seconds=1)
        assert len(edits) == EDITS + 1 and "done in" in edits[-1]
        await evening.look()
        assert len(edits) == 2 * EDITS + 1

    play(scene)


def test_of_many_running_jobs_each_has_its_turn(play, studio, edits):
    async def scene(evening):
        store, count = studio.service.store, 2 * EDITS + 1
        for n in range(count):
            await evening.person(f"person{n}").slash(evening.channel, "imagine", prompt=f"fox {n}")
        claims = [work(store, preview=JPEG) for _ in range(count)]
        await evening.look()
        edits.clear()
        for _ in range(4):
            for claim in claims:
                store.add_preview(claim, JPEG)
            await evening.look(seconds=5)
        assert len({text.split("**")[1] for text in edits}) == count

    play(scene)


def test_previews_come_every_few_seconds(play, studio, edits):
    async def scene(evening):
        ann, store = evening.person("ann"), studio.service.store
        await ann.slash(evening.channel, "imagine", prompt="fox")
        claim = work(store, preview=JPEG)
        await evening.look()
        edits.clear()
        for done in range(60):
            store.add_preview(claim, JPEG + bytes([done]))
            await evening.look(seconds=0.5)
        assert 30 / EDIT_SECONDS - 1 <= len(edits) <= 30 / EDIT_SECONDS + 1

    play(scene)


def test_an_old_message_is_edited_at_the_end_only(play, studio, clock, edits):
    async def scene(evening):
        ann, store = evening.person("ann"), studio.service.store
        await ann.slash(evening.channel, "imagine", prompt="fox")
        clock.now += OLD_SECONDS - 60
        work(store, preview=JPEG)
        await evening.look()
        assert "25 %" in evening.messages[0].content
        edits.clear()
        clock.now += 120
        store.worker_ended("tester")
        work(store, preview=JPEG)
        await evening.look()
        assert edits == []
        store.worker_ended("tester")
        await evening.work()
        assert len(edits) == 1 and "U1" in buttons(evening.messages[0]) and len(evening.messages) == 1

    play(scene)


@pytest.mark.parametrize("is_elsewhere", [True, False], ids=["another channel", "the same channel"])
def test_nobody_waits_for_a_message_that_takes_long(play, studio, monkeypatch, is_elsewhere):
    monkeypatch.setattr(follow, "SLOW_SECONDS", 0.05)
    edit, hung = discord.PartialMessage.edit, []

    async def hanging(self, **content):
        if "fox" in content["content"]:
            hung.append(self.id)
            await asyncio.sleep(NEVER)
        return await edit(self, **content)

    async def scene(evening):
        ann = evening.person("ann")
        other = evening.guild.create_text_channel("other") if is_elsewhere else evening.channel
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await ann.slash(other, "imagine", prompt="cat")
        monkeypatch.setattr(discord.PartialMessage, "edit", hanging)
        await asyncio.wait_for(evening.work(), 10)
        await asyncio.wait_for(evening.work(), 10)
        cat = next(message for message in other.history() if "cat" in message.content)
        assert "U1" in buttons(cat) and len(hung) == 1, "a message is sent once at a time"
        monkeypatch.setattr(discord.PartialMessage, "edit", edit)
        await evening.restart()
        await evening.look()
        assert all("U1" in buttons(message) for message in evening.messages)

    play(scene)


def test_commands_and_buttons_wait_for_no_edit_and_wake_the_loop(play, studio, monkeypatch):
    edit = discord.PartialMessage.edit

    async def slow(self, **content):
        await asyncio.sleep(NEVER)

    async def scene(evening):
        ann, store = evening.person("ann"), studio.service.store
        admin = evening.guild.create_role("admin", permissions=discord.Permissions(administrator=True))
        owner = evening.person("owner", roles=[admin])
        evening.bot.is_owner = lambda interaction: interaction.user.id == owner.id
        for _ in range(3):
            await ann.slash(evening.channel, "imagine", prompt="fox")
        monkeypatch.setattr(discord.PartialMessage, "edit", slow)
        first = store.queue(studio.chat.member(str(ann.id)).account.id)[0]
        assert (await ann.slash(evening.channel, "cancel", job=first.id)).response.content == "1 job is cancelled\nfox"
        await ann.click(evening.messages[1], label="Cancel")
        assert "closed for" in (await owner.slash(evening.channel, "ban", person=ann)).response.content
        assert {job.state for job in store.find()} == {"cancelled"}
        monkeypatch.setattr(discord.PartialMessage, "edit", edit)
        await evening.restart()
        assert all("cancelled" in message.content for message in evening.messages), "mended at the start"

    play(scene)


def test_a_job_that_is_being_cancelled_says_so_at_once(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(preview=JPEG)
        await ann.click(evening.messages[0], label="Cancel")
        assert evening.messages[0].content.endswith("is being cancelled")

    play(scene)


def test_a_job_that_is_tried_again_on_the_page_is_followed_again(play, studio):
    async def scene(evening):
        ann, store = evening.person("ann"), studio.service.store
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await ann.slash(evening.channel, "cancel")
        assert "Try again" in buttons(evening.messages[0]) and studio.chat.open_messages() == []
        store.retry(store.find()[0].id)
        await evening.look()
        assert "Cancel" in buttons(evening.messages[0])
        await evening.work()
        assert "U1" in buttons(evening.messages[0]) and len(evening.messages) == 1

    play(scene)


def test_jobs_of_the_page_are_not_posted(play, studio, clock):
    accounts = Accounts(studio.service.store.database, clock)
    page = accounts.add("ann", Allowance())

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "link", code=accounts.add_code(page))
        studio.service.store.submit(page.id, "imagine", {"prompt": "fox"}, budget=page.budget)
        await evening.look()
        await evening.work()
        assert evening.messages == []

    play(scene)


def test_a_bot_that_starts_edits_only_what_has_changed(play, studio, edits):
    async def scene(evening):
        ann, store = evening.person("ann"), studio.service.store
        for prompt in ("fox", "cat"):
            await ann.slash(evening.channel, "imagine", prompt=prompt)
        await evening.work(preview=JPEG)
        edits.clear()
        await evening.restart()
        assert [text for text in edits if "fox" in text] == []
        store.worker_ended("tester")
        work(store)
        edits.clear()
        await evening.restart()
        assert ["done in" in text for text in edits if "fox" in text] == [True]

    play(scene)


def test_the_loop_goes_on_whatever_fails_and_ends_with_the_bot(studio, monkeypatch):
    looks = []

    def failing():
        looks.append(1)
        raise RuntimeError

    async def whole():
        monkeypatch.setattr(studio.chat, "open_messages", failing)
        follower = new_bot(studio, look_seconds=0.01).follower
        loop = asyncio.create_task(follower.run())
        while len(looks) < 3:
            await asyncio.sleep(0.01)
        loop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loop
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(whole())


def test_a_request_waits_half_a_minute_for_its_turn_at_most(studio):
    async def whole():
        return new_bot(studio).http.max_ratelimit_timeout

    assert asyncio.run(whole()) == 30
