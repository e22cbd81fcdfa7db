"""What the store keeps for a chat."""

import pytest

from calotype.errors import CalotypeError
from calotype.jobs.account import Allowance
from calotype.jobs.chat import Chat
from calotype.jobs.jobs import BUG, NotFound, OverBudget
from calotype.jobs.users import Accounts


@pytest.fixture
def accounts(store, clock):
    return Accounts(store.database, clock)


@pytest.fixture
def chat(store, accounts, clock):
    return Chat(store.database, accounts, clock)


def used(store, member, seconds, fault=None):
    """A job of a member that took so long."""
    account = member.account
    job = store.submit(account.id, "imagine", {"prompt": "a"}, budget=account.budget)
    claim = store.claim("w")
    store.fail(claim, fault, seconds) if fault else store.finish(claim, [], seconds)
    return store.get(job.id)


def test_a_person_has_one_account_however_often_it_is_opened(chat, accounts):
    first = chat.open_account("7", Allowance(seconds=60))
    assert chat.open_account("7", Allowance(seconds=99)) == first == chat.member("7")
    assert (first.account.name, first.account.allowance.seconds, first.is_own) == ("discord-7", 60, True)
    assert chat.member("8") is None and len(accounts.list()) == 1


def test_accounts_of_the_chat_close_no_page_that_is_open(chat, accounts):
    chat.open_account("7", Allowance())
    assert not accounts.exist()
    accounts.add("ann")
    assert accounts.exist()


def test_a_trial_is_used_up_once_and_ends_with_a_grant(chat, store, clock):
    member = chat.open_account("7", Allowance(seconds=60), trial_seconds=10)
    used(store, member, 10)
    clock.pass_(86400 * 3)
    with pytest.raises(OverBudget, match="the 10 seconds of this account are used"):
        used(store, member, 1)
    chat.grant(member, 60)
    assert chat.member("7").account.budget.seconds == 60 and chat.member("7").account.invitation is None
    used(store, chat.member("7"), 1)


def test_a_code_links_once_and_gives_one_budget(chat, accounts, store, clock):
    ann = accounts.add("ann", Allowance(seconds=100))
    member = chat.open_account("7", Allowance(seconds=60))
    used(store, member, 40)
    code = accounts.add_code(ann)
    linked = chat.link("7", code)
    assert (linked.account.id, linked.is_own) == (ann.id, False)
    assert store.spent(ann.id) == 40 and store.spent(member.account.id) == 0
    with pytest.raises(NotFound):
        chat.link("8", code)
    late = accounts.add_code(ann)
    clock.pass_(901)
    with pytest.raises(NotFound, match="not valid, or no longer"):
        chat.link("8", late)


def test_messages_are_open_until_they_show_the_end(chat, store):
    member = chat.open_account("7", Allowance())
    job = used(store, member, 1)
    with store.database.writing() as db:
        assert chat.add_message(db, job.id, "7", "1", text="a --seed 1", language="en")
        assert not chat.add_message(db, job.id, "7", "3", language="en")
    (message,) = chat.open_messages()
    assert (message.channel, message.text, message.number) == ("1", "a --seed 1", 0)
    assert (message.state, message.requested, message.last_event) == ("done", "run", job.last_event)
    chat.end_message(job.id, job.last_event - 1)
    assert chat.open_messages() == [message], "the job was tried again while its end was sent"
    chat.end_message(job.id, job.last_event)
    assert chat.open_messages() == [] and chat.message(job.id).is_final
    assert chat.figures() == [("7", 1, 1.0)]
    store.delete(job.id)
    with pytest.raises(NotFound, match="deleted to make room"):
        chat.message(job.id)


def test_a_job_and_its_message_are_in_the_store_both_or_neither(chat, store):
    member = chat.open_account("7", Allowance())

    def remember(db, job):
        chat.add_message(db, job, "7", "1", language="en")

    def broken(db, job):
        remember(db, job)
        raise RuntimeError("the process ends here")

    with pytest.raises(RuntimeError):
        store.submit(member.account.id, "imagine", {"prompt": "a"}, key="k", also=broken)
    assert store.find() == [] and chat.open_messages() == []
    job = store.submit(member.account.id, "imagine", {"prompt": "a"}, key="k", also=remember)
    again = store.submit(member.account.id, "imagine", {"prompt": "a"}, key="k", also=remember)
    assert [message.job for message in chat.open_messages()] == [job.id] == [again.id]


def test_a_message_follows_its_job_again_when_that_is_tried_again_from_anywhere(chat, store):
    member = chat.open_account("7", Allowance())
    add = {"also": lambda db, job: chat.add_message(db, job, "7", "1", language="en")}
    job = store.submit(member.account.id, "imagine", {"prompt": "a"}, **add)
    store.cancel(job.id)
    chat.change_message(job.id, is_final=True)
    store.retry(job.id, member.account.id)
    assert [message.state for message in chat.open_messages()] == ["queued"]


def test_the_places_of_all_owners_are_read_at_once(store):
    for owner in ("ann", "ben", "ann"):
        store.submit(owner, "imagine", {"prompt": "a"})
    assert sorted(place.ahead for place in store.places()) == [0, 1, 2]
    assert [place for place in store.places() if place in store.places("ben")] == store.places("ben")


def test_presses_and_options_are_kept(chat):
    assert chat.pressed("u.1") == "" and chat.options("channel-1") == {}
    chat.press("u.1", "https://discord.com/channels/1/2/3")
    chat.set_options("channel-1", {"spoiler": True})
    assert chat.pressed("u.1").endswith("/3") and chat.options("channel-1") == {"spoiler": True}


def test_an_error_of_the_program_is_not_charged_and_a_fault_of_the_request_is(chat, store):
    member = chat.open_account("7", Allowance(seconds=60))
    failed = used(store, member, 5, CalotypeError("the picture is broken"))
    assert failed.cost == 5 and store.spent(member.account.id) == 5
    failed = used(store, member, 7, CalotypeError(BUG, kind="KeyError", bug="x"))
    assert failed.cost == 0 and store.spent(member.account.id) == 5


def test_a_job_that_ends_its_process_again_and_again_is_not_charged(chat, store, clock):
    member = chat.open_account("7", Allowance())
    job = store.submit(member.account.id, "imagine", {"prompt": "a"}, budget=member.account.budget)
    for _ in range(3):
        claim = store.claim("w")
        clock.pass_(40_000)  # over days
        store.heartbeat(claim)
        clock.pass_(40)
        store.worker_ended("w")
    assert store.get(job.id).state == "failed" and store.get(job.id).cost == 0
    assert store.spent(member.account.id, is_daily=False) == pytest.approx(0)
