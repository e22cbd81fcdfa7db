"""Who is served, and how much everybody may use: servers, newcomers, the owner's commands, links, floods."""

import re
import time

import discord
import pytest

from calotype.api.limiter import Rate, RateLimiter
from calotype.bot.commands.owner import stats_text
from calotype.bot.settings import BotSettings
from calotype.bot.studio import DAY, CommandPlace, Person
from calotype.errors import CalotypeError
from calotype.jobs.account import Allowance
from tests.api.conftest import png
from tests.bot.conftest import OLD, buttons, plain, work

OLD_PERSON = Person("70000000000000007", 0.0, 0.0, (), "Ann *A*")
PLACE = CommandPlace("1")


@pytest.fixture
def accounts(studio):
    return studio.service.accounts


def owner_of(evening, studio, **settings):
    """The owner of the bot, who may use the owner's commands on the server."""
    role = evening.guild.create_role("admin", permissions=discord.Permissions(administrator=True))
    owner = evening.person("owner", roles=[role])
    studio.settings = BotSettings(account_days=0, member_days=0, owner=(str(owner.id),), **settings)
    return owner


async def text(who, channel, name, /, **options):
    response = (await who.slash(channel, name, **options)).response
    return plain(response.content) if response else ""  # it is deleted where there is nothing to say


async def press(who, message, label):
    """What a press says to the person alone."""
    result = await who.click(message, custom_id=buttons(message)[label])
    return plain(result.followups[-1].content if result.followups else result.response.content)


# Servers


def test_the_bot_serves_the_servers_of_its_owner_and_leaves_others(play, studio):
    async def scene(evening):
        other = evening.env.create_guild("other")
        await evening.env.settle()
        studio.settings = BotSettings(account_days=0, member_days=0, servers=(str(evening.guild.id),))
        channel, stranger = other.create_text_channel("talk"), other.add_member(evening.env.create_user("eve"))
        refused = await stranger.slash(channel, "imagine", prompt="fox")
        assert (
            refused.response.content == "this bot serves the servers of its owner only" and refused.response.ephemeral
        )
        assert "the servers of its owner only" in (await stranger.user.slash("info")).response.content
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        assert "your own account" in (await ann.user.slash("info")).response.content
        assert len(studio.service.store.find()) == 1 == len(evening.messages)
        await evening.restart()
        assert [guild.id for guild in evening.bot.guilds] == [evening.guild.id]
        late = evening.env.create_guild("late")
        await evening.env.settle()
        assert late.id not in [guild.id for guild in evening.bot.guilds]

    play(scene)


def test_a_press_on_another_server_makes_no_job(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        studio.settings = BotSettings(servers=("1",))
        assert "the servers of its owner only" in await press(ann, evening.messages[0], "V1")
        assert len(studio.service.store.find()) == 1

    play(scene)


# Newcomers


def test_in_direct_messages_newcomers_are_known_from_the_shared_servers(play, studio, clock):
    async def scene(evening):
        studio.settings = BotSettings(account_days=0, member_days=1)
        known, new = evening.person("known"), evening.person("new")
        alone = evening.env.create_user("alone")
        began = evening.env.now().timestamp()
        clock.now = began + 2 * DAY
        assert "of 600 device seconds used today" in (await known.user.slash("info")).response.content
        clock.now = began + DAY / 2
        assert "of 60 device seconds of your trial" in (await new.user.slash("info")).response.content
        assert "your trial ends in 1 day; then you have 600 device" in (await new.user.slash("info")).response.content
        clock.now = began + 2 * DAY
        assert "of 60 device seconds of your trial" in (await alone.slash("info")).response.content
        assert "of 600 device seconds used today" in (await new.user.slash("info")).response.content

    play(scene)


def test_somebody_who_is_known_stays_so_where_nothing_is_known(studio, clock):
    studio.settings = BotSettings(account_days=0, member_days=1)
    assert studio.member(Person("1", 0.0)).account.invitation
    studio.member(Person("1", 0.0, clock.now - 2 * DAY))
    assert studio.member(Person("1", 0.0)).account.budget.seconds == 600


# The owner's commands


def test_of_a_team_only_its_owner_and_those_who_may_change_the_app_are_owners(play, studio):
    async def scene(evening):
        role = evening.guild.create_role("admin", permissions=discord.Permissions(administrator=True))
        accepted, invited = 2, 1
        roles = {
            "head": (accepted, "read_only"),
            "admin": (accepted, "admin"),
            "developer": (accepted, "developer"),
            "reader": (accepted, "read_only"),
            "asked": (invited, "admin"),
        }
        people = {name: evening.person(name, roles=[role]) for name in (*roles, "ann")}
        users = {
            name: {"id": str(people[name].id), "username": name, "discriminator": "0", "avatar": None} for name in roles
        }
        members = [
            {"user": users[name], "membership_state": joined, "role": role} for name, (joined, role) in roles.items()
        ]
        team = {"id": "1", "name": "team", "icon": None, "owner_user_id": str(people["head"].id), "members": members}
        app = await evening.bot.http.application_info()
        evening.bot._application = discord.AppInfo(evening.bot._connection, {**app, "team": team})
        said = {name: await text(person, evening.channel, "stats") for name, person in people.items()}
        owners = [name for name in said if said[name] != "this command is for the owner of the bot"]
        assert owners == ["head", "admin", "developer"]

    play(scene)


def test_a_ban_is_by_id_too_and_its_end_renews_nothing(play, studio, clock):
    async def scene(evening):
        owner, ann = owner_of(evening, studio, daily_seconds=5), evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="{red, blue} fox")
        await evening.work(seconds=4)
        evening.guild.remove_member(ann)
        assert await text(owner, evening.channel, "ban", id=str(ann.id)) == "the bot is closed for <@N>"
        assert studio.service.store.counts() == {"done": 1, "cancelled": 1}
        with pytest.raises(CalotypeError, match="has closed it for you"):
            studio.member(Person(str(ann.id), 0.0))
        assert await text(owner, evening.channel, "ban", id=str(ann.id), off=True) == "the bot is open for <@N>"
        member = studio.member(Person(str(ann.id), 0.0))
        assert studio.service.store.spent(member.account.id) == 4 and member.account.budget.seconds == 5
        for wrong in ({"id": "ann"}, {"id": "9" * 25}, {}):
            assert "name a person, or the person's id" in await text(owner, evening.channel, "ban", **wrong)
        studio.settings = BotSettings(owner=(str(owner.id),))  # who was never seen comes as a newcomer, banned or not
        stranger = str(int(time.time() * 1000 - 1420070400000) << 22)
        await text(owner, evening.channel, "ban", id=stranger)
        await text(owner, evening.channel, "ban", id=stranger, off=True)
        assert studio.chat.member(stranger).account.budget.seconds == 60

    play(scene)


def test_newcomers_share_the_trial_of_an_invitation(play, studio):
    async def scene(evening):
        owner = owner_of(evening, studio)
        ann, ben, cleo = (evening.person(name) for name in ("ann", "ben", "cleo"))
        invited = (await owner.slash(evening.channel, "invite", people=2, seconds=100.0)).response
        assert invited.ephemeral and "2 newcomers have 100 device seconds with it, together" in invited.content
        code = re.search(r"inv_\w{16}_[\w-]{43}", invited.content)[0]
        studio.settings = BotSettings(account_days=10**4, owner=(str(owner.id),))
        for person in (ann, ben):
            said = await text(person, evening.channel, "link", code=code)
            assert said == "the invitation is yours: 0 of its 100 device seconds are used"
        assert "used up: 2 accounts" in await text(cleo, evening.channel, "link", code=code)
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(seconds=30)
        told = await text(ben, evening.channel, "info")
        assert "30 of 100 device seconds used, of a trial that 2 accounts share" in told
        studio.settings = BotSettings(account_days=0, member_days=0)
        assert "30 of 600 device seconds used today" in await text(ann, evening.channel, "info")
        assert "0 of 600 device seconds used today" in await text(ben, evening.channel, "info")
        assert "an invitation is for newcomers" in await text(ben, evening.channel, "link", code=code)

    play(scene)


def test_a_grant_lets_waiting_jobs_go_on(play, studio, clock):
    async def scene(evening):
        owner, ann = owner_of(evening, studio, daily_seconds=3), evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="{red, blue} fox")
        await evening.work(seconds=4)
        held = "waits: the budget of today is used up; goes on in 24.0 hours"
        assert held in evening.messages[1].content
        assert held in await text(ann, evening.channel, "queue")
        assert f"your next job: {held}" in await text(ann, evening.channel, "info")
        assert studio.service.store.claim("w") is None
        assert await text(owner, evening.channel, "grant", whom=ann, seconds=9.0) == "<@N>: 9 device seconds a day"
        evening.bot.follower._shown.clear()
        await evening.look()
        assert "next in the queue" in evening.messages[1].content
        await evening.work(seconds=4)
        assert "done in" in evening.messages[1].content
        usual = await text(owner, evening.channel, "grant", whom=ann, usual=True)
        assert usual == "<@N>: what the settings of the bot give"
        assert studio.chat.member(str(ann.id)).account.budget.seconds == 3

    play(scene)


def test_stats_tell_who_used_what_within_a_message(play, studio, accounts, clock):
    async def scene(evening):
        owner, ann = owner_of(evening, studio), evening.person("ann")
        page = accounts.add("maria", Allowance())
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(seconds=4)
        clock.now += 3 * DAY
        await ann.slash(evening.channel, "link", code=accounts.add_code(page))
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(seconds=2)
        studio.service.store.submit(page.id, "restore", {})
        studio.service.store.finish(studio.service.store.claim("w"), [], 1)
        assert await text(owner, evening.channel, "stats") == (
            "today: 3.0 device seconds, 4 pictures (/imagine 1, /restore 1)\n"
            "30 days: 7.0 device seconds, 8 pictures (/imagine 2, /restore 1)\n"
            "**maria (ann on Discord)**\n"
            "today: 3.0 device seconds, 4 pictures (/imagine 1, /restore 1)\n"
            "30 days: 7.0 device seconds, 8 pictures (/imagine 2, /restore 1)"
        )
        for number in range(40):
            member = studio.visit(Person(f"{number:017}", 0.0, 0.0, (), f"Somebody with a long name {number}"))
            studio.service.store.submit(member.account.id, "upscale", {})
            studio.service.store.finish(studio.service.store.claim("w"), [], 1 + number / 100)
        told = await text(owner, evening.channel, "stats")
        assert len(told) < 2000 and told.startswith("41 people\ntoday: 50.8 device seconds")
        named = told.count("**") // 2
        assert told.endswith(f"and {41 - named} more people") and 5 < named < 20

    play(scene)


def test_stats_name_every_kind_of_job_in_the_owners_language(play, studio, accounts):
    async def scene(evening):
        store, page = studio.service.store, accounts.add("maria")
        for kind in ("colour", "split", "upscale"):
            store.submit(page.id, kind, {})
            store.finish(store.claim("w"), [], 1)
        told = stats_text(evening.bot, 30, "zh")
        assert "/upscale 1" in told and "上色 1" in told and "裁出照片 1" in told

    play(scene)


# Budgets


def test_of_a_command_the_jobs_that_fit_are_taken(play, studio):
    async def scene(evening):
        studio.settings = BotSettings(account_days=0, member_days=0, daily_seconds=20)
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(seconds=6)
        said = await text(ann, evening.channel, "imagine", prompt="fox --repeat 4")
        assert said == (
            "2 jobs are in the queue; the next one: this takes about 6 device seconds, and 2 of the 20 of today are "
            "left for it; go on in 24.0 hours"
        )
        assert studio.service.store.counts() == {"done": 1, "queued": 2} and len(evening.messages) == 3
        assert "and 2 of the 20 of today are left for it" in await press(ann, evening.messages[0], "🔄")

    play(scene)


def test_a_larger_prompt_counts_for_more(studio):
    studio.settings = BotSettings(account_days=0, member_days=0, daily_seconds=15)
    studio.imagine(studio.member(OLD_PERSON), "fox", "a", PLACE)
    work(studio.service.store, seconds=6)
    with pytest.raises(CalotypeError, match=r"takes about \d+ device seconds, and the account has 15; make it smaller"):
        studio.imagine(studio.member(OLD_PERSON), "{fox, cat} --ar 1:1 --quality 4 --repeat 2", "b", PLACE)
    assert studio.service.store.counts() == {"done": 1}


def test_roles_of_every_server_count_until_the_bot_leaves_it(play, studio):
    async def scene(evening):
        owner_of(evening, studio, daily_seconds=5)
        other = evening.env.create_guild("other")
        patron, talk = other.create_role("patron"), other.create_text_channel("talk")
        ann = evening.person("ann")
        there = other.add_member(ann.user, roles=[patron])
        studio.chat.grant_role(str(patron.id), 900, studio.terms())
        for who, channel in ((there, talk), (ann, evening.channel)):
            assert "of 900 device seconds used today" in await text(who, channel, "info")
        await evening.restart()
        assert "of 900 device seconds used today" in await text(ann, evening.channel, "info")
        await evening.bot.get_guild(other.id).leave()
        await evening.env.settle()
        assert "of 5 device seconds used today" in await text(ann, evening.channel, "info")
        studio.chat.visit(str(ann.id), studio.terms(), roles=[str(patron.id)], server="1")  # left while the bot was off
        assert "of 900 device seconds used today" in await text(ann, evening.channel, "info")
        await evening.restart()
        assert "of 5 device seconds used today" in await text(ann, evening.channel, "info")

    play(scene)


# Links


def test_a_grant_of_the_usual_leaves_the_account_of_the_page_as_it_is_and_says_so(play, studio, accounts):
    async def scene(evening):
        owner, ann = owner_of(evening, studio), evening.person("ann")
        await text(ann, evening.channel, "link", code=accounts.add_code(accounts.add("maria", Allowance(seconds=100))))
        assert await text(owner, evening.channel, "grant", whom=ann, usual=True) == (
            "<@N>: what the settings of the bot give, once /unlink has ended the link to the account maria of the "
            "page; that account stays as it is"
        )
        assert "0 of 100 device seconds used today" in await text(ann, evening.channel, "info")

    play(scene)


def test_linking_and_its_end_are_one_sentence_each(play, studio, accounts):
    page = accounts.add("maria", Allowance(seconds=100))

    async def scene(evening):
        ann, ben = evening.person("ann"), evening.person("ben")

        async def link(who):
            return await text(who, evening.channel, "link", code=accounts.add_code(page))

        assert (
            await text(ann, evening.channel, "unlink") == "your Discord account is not linked to an account of the page"
        )
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(seconds=10)
        assert await link(ann) == "linked to the account maria: one budget for both"
        assert await link(ann) == "you are linked to the account maria already; /unlink ends that"
        assert await link(ben) == (
            "the account maria is linked already, to ann on Discord, who can end that by /unlink"
        )
        told = await text(ann, evening.channel, "info")
        assert told.startswith(
            "account maria of the page\n10 of 100 device seconds used today; a new budget begins in 24.0 hours"
        )
        assert await text(ann, evening.channel, "unlink") == (
            "no longer linked to the account maria; pictures made meanwhile stay with it"
        )
        assert "10 of 600 device seconds used today" in await text(ann, evening.channel, "info")
        job = studio.service.store.find()[0]
        assert (await ann.slash(evening.channel, "show", job=job.id)).response.attachments, "ann gave it"
        assert await text(ben, evening.channel, "show", job=job.id) == "there is no such job"
        assert await link(ben) == "linked to the account maria: one budget for both"
        accounts.change("maria", is_disabled=True)
        assert "has closed it for you" in await text(ben, evening.channel, "info")

    play(scene)


def test_cancelling_all_leaves_the_jobs_of_the_page(play, studio, accounts):
    page = accounts.add("maria", Allowance())

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "link", code=accounts.add_code(page))
        await ann.slash(evening.channel, "imagine", prompt="fox")
        training = studio.service.store.submit(page.id, "train_lora", {})
        assert await text(ann, evening.channel, "cancel") == "1 job is cancelled\nfox"
        assert studio.service.store.get(training.id).state == "queued"
        assert await text(ann, evening.channel, "cancel", job=training.id) == "1 job is cancelled\nTraining a LoRA"

    play(scene)


def test_who_takes_no_direct_messages_learns_where_private_results_are(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "settings", private=True)
        path = f"/channels/{ann.user.dm_channel.id}/messages"
        evening.env.inject_error("POST", path, status=403, code=50007, times=None)
        said = await text(ann, evening.channel, "imagine", prompt="fox")
        assert said.startswith("Discord does not let the bot send you direct messages.") and "/show" in said
        await evening.work()
        assert evening.messages == [], "what is private stays so"
        shown = await ann.slash(evening.channel, "show", job=studio.service.store.find()[0].id)
        assert shown.response.ephemeral and "U1" in buttons(shown.response.message) and shown.response.attachments

    play(scene)


# Lists and floods


def test_a_long_queue_is_told_by_whole_lines_and_the_next_first(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        for number in range(5):
            await ann.slash(evening.channel, "imagine", prompt=f"{number} {'very ' * 12}red fox --repeat 5")
        told = (await ann.slash(evening.channel, "queue")).response.content
        lines = told.splitlines()
        assert len(told) < 2000 and lines[0].startswith("[0 very") and lines[0].endswith("next in the queue")
        assert lines[-1] == f"and {25 - len(lines) + 1} more" and lines[-2].endswith(f"{len(lines) - 2} jobs before it")

    play(scene)


def test_presses_count_as_commands_do_and_a_channel_has_a_pace_too(play, studio):
    async def scene(evening):
        ann, ben = evening.person("ann"), evening.person("ben")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        for _ in range(9):
            await ann.click(evening.messages[0], label="U1")
        assert "that is too fast; go on in" in await press(ann, evening.messages[0], "U1")
        studio.crowd = RateLimiter(Rate(2, 1))
        said = [await text(ben, evening.channel, "imagine", prompt=f"fox {n}") for n in range(3)]
        assert "too much goes on in this channel; go on in" in said[-1]
        other = evening.guild.create_text_channel("other")
        assert "too much" not in await text(ben, other, "imagine", prompt="fox")

    play(scene)


@pytest.mark.parametrize(
    "reason", ["has closed it for you", "takes /cancel only", "that is too fast", "too much goes on"]
)
def test_what_is_refused_is_not_downloaded_before(play, studio, monkeypatch, reason):
    studio.settings = BotSettings(account_days=0, member_days=0, training=True)
    read = []

    async def reading(attachment, **_):
        read.append(attachment.filename)
        return png(8, 8)

    async def scene(evening):
        ann, file = evening.person("ann"), ("a.png", png(8, 8))
        await text(ann, evening.channel, "info")
        await ann.send(evening.channel, "look", attachments=[file])
        (photo,) = evening.messages
        if reason == "has closed it for you":
            studio.chat.change_member(str(ann.id), is_banned=True)
        elif reason == "takes /cancel only":
            studio.chat.set_options(f"channel-{evening.channel.id}", {"commands": ["cancel"]})
        elif reason == "that is too fast":
            studio.flood = RateLimiter(Rate(0, 1))
        else:
            studio.crowd = RateLimiter(Rate(0, 1))
        monkeypatch.setattr(discord.Attachment, "read", reading)
        said = [
            await text(ann, evening.channel, name, **options)
            for name, options in {
                "imagine": {"prompt": "fox", "picture": file},
                "restore": {"picture": file},
                "upscale": {"picture": file},
                "describe": {"picture": file},
                "blend": {"picture1": file, "picture2": file},
                "train": {"name": "x", "photo1": file},
            }.items()
        ]
        for name in ("Restore faces", "Upscale 2x", "Info"):
            said.append((await ann.context_menu(evening.channel, name, photo)).response.content)
        assert [reason in line for line in said] == [True] * 9 and read == []
        studio.settings = OLD
        assert "training is not open" in await text(ann, evening.channel, "train", name="x", photo1=file)
        assert read == []

    play(scene)


def test_what_only_the_person_sees_counts_for_the_person_and_not_for_the_channel(play, studio):
    async def scene(evening):
        ann, ben = evening.person("ann"), evening.person("ben")
        channel = evening.bot.get_channel(evening.channel.id)
        await channel.create_thread(name="inside", type=discord.ChannelType.public_thread)
        (thread,) = evening.channel.threads
        await ann.slash(thread, "imagine", prompt="{red, blue} fox")
        first, message = [message for message in thread.history() if not message.flags.ephemeral]
        job = buttons(first)["Cancel"].split(":")[2]
        studio.crowd = RateLimiter(Rate(0, 1))  # nothing more in any channel
        commands = {"queue": {}, "info": {}, "settings": {}, "show": {"job": job}, "cancel": {"job": job}}
        for name, options in {**commands, "link": {"code": "x"}, "unlink": {}}.items():
            studio.flood = RateLimiter(Rate(1, 1))
            assert "too much goes on" not in await text(ann, thread, name, **options), name
            assert "that is too fast" in await text(ann, thread, name, **options), name
        studio.flood = RateLimiter(Rate(1, 1))
        await ann.click(message, label="Cancel")
        assert studio.service.store.counts() == {"cancelled": 2}
        assert "that is too fast" not in await text(ben, thread, "info"), "each person has a pace of their own"

    play(scene)


def test_a_banned_person_presses_nothing(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        studio.chat.change_member(str(ann.id), is_banned=True)
        for label in ("U1", "V1"):
            assert "has closed it for you" in await press(ann, evening.messages[0], label)
        assert len(evening.messages) == 1

    play(scene)
