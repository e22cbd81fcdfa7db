"""/train: from photos to a LoRA that prompts of its owner call."""

import pytest

from calotype.api.service import Caller
from calotype.api.trained import keep_trained
from calotype.bot.settings import BotSettings
from calotype.engine import Engine
from calotype.jobs.jobs import NewResult
from tests.api.conftest import png
from tests.bot.conftest import buttons

OPEN = BotSettings(account_days=0, member_days=0, training=True, training_steps=3)


def photo(number):
    return f"photo{number}", (f"my photo {number}.PNG", png(64, 64))


@pytest.fixture
def shared_engine(studio):
    """Of the home in which the LoRA is kept."""
    return Engine(studio.service.settings)


@pytest.mark.slow
def test_photos_become_a_lora_that_its_owner_alone_calls(play, studio, small, run_all):
    studio.settings = OPEN

    async def scene(evening):
        ann, ben = evening.person("ann"), evening.person("ben")
        await ann.slash(evening.channel, "train", name="grandma", about="old woman", **dict(map(photo, (1, 2, 3))))
        (job,) = studio.service.store.find()
        assert job.task["caption_prefix"] == "grandma old woman" and len(job.files["photos"]) == 3
        await run_all(evening)
        (message,) = evening.messages
        assert message.content.startswith("**Training a LoRA grandma**")
        assert "In prompts of yours it is `<lora:grandma:1>`" in message.content
        await ann.slash(evening.channel, "imagine", prompt="grandma <lora:grandma:1>")
        assert len(evening.messages) == 2
        refused = await ben.slash(evening.channel, "imagine", prompt="grandma <lora:grandma:1>")
        assert "no LoRA is named" in refused.response.content
        await run_all(evening)
        assert "U1" in buttons(evening.messages[1])

    play(scene)


def test_what_an_administrator_trains_on_discord_is_theirs_until_the_page_shares_it(play, studio, tmp_path):
    studio.settings = OPEN
    service, store = studio.service, studio.service.store
    admin = service.accounts.add("maria", is_admin=True)

    async def scene(evening):
        ann, ben = evening.person("ann"), evening.person("ben")
        await ann.slash(evening.channel, "link", code=service.accounts.add_code(admin))
        await ann.slash(evening.channel, "train", name="grandma", **dict([photo(1)]))
        path = tmp_path / "grandma.safetensors"
        path.write_bytes(b"weights")
        claim = store.claim("w")
        done = store.finish(claim, [NewResult(path, path.name, "application/octet-stream")], 1.0)
        await evening.look()
        assert "In prompts of yours it is `<lora:grandma:1>`" in evening.messages[0].content
        anns = await ann.slash(evening.channel, "imagine", prompt="a <lora:grandma:1>")
        bens = await ben.slash(evening.channel, "imagine", prompt="a <lora:grandma:1>")
        assert anns.response is None and "no LoRA is named" in bens.response.content
        keep_trained(service, Caller(admin.id, admin), done, done.results[0], "")
        assert (await ben.slash(evening.channel, "imagine", prompt="a <lora:grandma:1>")).response is None

    play(scene)


def test_training_is_closed_until_the_owner_opens_it(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        refused = await ann.slash(evening.channel, "train", name="grandma", **dict([photo(1)]))
        assert refused.response.content == "training is not open here; ask the owner of this bot"
        assert studio.service.store.find() == []

    play(scene)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"name": "my grandma", "photo1": photo(1)[1]}, "without spaces"),
        ({"name": "../x", "photo1": photo(1)[1]}, "without spaces"),
        ({"name": "x", "photo1": ("notes.txt", b"text")}, "notes.txt is no photo"),
        ({"name": "naked", "photo1": photo(1)[1]}, "the word naked is not allowed here"),
        ({"name": "x", "about": "a na_ked man", "photo1": photo(1)[1]}, "the word naked is not allowed here"),
    ],
)
def test_what_cannot_be_trained_is_said(play, studio, tmp_path, options, part):
    words = tmp_path / "words.txt"
    words.write_text("naked\n")
    studio.settings = BotSettings(account_days=0, member_days=0, training=True, blocked_words=words)

    async def scene(evening):
        ann = evening.person("ann")
        refused = await ann.slash(evening.channel, "train", **options)
        assert part in refused.response.content and studio.service.store.find() == []

    play(scene)


def test_a_channel_may_be_without_training(play, studio):
    studio.settings = OPEN

    async def scene(evening):
        ann = evening.person("ann")
        studio.chat.set_options(f"channel-{evening.channel.id}", {"commands": ["imagine"]})
        refused = await ann.slash(evening.channel, "train", name="x", **dict([photo(1)]))
        assert "takes /imagine only" in refused.response.content

    play(scene)
