"""What the store keeps for a chat."""

import io

import pytest
from sqlalchemy import text

from calotype.errors import CalotypeError
from calotype.jobs.account import Allowance
from calotype.jobs.chat import Chat, Terms
from calotype.jobs.jobs import BUG, EXPLAINING, Conflict, NewResult, NotFound, OverBudget
from calotype.jobs.usage import DAY
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


def test_a_person_has_one_account_however_often_it_comes_by(chat, accounts):
    first = chat.visit("7", Terms(60))
    assert chat.visit("7", Terms(60)) == first == chat.member("7")
    assert (first.account.name, first.account.allowance.seconds, first.is_own) == ("discord-7", 60, True)
    assert chat.member("8") is None and len(accounts.list()) == 1
    with pytest.raises(CalotypeError, match="names that begin with discord- are those of people on Discord"):
        accounts.add("discord-8")


def test_a_visit_of_somebody_who_is_known_reads_once_and_locks_nothing(chat, store, monkeypatch):
    chat.visit("7", Terms(60), name="Ann", roles=["5"], server="1")
    reading, opened = store.database.reading, []
    monkeypatch.setattr(store.database, "reading", lambda: opened.append("read") or reading())
    monkeypatch.setattr(store.database, "writing", lambda: pytest.fail("the store was locked"))
    assert chat.visit("7", Terms(60), name="Ann", roles=["5"], server="1").name == "Ann" and opened == ["read"]


def test_accounts_of_the_chat_close_no_page_that_is_open(chat, accounts):
    chat.visit("7", Terms(60))
    assert not accounts.exist()
    accounts.add("ann")
    assert accounts.exist()


@pytest.mark.parametrize("end", ["age", "grant"])
def test_a_trial_ends_with_newness_or_a_grant_and_its_jobs_go_on(chat, store, clock, end):
    member = chat.visit("7", Terms(60, 10))
    for _ in range(2):
        store.submit(member.account.id, "imagine", {}, budget=member.account.budget)
    store.finish(store.claim("w"), [], 10)
    clock.pass_(86400 * 3)
    chat.visit("7", Terms(60, 10))
    assert store.claim("w") is None
    (place,) = store.places(member.account.id)
    assert place.is_over_budget and place.renewed_in is None
    with pytest.raises(OverBudget, match="the 10 seconds of this account are used"):
        used(store, member, 1)
    chat.visit("7", Terms(60)) if end == "age" else chat.grant("7", 60, Terms(5))
    account = chat.member("7").account
    assert (account.budget.seconds, account.invitation, account.allowance.max_running) == (60, None, 2)
    assert not store.places(account.id)[0].is_over_budget and store.claim("w")


def test_settings_reach_those_who_were_given_nothing_else(chat, accounts):
    def seconds(*ids):
        return [chat.member(id).account.budget.seconds for id in ids]

    for id in "1234":
        chat.visit(id, Terms(60, 10 if id == "4" else None), roles=["5"] if id == "3" else [])
    chat.grant("2", 99, Terms(60))
    chat.grant_role("5", 70, Terms(60))
    assert seconds(*"1234") == [60, 99, 70, 10]
    chat.settle(Terms(80, 20))
    assert seconds(*"1234") == [80, 99, 80, 10]
    assert chat.visit("4", Terms(80, 20)).account.budget.seconds == 20
    accounts.change("discord-1", seconds=5.0)  # on the page
    chat.visit("1", Terms(40))
    chat.visit("3", Terms(40), roles=["5"])
    assert seconds(*"123") == [5, 99, 70]
    chat.grant("1", None, Terms(40), is_usual=True)
    chat.grant("2", None, Terms(40))
    chat.grant_role("5", None, Terms(40), is_usual=True)
    assert seconds(*"123") == [40, None, 40]
    chat.grant_role("5", 50, Terms(40))
    assert seconds("3") == [50] and chat.visit("3", Terms(40), roles=[]).account.budget.seconds == 40


def test_roles_of_a_server_end_a_week_after_the_person_was_there(chat, clock):
    chat.grant_role("5", 70, Terms(40))
    chat.visit("1", Terms(40), roles=["5"], server="100")
    for _ in range(6):
        clock.now += DAY
        assert chat.visit("1", Terms(40), roles=["6"], server="200").account.budget.seconds == 70
    clock.now += DAY
    assert chat.visit("1", Terms(40), roles=["6"], server="200").account.budget.seconds == 40
    for _ in range(9):  # who comes by each day keeps them
        assert chat.visit("1", Terms(40), roles=["5"], server="100").account.budget.seconds == 70
        clock.now += DAY


def test_roles_of_all_servers_count_until_the_bot_leaves_one(chat):
    def seconds(id):
        return chat.member(id).account.budget.seconds

    chat.grant_role("5", 70, Terms(40))
    chat.grant_role("6", 90, Terms(40))
    chat.visit("1", Terms(40), roles=["5"], server="100")
    chat.visit("1", Terms(40), roles=["6"], server="200")
    assert chat.visit("1", Terms(40), roles=["5"], server="100").account.budget.seconds == 90
    chat.grant_role("6", 80, Terms(40))
    assert seconds("1") == 80
    chat.keep_servers(["100", "200"], Terms(40))
    assert seconds("1") == 80
    chat.keep_servers(["100"], Terms(40))
    assert seconds("1") == 70
    assert chat.visit("1", Terms(40), roles=[], server="100").account.budget.seconds == 40
    chat.visit("2", Terms(40), roles=["6"])  # of a store from before servers were known
    assert seconds("2") == 80 and chat.visit("2", Terms(40), roles=[], server="100").account.budget.seconds == 40
    chat.visit("3", Terms(40, 10), server="100", roles=[])
    chat.visit("3", Terms(40, 10), server="200", roles=["4"])
    chat.keep_servers(["100"], Terms(40))
    assert seconds("3") == 10, "a newcomer stays one"


def test_what_was_given_before_that_was_remembered_is_told_by_the_setting(chat, accounts, store):
    for id, seconds in (("1", 60), ("2", 90), ("3", None)):
        chat.visit(id, Terms(60))
        chat.grant(id, seconds, Terms(60))
    with store.database.writing() as db:  # as migration 0006 leaves it
        db.execute(text("UPDATE chat_members SET is_granted = false WHERE granted IS NOT NULL"))
    assert chat.visit("2", Terms(60)).account.budget.seconds == 90
    chat.settle(Terms(60))
    chat.settle(Terms(50))
    assert [chat.member(id).account.budget.seconds for id in "123"] == [50, 90, None]


def test_what_the_settings_give_leaves_the_account_of_the_page_as_it_is(chat, accounts):
    ann = accounts.add("ann", Allowance(seconds=100))
    chat.visit("7", Terms(60))
    chat.grant("7", 80, Terms(60))
    chat.link("7", accounts.add_code(ann))
    chat.grant("7", None, Terms(60), is_usual=True)
    assert chat.member("7").account.budget.seconds == accounts.find("ann").budget.seconds == 100
    assert chat.unlink("7").account.budget.seconds == 60
    chat.link("7", accounts.add_code(ann))
    chat.grant("7", 30, Terms(60))
    assert chat.member("7").account.budget.seconds == chat.unlink("7").account.budget.seconds == 30


def test_newcomers_with_an_invitation_share_its_trial(chat, accounts, store):
    code = accounts.invite(2, 100)
    anns, bens = (chat.visit(id, Terms(600, 30)) for id in "78")
    used(store, anns, 20)
    anns, bens = chat.join("7", code), chat.join("8", code)
    assert anns.account.budget == bens.account.budget and anns.account.budget.seconds == 100
    used(store, bens, 30)
    assert store.spent(anns.account.budget.account, is_daily=False) == 50
    with pytest.raises(Conflict, match="you have this invitation already"):
        chat.join("7", code)
    chat.visit("9", Terms(600, 30))
    chat.visit("7", Terms(600))  # no newcomer any more: that leaves no place for another one
    assert chat.member("7").account.budget.seconds == 600 and store.spent(anns.account.id) == 20
    with pytest.raises(OverBudget, match="used up"):
        chat.join("9", code)
    with pytest.raises(Conflict, match="an invitation is for newcomers"):
        chat.join("7", accounts.invite())
    with pytest.raises(NotFound, match="this invitation is not valid"):
        chat.join("9", "inv_x")


def test_a_trial_of_the_page_ends_where_the_owner_gives_seconds(accounts, store):
    account, _ = accounts.sign_up(accounts.invite(1, 10), "ann")
    store.submit(account.id, "restore", {}, budget=account.budget)
    store.submit(account.id, "restore", {}, budget=account.budget)
    store.finish(store.claim("w"), [], 10)
    assert store.claim("w") is None
    accounts.change("ann", is_disabled=False, seconds=None, max_running=3)
    assert accounts.find("ann").invitation and accounts.find("ann").budget.running == 3
    changed = accounts.change("ann", seconds=50.0, max_running=3)
    assert (changed.budget.seconds, changed.budget.is_daily, changed.budget.running) == (50, True, 3)
    assert changed.budget.queued == Allowance().max_queued and store.claim("w")


def test_a_code_links_once_and_gives_one_budget(chat, accounts, store, clock):
    ann = accounts.add("ann", Allowance(seconds=100))
    member = chat.visit("7", Terms(60), name="Ann!")
    chat.visit("8", Terms(60))
    used(store, member, 40)
    waiting = store.submit(member.account.id, "restore", {}, budget=member.account.budget)
    code = accounts.add_code(ann)
    linked = chat.link("7", code)
    assert (linked.account.id, linked.is_own) == (ann.id, False)
    assert store.spent(ann.id) == 40 and store.spent(member.account.id) == 0
    assert store.get(waiting.id, ann.id).account == ann.id
    store.finish(store.claim("w"), [], 5)
    assert store.spent(ann.id) == 45 and accounts.people() == dict.fromkeys(("ann", "discord-7"), ("Ann!",))
    with pytest.raises(NotFound):
        chat.link("8", code)
    with pytest.raises(Conflict, match="you are linked to the account ann already; /unlink ends that"):
        chat.link("7", accounts.add_code(ann))
    late = accounts.add_code(ann)
    with pytest.raises(Conflict, match="the account ann is linked already, to Ann! on Discord"):
        chat.link("8", late)
    clock.pass_(901)
    with pytest.raises(NotFound, match="not valid, or no longer"):
        chat.link("8", late)


def test_linking_again_and_again_gives_nobody_more(chat, accounts, store, clock):
    ann, member = accounts.add("ann", Allowance(seconds=100)), chat.visit("7", Terms(60))
    used(store, member, 40)
    for _ in range(3):
        used(store, chat.link("7", accounts.add_code(ann)), 5)
        used(store, chat.unlink("7"), 1)
    assert (store.spent(ann.id), store.spent(member.account.id)) == (15, 43)
    with pytest.raises(Conflict, match="your Discord account is not linked"):
        chat.unlink("7")
    chat.link("7", accounts.add_code(ann))
    clock.pass_(86400)
    chat.unlink("7")
    assert store.spent(ann.id) == store.spent(member.account.id) == 0
    assert store.spent(ann.id, is_daily=False) + store.spent(member.account.id, is_daily=False) == 58


@pytest.mark.parametrize("is_trial", [False, True])
def test_the_end_of_a_link_takes_back_no_more_than_is_left(chat, accounts, store, is_trial):
    ann = accounts.sign_up(accounts.invite(1, 100), "ann")[0] if is_trial else accounts.add("ann")
    member = chat.visit("7", Terms(600))
    job = store.submit(member.account.id, "imagine", {}, budget=member.account.budget)
    claim = store.claim("w")
    store.pause(job.id)
    store.park(claim, 30)
    linked = chat.link("7", accounts.add_code(ann))
    used(store, linked, 4)
    store.resume(job.id)
    store.fail(store.claim("w"), CalotypeError(BUG, kind="KeyError", bug="x"), 5)  # which gives the 30 back
    chat.unlink("7")
    keys = ann.id, ann.budget.account, member.account.id
    assert [store.spent(key, is_daily=False) for key in keys] == [0, 0, 4], "no day has less than nothing"


def test_an_account_that_was_invited_on_the_page_has_one_trial_for_both(chat, accounts, store):
    account, _ = accounts.sign_up(accounts.invite(1, 100), "ann")
    used(store, chat.visit("7", Terms(600, 60)), 30)
    linked = chat.link("7", accounts.add_code(account))
    assert store.spent(linked.account.budget.account, is_daily=False) == 30
    used(store, linked, 70)
    for _ in range(2):
        with pytest.raises(OverBudget, match="the 100 seconds of this account are used"):
            used(store, linked, 1)
        chat.unlink("7")
        assert store.spent(chat.member("7").account.budget.account, is_daily=False) == 30, "a trial is not renewed"
        chat.link("7", accounts.add_code(account))


def test_uploads_and_keys_of_both_accounts_come_together(chat, accounts, store):
    ann, member = accounts.add("ann"), chat.visit("7", Terms(60))
    for owner in (ann.id, member.account.id):
        upload = store.upload(owner, io.BytesIO(b"photo"))
        store.submit(owner, "restore", {}, files={"source": upload.id}, key="same")
    chat.link("7", accounts.add_code(ann))
    assert len(store.find(ann.id)) == 2 and accounts.stored(ann.id) == 5 and accounts.stored(member.account.id) == 0


def test_messages_are_open_until_they_show_the_end(chat, store):
    member = chat.visit("7", Terms(10**6))
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
    store.delete(job.id)
    with pytest.raises(NotFound, match="deleted to make room"):
        chat.message(job.id)


def test_a_job_and_its_message_are_in_the_store_both_or_neither(chat, store):
    member = chat.visit("7", Terms(None))

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
    member = chat.visit("7", Terms(None))
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
    member = chat.visit("7", Terms(60))
    failed = used(store, member, 5, CalotypeError("the picture is broken"))
    assert failed.cost == 5 and store.spent(member.account.id) == 5
    failed = used(store, member, 7, CalotypeError(BUG, kind="KeyError", bug="x"))
    assert failed.cost == 0 and store.spent(member.account.id) == 5


def test_an_error_of_the_program_gives_back_what_a_pause_cost(chat, store):
    member = chat.visit("7", Terms(60, 20))
    store.submit(member.account.id, "imagine", {}, budget=member.account.budget)
    claim = store.claim("w")
    store.pause(claim.job.id)
    store.park(claim, 6)
    accounts = member.account.id, member.account.budget.account
    assert [store.spent(account, is_daily=False) for account in accounts] == [6, 6]
    store.resume(claim.job.id)
    store.fail(store.claim("w"), CalotypeError(BUG, kind="KeyError", bug="x"), 5)
    assert [store.spent(account, is_daily=False) for account in accounts] == [0, 0]


def test_an_error_of_the_program_gives_back_nothing_of_what_the_person_has_cancelled(chat, store):
    member = chat.visit("7", Terms(60))
    store.submit(member.account.id, "imagine", {}, budget=member.account.budget)
    claim = store.claim("w")
    store.cancel(claim.job.id)
    store.stop(claim, 6)
    for _ in range(2):
        store.retry(claim.job.id, member.account.id, member.account.budget)
        failed = store.fail(store.claim("w"), CalotypeError(BUG, kind="KeyError", bug="x"), 5)
        assert failed.cost == store.spent(member.account.id) == 6


def test_a_job_that_ends_its_process_again_and_again_is_not_charged(chat, store, clock):
    member = chat.visit("7", Terms(10**6))
    job = store.submit(member.account.id, "imagine", {"prompt": "a"}, budget=member.account.budget)
    for _ in range(3):
        claim = store.claim("w")
        clock.pass_(40_000)  # over days
        store.heartbeat(claim)
        clock.pass_(40)
        store.worker_ended("w")
    assert store.get(job.id).state == "failed" and store.get(job.id).cost == 0
    assert store.spent(member.account.id, is_daily=False) == pytest.approx(0)


def test_only_pictures_of_their_own_count_in_the_figures(chat, store, tmp_path):
    store.submit(chat.visit("7", Terms(60)).account.id, "restore", {})
    facts = {}, {"width": 8, "notes": ["beside: mask"]}, {"sheet": True}, *({"beside": name} for name in EXPLAINING)
    results = [NewResult(tmp_path / f"{n}.png", f"{n}.png", "image/png", fact) for n, fact in enumerate(facts)]
    for result in results:
        result.path.write_bytes(b"x")
    finished = store.finish(store.claim("w"), results, 3)
    assert [result.is_picture for result in finished.results] == [True, True, True, False, False]
    [figure] = chat.figures(1)
    assert figure.uses[1].pictures == 2 and figure.uses[1].seconds == 3
