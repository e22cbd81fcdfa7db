"""Every command beside /imagine, and what it says."""

import re

import discord
import pytest
from PIL import PngImagePlugin

from calotype.api.limiter import Rate, RateLimiter
from calotype.bot.client import CatalogTranslator
from calotype.bot.settings import BotSettings
from tests.api.conftest import png
from tests.bot.conftest import buttons, plain


def test_people_see_their_queue_budget_and_settings(play, studio):
    studio.flood = RateLimiter(Rate(100, 100))

    async def scene(evening):
        ann = evening.person("ann")

        async def text(name, **options):
            return plain((await ann.slash(evening.channel, name, **options)).response.content)

        assert await text("queue") == "None of your jobs waits or runs."
        await ann.slash(evening.channel, "imagine", prompt="{red, blue} fox")
        assert await text("queue") == (
            "[red fox](https://discord.com/channels/N/N/N) – next in the queue\n"
            "[blue fox](https://discord.com/channels/N/N/N) – 1 job before it"
        )
        assert await text("info") == (
            "your own account for Discord\n0 of 600 device seconds used today; a new budget begins in 24.0 hours\n"
            "2 of 50 jobs wait, 0 of 2 run\nyour next job: next in the queue"
        )
        assert await text("settings", size="64", remix=True) == (
            "model: **emoji**\nsize: **64**\nremix: **yes**\nprivate: **no**\npresses: **everybody**"
        )
        assert "no model is named x" in await text("settings", model="x")
        assert "such as 512" in await text("settings", size="big")
        assert set((await text("cancel")).split("\n")) == {"2 jobs are cancelled", "red fox", "blue fox"}
        assert await text("cancel") == "None of your jobs waits or runs."
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        job = studio.service.store.find(states=("done",))[0]
        assert job.task["size"] == "64"
        shown = await ann.slash(evening.channel, "show", job=job.id)
        assert shown.response.content.startswith(f"`{job.id}`\n**fox**\nwidth: 64")
        assert "U1" in buttons(shown.response.message) and shown.response.attachments
        ben = evening.person("ben")
        assert "there is no such job" in (await ben.slash(evening.channel, "show", job=job.id)).response.content

    play(scene)


def test_private_results_come_as_direct_messages(play, studio):
    async def scene(evening):
        user = evening.env.create_user("ann")
        ann = evening.guild.add_member(user)
        await ann.slash(evening.channel, "settings", private=True)
        result = await ann.slash(evening.channel, "imagine", prompt="fox")
        assert result.response.content == "The pictures come as direct messages." and evening.messages == []
        await evening.work()
        assert "U1" in buttons(user.dm_channel.last_message)

    play(scene)


@pytest.mark.parametrize(
    ("name", "options", "kind", "task"),
    [
        ("restore", {"strength": 0.5, "faces": "1,3"}, "restore", {"strength": "0.5", "faces": "1,3"}),
        ("upscale", {"scale": 3.0}, "upscale", {"scale": 3.0}),
    ],
)
def test_attached_pictures_are_restored_and_enlarged(play, studio, name, options, kind, task):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, name, picture=("old photo.png", png()), **options)
        (job,) = studio.service.store.find()
        assert (job.kind, job.task) == (kind, task) and job.files["source"].endswith("photo.png")
        await evening.work()
        (message,) = evening.messages
        assert "64 × 48 pixels" in message.content and "Upscale 2x" in buttons(message)

    play(scene)


def test_a_single_face_is_restored_by_its_button(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "restore", picture=("photo.png", png()), strength=0.5)
        await evening.work()
        await ann.click(evening.messages[0], label="Only face 2")
        again, first = studio.service.store.find()
        assert again.task == {"strength": "0.5", "faces": "2"} and again.files == first.files

    play(scene)


def test_a_picture_tells_its_parameters(play):
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "red fox\nSteps: 3, Sampler: Euler, CFG scale: 4, Seed: 7, Size: 64x64")

    async def scene(evening):
        ann = evening.person("ann")
        described = await ann.slash(evening.channel, "describe", picture=("a.png", png(64, 64, pnginfo=text)))
        assert "red fox" in described.response.content and "Seed**: 7" in described.response.content
        bare = await ann.slash(evening.channel, "describe", picture=("a.png", png()))
        assert "there is no tagger here" in bare.response.content and "a WD14 tagger" in bare.response.content
        broken = await ann.slash(evening.channel, "describe", picture=("a.png", b"no picture"))
        assert broken.response.ephemeral and "/" not in broken.response.content

    play(scene)


def test_a_picture_without_parameters_is_told_by_its_tags(play, studio):
    studio.service.has_tagger = True

    async def scene(evening):
        ann = evening.person("ann")
        asked = await ann.slash(evening.channel, "describe", picture=("a.png", png()))
        assert asked.response.content == "It says nothing of a prompt; its tags follow."
        (job,) = studio.service.store.find()
        assert (job.kind, job.task) == ("caption", {"tagger": "installed"})
        await evening.work(facts={"text": "fox, red fur, smile (happy)"})
        (message,) = evening.messages
        assert message.content.endswith("```fox, red fur, smile \\(happy\\)```") and buttons(message) == {}
        studio.chat.set_options(f"channel-{evening.channel.id}", {"commands": ["imagine"]})
        refused = await ann.slash(evening.channel, "describe", picture=("a.png", png()))
        assert "takes /imagine only" in refused.response.content

    play(scene)


def test_vary_is_the_button_as_a_command(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        job = studio.service.store.find()[0]
        choices = await ann.autocomplete(evening.channel, "vary", "job", "")
        assert [choice["value"] for choice in choices] == [job.id]
        await ann.slash(evening.channel, "vary", job=job.id, number=2, strong=True)
        varied = studio.service.store.find()[0]
        assert (varied.parent, varied.task["strength"]) == (job.id, 0.85) and len(evening.messages) == 2

    play(scene)


def test_a_picture_in_a_message_is_enlarged_from_its_menu(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        await ann.context_menu(evening.channel, "Upscale 2x", evening.messages[0])
        assert studio.service.store.find(kinds=("upscale",))[0].task == {"scale": 2.0}

    play(scene)


def test_the_owner_grants_bans_counts_and_sets_channels(play, studio):
    async def scene(evening):
        admin = evening.guild.create_role("admin", permissions=discord.Permissions(administrator=True))
        owner, ann = evening.person("owner", roles=[admin]), evening.person("ann")
        studio.settings = BotSettings(account_days=0, member_days=0, owner=(str(owner.id),))

        async def text(who, name, **options):
            return plain((await who.slash(evening.channel, name, **options)).response.content)

        assert await text(owner, "stats") == "Nobody has used the bot in this time."
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(seconds=4)
        assert "**ann**\ntoday: 4.0 device seconds, 4 pictures (/imagine 1)\n30 days" in await text(owner, "stats")
        assert await text(owner, "grant", whom=ann, seconds=50.0) == "<@N>: 50 device seconds a day"
        assert studio.chat.member(str(ann.id)).account.budget.seconds == 50
        assert await text(owner, "channel", commands="upscale", spoiler=True) == (
            "commands: **upscale**\nmodels: **all**\nspoiler: **yes**"
        )
        assert "this channel takes /upscale only" in await text(ann, "imagine", prompt="fox")
        assert "there is no imagin, did you mean imagine?" in await text(owner, "channel", commands="imagin")
        await text(owner, "channel", commands="all", models="emoji")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        assert evening.messages[-1].attachments[0].is_spoiler()
        await ann.slash(evening.channel, "imagine", prompt="fox")
        assert await text(owner, "ban", person=ann) == "the bot is closed for <@N>"
        assert studio.service.store.counts() == {"done": 2, "cancelled": 1}
        assert await text(ann, "imagine", prompt="fox") == "the owner of this bot has closed it for you"
        assert await text(owner, "ban", person=ann, off=True) == "the bot is open for <@N>"

    play(scene)


def test_names_and_descriptions_are_in_chinese_too(play):
    async def scene(evening):
        translator, names = CatalogTranslator(), {}
        for command in evening.bot.tree.get_commands(type=None):
            payload = await command.get_translated_payload(evening.bot.tree, translator)
            chinese = payload["name_localizations"]["zh-CN"]
            assert names.setdefault((payload["type"], chinese), payload["name"]) == payload["name"]
            for part in (payload, *payload.get("options", ())):
                for choice in part.get("choices", ()):
                    assert choice["name_localizations"]["zh-CN"] != choice["name"]
                if part.get("description"):  # a menu has none
                    texts = (part["description"], part["description_localizations"]["zh-CN"])
                    assert all(1 <= len(text) <= 100 for text in texts)
                    assert re.fullmatch(r"[\w-]{1,32}", part["name_localizations"]["zh-CN"]), part["name"]
        assert names[1, "画图"] == "imagine" and len(names) == 22

    play(scene)


def test_a_chinese_client_reads_chinese(play, monkeypatch):
    monkeypatch.setattr(discord.Interaction, "locale", property(lambda self: discord.Locale.chinese, lambda *_: None))

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="{红, 蓝}狐狸")
        assert evening.messages[0].content.endswith("即将开始") and list(buttons(evening.messages[0])) == ["取消"]
        await evening.work()
        assert "种子 7，用时 2 秒" in evening.messages[0].content
        mistake = await ann.slash(evening.channel, "imagine", prompt="fox --sead 7")
        assert mistake.response.content.startswith("没有参数 --sead")

    play(scene)


def test_long_prompts_fit_into_the_messages_that_show_them(play, studio):
    prompt = "*" * 5900
    studio.flood = studio.crowd = RateLimiter(Rate(100, 100))

    async def scene(evening):
        ann = evening.person("ann")
        for _ in range(15):
            await ann.slash(evening.channel, "imagine", prompt=prompt)
        await evening.work()
        queue = (await ann.slash(evening.channel, "queue")).response.content
        assert len(queue) <= 2000 and queue.count("](https://") == queue.count(" – ") > 3
        job = studio.service.store.find(states=("done",))[0]
        shown = await ann.slash(evening.channel, "show", job=job.id)
        assert f"`{job.id}`" in shown.response.content and "device seconds" in shown.response.content
        assert all(0 < len(message.content) <= 2000 for message in evening.messages)

    play(scene)
