"""Accounts, budgets, trials, flood control and blocked words, on a Discord of this process."""

from dataclasses import replace

import pytest

from calotype.bot.blocked import check_words
from calotype.bot.settings import BotSettings, read_rows, read_token
from calotype.bot.studio import DAY, Person
from calotype.errors import CalotypeError
from calotype.jobs.account import Allowance
from calotype.jobs.users import Accounts
from tests.bot.conftest import work

OLD_PERSON = Person("7", 0.0, 0.0)


def test_newcomers_have_a_trial_once_and_others_a_budget_each_day(studio, clock):
    studio.settings = BotSettings(account_days=30, member_days=1, trial_seconds=60, daily_seconds=600)
    now = clock.now
    young = studio.member(Person("1", now - 29 * DAY, now - 9 * DAY))
    new_here = studio.member(Person("2", now - 99 * DAY, now - 3600))
    known = studio.member(Person("3", now - 99 * DAY, now - 9 * DAY))
    budgets = [member.account.budget for member in (young, new_here, known)]
    assert [(budget.seconds, budget.is_daily) for budget in budgets] == [(60, False), (60, False), (600, True)]
    assert young.account.limits.drawing < known.account.limits.drawing


def test_a_role_gives_its_budget_if_that_is_more(studio):
    studio.settings = replace(studio.settings, daily_seconds=600)
    studio.chat.set_options("role-5", {"seconds": 5000})
    studio.chat.set_options("role-6", {"seconds": 10})
    seconds = [studio.member(replace(OLD_PERSON, roles=roles)).account.budget.seconds for roles in ((), ("5",), ("6",))]
    assert seconds == [600, 5000, 600]


def test_the_budget_of_the_day_ends_and_comes_back(play, studio, clock):
    studio.settings = replace(studio.settings, daily_seconds=3)

    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(seconds=3)
        refused = await ann.slash(evening.channel, "imagine", prompt="fox")
        assert refused.response.content == "the 3 seconds of today are used; go on in 24.0 hours"
        clock.now += DAY
        await ann.slash(evening.channel, "imagine", prompt="fox")
        assert len(evening.messages) == 2

    play(scene)


def test_an_account_of_the_page_and_discord_have_one_budget(play, studio, clock):
    accounts = Accounts(studio.service.store.database, clock)
    page = accounts.add("ann", Allowance(seconds=5))

    async def scene(evening):
        ann = evening.person("ann")
        linked = await ann.slash(evening.channel, "link", code=accounts.add_code(page))
        assert linked.response.content == "linked to the account ann: one budget for both" and linked.response.ephemeral
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work(seconds=5)
        assert studio.service.store.spent(page.id) == 5
        refused = await ann.slash(evening.channel, "imagine", prompt="fox")
        assert "5 seconds of today are used" in refused.response.content
        wrong = await evening.person("ben").slash(evening.channel, "link", code="guess")
        assert "not valid" in wrong.response.content

    play(scene)


def test_who_is_too_fast_waits(play, studio):
    async def scene(evening):
        ann = evening.person("ann")
        answers = [await ann.slash(evening.channel, "imagine", prompt=f"fox {n}") for n in range(11)]
        assert "that is too fast; go on in" in answers[-1].response.content
        assert len(studio.service.store.find()) == 10

    play(scene)


def test_blocked_words_are_whole_words_in_any_form(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("# no comment\nass\nred fox\n坏\n", "utf-8")
    for text in ("an ASS", "a Red  Fox", "ａｓｓ", "很坏的"):
        with pytest.raises(CalotypeError, match="is not allowed here; if that is a mistake, ask @maria"):
            check_words(text, path, "@maria")
    check_words("a class of comment", path)
    with pytest.raises(CalotypeError, match="cannot be read"):
        check_words("x", tmp_path / "none.txt")


def test_a_token_comes_from_the_environment_or_a_closed_file(tmp_path):
    path = tmp_path / "token"
    path.write_text("secret\n")
    path.chmod(0o644)
    settings = BotSettings(token_file=path)
    assert read_token(settings, {"CALOTYPE_BOT_TOKEN": "other"}) == "other"
    with pytest.raises(CalotypeError, match="chmod 600") as fault:
        read_token(settings, {})
    assert "secret" not in str(fault.value)
    path.chmod(0o600)
    assert read_token(settings, {}) == "secret"
    with pytest.raises(CalotypeError, match="no token; set CALOTYPE_BOT_TOKEN"):
        read_token(BotSettings(), {})


def test_the_owner_edits_the_table_of_models(tmp_path):
    assert read_rows(tmp_path)["niji"].model == "emoji"
    path = tmp_path / "bot-models.toml"
    path.write_text('["v 6"]\nmodel = "mine"\nsize = 768\n')
    rows = read_rows(tmp_path)
    assert (rows["v 6"].model, rows["v 6"].size, "niji" in rows) == ("mine", 768, False)
    for text, part in (("[x]", "tables such as"), ("[v", "cannot be read"), ('["v 1"]\nsise = 3', "sise")):
        path.write_text(text)
        with pytest.raises(CalotypeError, match=part):
            read_rows(tmp_path)


def test_a_job_of_somebody_without_budget_left_waits_and_harms_nobody(studio):
    studio.settings = replace(studio.settings, daily_seconds=1)
    from calotype.bot.studio import CommandPlace

    for number in range(3):
        studio.imagine(studio.member(OLD_PERSON), "fox", f"k{number}", CommandPlace("1"))
    work(studio.service.store, seconds=2)
    assert studio.service.store.claim("w") is None
