"""What the queue promises, on SQLite and on PostgreSQL."""

import io
import os
import threading
import time
from dataclasses import replace

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from calotype.errors import CalotypeError, Message
from calotype.jobs.account import Allowance
from calotype.jobs.files import TooLarge
from calotype.jobs.jobs import Budget, Conflict, LeaseLost, NewResult, NotFound, OverBudget
from calotype.jobs.rows import MAX_EVENTS
from calotype.jobs.schema import EVENTS
from calotype.jobs.store import JobStore
from calotype.jobs.users import Accounts


def result(tmp_path, content=b"png", name="r.png"):
    path = tmp_path / name
    path.write_bytes(content)
    return NewResult(path, name, "image/png", {"seed": 7})


def states(store, job):
    return [event.data["state"] for event in store.events(job.id) if event.data["event"] == "state"]


def test_a_job_goes_from_submission_to_its_result(store, tmp_path, clock):
    upload = store.upload("ann", io.BytesIO(b"photo"))
    job = store.submit(
        "ann", "restore", {"scale": 2}, files={"source": f"{upload.id}/gran.jpg"}, output={"format": "webp"}, priority=3
    )
    assert (job.state, job.owner, job.account, job.priority, job.attempts) == ("queued", "ann", "ann", 3, 0)
    clock.pass_(5)
    claim = store.claim("w1")
    assert (claim.job.id, claim.job.state, claim.job.started) == (job.id, "running", clock.now)
    assert claim.job.files == {"source": f"{upload.id}/gran.jpg"} and claim.job.output == {"format": "webp"}
    assert store.claim("w2") is None
    assert store.add_event(claim, {"event": "progress", "done": 1, "total": 4}) == 3
    assert store.add_event(claim, {"event": "said", "text": "\x00 \ud800 é", "loss": float("nan")}) == 4
    assert store.get(job.id).progress == {"event": "progress", "done": 1, "total": 4}
    assert store.events(job.id, after=3)[0].data == {"event": "said", "text": "\x00 \ud800 é", "loss": None}
    clock.pass_(2)
    done = store.finish(claim, [result(tmp_path, b"one"), result(tmp_path, b"two", "s.png")], 1.5)
    assert (done.state, done.cost, done.finished) == ("done", 1.5, clock.now)
    assert [(r.name, r.size, store.files.result(r.id).read_bytes()) for r in done.results] == [
        ("r.png", 3, b"one"),
        ("s.png", 3, b"two"),
    ]
    assert dict(done.results[0].facts) == {"seed": 7}
    assert states(store, job) == ["queued", "running", "done"]
    assert store.last_events([job.id, "0" * 32]) == {job.id: 5}
    assert store.spent("ann") == 1.5


def test_a_job_belongs_to_its_owner(store, tmp_path):
    upload = store.upload("ann", io.BytesIO(b"photo"))
    job = store.submit("ann", "restore", {}, files={"source": upload.id})
    claim = store.claim("w")
    done = store.finish(claim, [result(tmp_path)], 1)
    for call in (
        lambda: store.get(job.id, "bob"),
        lambda: store.cancel(job.id, "bob"),
        lambda: store.pause(job.id, "bob"),
        lambda: store.resume(job.id, "bob"),
        lambda: store.retry(job.id, "bob"),
        lambda: store.move(job.id, "bob"),
        lambda: store.favourite(job.id, "bob", True),
        lambda: store.delete(job.id, "bob"),
        lambda: store.find("bob", after=job.id),
        lambda: store.result(done.results[0].id, "bob"),
        lambda: store.submit("bob", "restore", {}, files={"source": upload.id}),
        lambda: store.submit("bob", "restore", {}, files={"photos": [upload.id]}),
        lambda: store.submit("bob", "restore", {}, parent=job.id),
        lambda: store.find_upload("bob", upload.id),
        lambda: store.get("../../etc/passwd"),
        lambda: store.files.result("../../etc/passwd"),
        lambda: store.files.upload("ab/" + "0" * 61),
    ):
        with pytest.raises(NotFound):
            call()
    assert store.find("bob") == [] and store.counts("bob") == {}
    assert store.result(done.results[0].id, "ann")[0].id == job.id
    assert store.submit("ann", "restore", {}, parent=job.id).parent == job.id


def test_the_same_request_twice_is_one_job(store):
    first = store.submit("ann", "imagine", {"prompt": "a", "steps": 2}, key="k")
    assert store.submit("ann", "imagine", {"steps": 2, "prompt": "a"}, key="k") == first
    with pytest.raises(Conflict):
        store.submit("ann", "imagine", {"prompt": "b"}, key="k")
    assert store.submit("bob", "imagine", {"prompt": "b"}, key="k").id != first.id
    assert store.counts() == {"queued": 2}


def test_the_same_request_twice_at_the_same_moment_is_one_job(store):
    ids, start = [], threading.Barrier(8)

    def send():
        start.wait()
        ids.append(store.submit("ann", "imagine", {"prompt": "a"}, key="k").id)

    in_threads(send, 8)
    assert len(ids) == 8 and len(set(ids)) == 1 and store.counts() == {"queued": 1}


KINDS = "imagine", "upscale"


def test_two_workers_never_have_the_same_job(url, tmp_path):
    stores = [JobStore(url, tmp_path / "store") for _ in range(3)]
    for n in range(12):
        stores[0].submit(f"user{n % 4}", "imagine", {"n": n})
    claimed = []

    def work():
        mine = stores[int(threading.current_thread().name[-1]) % 3]
        while claim := mine.claim(threading.current_thread().name):
            claimed.append(claim.job.id)
            mine.finish(claim, [], 0.1)

    in_threads(work, 4)
    assert len(claimed) == len(set(claimed)) == 12 and stores[0].counts() == {"done": 12}
    for store in stores:
        store.close()


def test_two_workers_that_claim_at_once_keep_the_limit_of_an_account(url, tmp_path):
    stores = [JobStore(url, tmp_path / "store") for _ in range(2)]
    for n in range(20):
        stores[0].submit("ann", KINDS[n % 2], {"n": n}, budget=Budget(running=1))
    running, most, together = set(), [], threading.Barrier(2)

    def work():
        number = int(threading.current_thread().name[-1])
        for _ in range(10):
            together.wait(20)
            if claim := stores[number].claim(f"w{number}", kinds=[KINDS[number]]):
                running.add(claim.job.id)
                most.append(len(running))
            together.wait(20)
            if claim:
                running.discard(claim.job.id)
                stores[number].finish(claim, [], 0.1)

    in_threads(work, 2)
    assert set(most) == {1} and len(most) == 10
    for store in stores:
        store.close()


def test_a_worker_whose_lease_ended_changes_nothing(store, tmp_path, clock):
    job = store.submit("ann", "imagine", {})
    late = store.claim("late", lease=10)
    clock.pass_(9)
    assert store.heartbeat(late) == "run"
    clock.pass_(9)
    assert store.sweep() == []
    clock.pass_(2)
    assert [taken.state for taken in store.sweep()] == ["queued"]
    new = store.claim("new")
    assert (store.heartbeat(late), store.requested(late), store.requested(new)) == ("lost", "lost", "run")
    for call in (
        lambda: store.finish(late, [result(tmp_path)], 1),
        lambda: store.fail(late, Message("no"), 1),
        lambda: store.stop(late, 1),
        lambda: store.park(late, 1),
        lambda: store.add_event(late, {"event": "said"}),
        lambda: store.add_preview(late, b"jpeg"),
        lambda: store.saved_state(late),
    ):
        with pytest.raises(LeaseLost):
            call()
    assert not list((tmp_path / "store" / "results").glob("*/*"))  # the file of the late result is deleted
    assert store.finish(new, [], 2).state == "done"
    with pytest.raises(LeaseLost):
        store.finish(new, [], 2)
    assert store.get(job.id).cost == 2 == store.spent("ann")  # the late worker's attempt is nobody's fault but ours


def test_a_worker_keeps_its_job_when_the_service_was_down_for_longer_than_the_lease(store, clock):
    job, other = (store.submit("ann", "imagine", {}) for _ in range(2))
    claims = [store.claim("w1", lease=10), store.claim("w2", lease=300)]
    clock.pass_(100)
    store.extend_leases(10)
    assert store.sweep() == []
    clock.pass_(9)
    assert store.heartbeat(claims[0]) == "run"
    clock.pass_(9)
    assert store.sweep() == [] and store.finish(claims[0], [], 1).attempts == 1
    clock.pass_(181)
    assert store.sweep() == [], "a longer lease stays as it is"
    clock.pass_(2)
    assert [taken.id for taken in store.sweep()] == [other.id] and store.get(job.id).state == "done"


def test_a_job_whose_process_ends_three_times_fails(store):
    job = store.submit("ann", "restore", {})
    for attempt in (1, 2):
        assert store.claim("w").job.attempts == attempt
        assert [taken.state for taken in store.worker_ended("w")] == ["queued"]
    store.claim("w")
    assert [taken.state for taken in store.worker_ended("w")] == ["failed"]
    text = str(CalotypeError.from_data(store.get(job.id).error))
    assert "ended 3 times" in text and store.claim("w") is None
    again = store.retry(job.id, "ann")
    assert (again.state, again.attempts, again.error) == ("queued", 0, None)


def test_a_saved_state_starts_the_count_of_attempts_anew(store):
    job = store.submit("ann", "train_lora", {})
    for _ in range(6):
        store.saved_state(store.claim("w"))
        store.worker_ended("w")
    assert store.get(job.id).state == "queued"


@pytest.mark.parametrize("requested, state", [("cancel", "cancelled"), ("pause", "paused")])
def test_a_job_whose_worker_disappears_is_what_its_owner_wants(store, requested, state):
    job = store.submit("ann", "imagine", {})
    store.claim("w")
    getattr(store, requested)(job.id, "ann")
    assert [taken.state for taken in store.worker_ended("w")] == [state]


def test_an_attempt_that_the_worker_breaks_off_is_not_charged(store, clock):
    job = store.submit("ann", "imagine", {})
    claim = store.claim("w")
    clock.pass_(9)
    assert store.park(claim, 9).cost == 0  # the worker stops
    claim = store.claim("w")
    clock.pass_(7)
    store.heartbeat(claim)
    assert [taken.cost for taken in store.worker_ended("w")] == [0]  # its process was killed
    assert store.spent("ann") == 0
    other = store.submit("bob", "imagine", {})
    assert store.claim("w").job.id == other.id, "the device was busy for ann"
    store.finish(store.claim("w2"), [], 5)
    assert store.get(job.id).cost == 5 == store.spent("ann")


@pytest.mark.parametrize("requested", ["cancel", "pause"])
def test_an_attempt_that_its_owner_ends_is_charged(store, clock, requested):
    for end in (lambda claim: store.park(claim, 9), lambda claim: store.worker_ended("w")):
        job = store.submit("ann", "imagine", {})
        claim = store.claim("w")
        clock.pass_(9)
        getattr(store, requested)(job.id, "ann")
        store.heartbeat(claim)
        end(claim)
        assert store.get(job.id).cost == 9
    assert store.spent("ann") == 18


def test_of_a_training_that_breaks_off_what_is_kept_is_charged(store, clock):
    job = store.submit("ann", "train_lora", {})
    claim = store.claim("w")
    clock.pass_(60)
    store.saved_state(claim)
    clock.pass_(50)
    store.heartbeat(claim)
    store.worker_ended("w")
    assert store.spent("ann") == 60
    claim = store.claim("w")
    clock.pass_(30)
    assert store.park(claim, 30).cost == 60  # nothing more was kept
    claim = store.claim("w")
    clock.pass_(40)
    store.finish(claim, [], 40)
    assert store.get(job.id).cost == 100 == store.spent("ann")


def test_a_running_job_is_cancelled_paused_and_resumed_through_its_worker(store):
    job = store.submit("ann", "imagine", {})
    claim = store.claim("w")
    assert store.pause(job.id, "ann").state == "running" and store.heartbeat(claim) == "pause"
    assert store.resume(job.id, "ann").requested == "run" and store.heartbeat(claim) == "run"
    store.pause(job.id, "ann")
    parked = store.park(claim, 1)
    assert (parked.state, parked.attempts, parked.cost) == ("paused", 0, 1)
    assert store.claim("w") is None
    assert store.resume(job.id, "ann").state == "queued"
    claim = store.claim("w")
    assert store.cancel(job.id, "ann").state == "running" and store.requested(claim) == "cancel"
    with pytest.raises(Conflict):
        store.pause(job.id, "ann")
    stopped = store.stop(claim, 1)
    assert (stopped.state, store.cancel(job.id).state) == ("cancelled", "cancelled")
    for call in (store.pause, store.resume):
        with pytest.raises(Conflict):
            call(job.id, "ann")


def test_a_parked_job_is_the_first_of_its_owner_again(store):
    first, second = (store.submit("ann", "imagine", {"n": n}) for n in range(2))
    claim = store.claim("w")
    assert store.park(claim, 0).state == "queued" and claim.job.id == first.id
    assert store.claim("w").job.id == first.id
    assert store.claim("w").job.id == second.id


def test_ones_own_jobs_are_reordered(store):
    a, b, c = (store.submit("ann", "imagine", {"n": n}).id for n in range(3))
    other = store.submit("bob", "imagine", {}).id
    assert [job.id for job in store.move(c, "ann", before=a)] == [c, a, b]
    assert [job.id for job in store.move(c, "ann")] == [a, b, c]
    assert [job.id for job in store.move(b, "ann", before=b)] == [a, b, c]
    urgent = store.submit("ann", "imagine", {}, priority=5).id
    assert [job.id for job in store.queue("ann")] == [urgent, a, b, c]
    assert [job.id for job in store.move(c, "ann", before=urgent)] == [c, urgent, a, b]
    assert [job.id for job in store.move(urgent, "ann")] == [c, a, b, urgent]
    with pytest.raises(NotFound):
        store.move(a, "ann", before=other)
    order = [store.claim("w").job.id for _ in range(5)]
    assert [job for job in order if job != other] == [c, a, b, urgent]
    with pytest.raises(Conflict):
        store.move(a, "ann")


def test_jobs_are_listed_newest_first_in_pages(store, clock):
    ids = []
    for n in range(7):
        ids.append(store.submit("ann", "imagine", {"n": n}).id)
        clock.pass_(n % 2)  # some have the same time
    store.submit("bob", "imagine", {})
    first = store.find("ann", limit=3)
    rest = store.find("ann", after=first[-1].id)
    assert sorted(job.id for job in (*first, *rest)) == sorted(ids)
    assert [job.created for job in (*first, *rest)] == sorted((job.created for job in (*first, *rest)), reverse=True)
    store.cancel(ids[2])
    assert [job.id for job in store.find(states=["cancelled"])] == [ids[2]] and len(store.find()) == 8


def test_a_light_user_is_served_before_a_heavy_one(store, clock):
    for n in range(20):
        store.submit("heavy", "imagine", {"n": n})
    for _ in range(3):
        claim = store.claim("w")
        clock.pass_(60)
        store.finish(claim, [], 60)
    store.submit("light", "imagine", {})
    assert store.claim("w").job.owner == "light"


def test_what_runs_on_other_devices_counts_as_used(store, clock):
    for owner in ("heavy", "heavy", "light"):
        store.submit(owner, "imagine", {})
    assert store.claim("w1").job.owner == "heavy"
    clock.pass_(1)
    assert store.claim("w2").job.owner == "light"


def test_a_job_for_a_loaded_model_goes_first_three_times(store):
    waiting = store.submit("ann", "imagine", {}, models=["a"])
    for n in range(6):
        store.submit("bob", "imagine", {"n": n}, models=["b"])
    owners = []
    for _ in range(5):
        claim = store.claim("w", loaded=["b", "c"])
        owners.append(claim.job.owner)
        store.finish(claim, [], 0)
    assert owners.index("ann") == 3 and store.get(waiting.id).state == "done"


def test_a_worker_claims_the_kinds_that_it_runs(store):
    store.submit("ann", "train_lora", {})
    job = store.submit("ann", "imagine", {})
    assert store.claim("w", kinds=["imagine", "upscale"]).job.id == job.id
    assert store.claim("w", kinds=["imagine", "upscale"]) is None


def test_accounts_with_one_invitation_have_one_budget(store, clock):
    trial = Budget("invitation:1", seconds=10, is_daily=False, queued=2, running=1)
    store.submit("x1", "imagine", {}, budget=trial)
    store.submit("x2", "imagine", {}, budget=trial)
    with pytest.raises(OverBudget, match="2 jobs wait"):
        store.submit("x3", "imagine", {}, budget=trial)
    claim = store.claim("w1")
    assert store.claim("w2") is None  # one at a time
    third = store.submit("x3", "imagine", {}, budget=trial)
    store.finish(claim, [], 12)
    assert store.claim("w2") is None  # the seconds are used, by whichever account
    with pytest.raises(OverBudget, match="of this account"):
        store.submit("x4", "imagine", {}, budget=replace(trial, queued=None))
    clock.pass_(2 * 86400)
    assert store.claim("w") is None and store.get(third.id).state == "queued"
    assert store.spent("invitation:1", is_daily=False) == 12 and store.spent("invitation:1") == 0


def test_a_daily_budget_is_new_the_next_day(store, clock):
    daily = Budget(seconds=10)
    store.submit("ann", "imagine", {}, budget=daily)
    store.submit("ann", "imagine", {}, budget=daily)
    store.finish(store.claim("w"), [], 11)
    with pytest.raises(OverBudget, match="of today"):
        store.submit("ann", "imagine", {}, budget=daily)
    assert store.claim("w") is None
    clock.pass_(86400)
    assert store.claim("w") is not None


def test_a_task_that_does_not_fit_what_is_left_is_refused(store):
    for number in (1, 2):  # nothing like them has run: the first two are taken whatever they cost
        store.submit("ann", "imagine", {"n": number}, work=number * 4.0, budget=Budget(seconds=30))
    for seconds in (8, 16):  # 2 device seconds for a unit of work
        store.finish(store.claim("w"), [], seconds)
    with pytest.raises(
        OverBudget, match="takes about 8 device seconds, and 6 of the 30 of today are left for it; go on"
    ):
        store.submit("ann", "imagine", {}, work=4.0, budget=Budget(seconds=30))
    store.submit("ann", "imagine", {}, work=2.0, budget=Budget(seconds=30))
    with pytest.raises(OverBudget, match="takes about 4 device seconds, and 2 of the 30 of today"):
        store.submit("ann", "imagine", {}, work=2.0, budget=Budget(seconds=30))
    with pytest.raises(OverBudget, match="takes about 40 device seconds, and the account has 30; make it smaller"):
        store.submit("ann", "imagine", {}, work=20.0, budget=Budget(seconds=30))
    trial = Budget("invitation-1", 50, False)
    store.submit("cleo", "imagine", {}, work=20.0, budget=trial)
    with pytest.raises(OverBudget, match="and 10 of the 50 of this account are left for it; make it smaller, or ask"):
        store.submit("dan", "imagine", {}, work=8.0, budget=trial)
    store.submit("ben", "restore", {}, work=1e9, budget=Budget(seconds=1))  # of this kind nothing is known
    store.submit("ben", "imagine", {"size": "64x64"}, work=1e9, budget=Budget(seconds=1))  # nor of a size of one's own
    store.submit("ben", "imagine", {}, budget=Budget(seconds=1))  # nor where the work is not known


def test_nothing_further_starts_while_what_runs_needs_the_rest_of_the_budget(store, clock):
    budget = Budget(seconds=10, running=5)
    store.submit("bob", "imagine", {})
    store.finish(store.claim("w"), [], 6)
    for number in range(3):
        store.submit("ann", "restore", {"n": number}, budget=budget)
    store.claim("w1")
    clock.pass_(11)  # longer than anybody expected; it is not killed
    assert store.claim("w2") is None
    store.submit("cleo", "imagine", {}, budget=budget)
    store.claim("w3")
    store.submit("cleo", "upscale", {}, budget=budget)
    assert store.claim("w4").job.kind == "upscale", "6 of 10 are expected"


def test_jobs_that_wait_follow_the_budget_of_their_account(store, clock):
    accounts = Accounts(store.database, clock)
    ann = accounts.add("ann", Allowance(seconds=10, max_running=1))
    jobs = [store.submit(ann.id, "imagine", {"n": n}, budget=ann.budget).id for n in range(3)]
    store.finish(store.claim("w"), [], 12)
    assert store.claim("w") is None
    assert [(place.job, place.is_over_budget) for place in store.places(ann.id)] == [(job, True) for job in jobs[1:]]
    assert store.places(ann.id)[0].renewed_in == 86400 - clock.now % 86400
    accounts.change("ann", seconds=100.0, max_running=2)
    assert not store.places(ann.id)[0].is_over_budget
    assert [store.claim("w").job.id, store.claim("w").job.id] == jobs[1:]
    accounts.change("ann", seconds=5.0)
    store.retry(store.cancel(store.submit(ann.id, "imagine", {}).id).id)  # without limit: so it was queued
    accounts.change("ann", seconds=5.0)
    assert store.claim("w") is None


def test_places_are_those_of_the_turns(store):
    store.submit("ann", "imagine", {})
    store.finish(store.claim("w"), [], 10)
    jobs = {name: [store.submit(name, "imagine", {"n": n}).id for n in range(3)] for name in ("ann", "bob")}
    told = {place.job: (place.ahead, place.seconds) for name in jobs for place in store.places(name)}
    served = []
    while claim := store.claim("w"):
        served.append(claim.job.id)
        store.finish(claim, [], 10)
    assert [told[job] for job in served] == [(n, 10.0 * n) for n in range(6)]
    assert [job in jobs["ann"] for job in served[:3]] != [True, True, True], "ann was first, and has had her turn"


def test_the_same_upload_is_stored_once(store, tmp_path):
    one, two = store.upload("ann", io.BytesIO(b"photo")), store.upload("bob", io.BytesIO(b"photo"))
    assert one == two == store.find_upload("ann", one.id)
    assert [path.read_bytes() for path in (tmp_path / "store" / "uploads").glob("*/*")] == [b"photo"]
    with pytest.raises(TooLarge):
        store.upload("ann", io.BytesIO(b"123456"), limit=5)
    assert store.upload("ann", io.BytesIO(b"12345"), limit=5).size == 5
    assert list((tmp_path / "store" / "incoming").iterdir()) == []


def test_old_results_are_deleted_but_never_favourites(store, tmp_path, clock):
    jobs = []
    for n in range(5):
        store.submit("ann", "imagine", {"n": n})
        clock.pass_(10)
        jobs.append(store.finish(store.claim("w"), [result(tmp_path, b"x" * 1000)], 1))
    running = store.submit("ann", "imagine", {})
    store.favourite(jobs[0].id, "ann", True)
    assert store.retain(max_bytes=3000, max_age=1e9) == 2
    left = {job.id for job in store.find()}
    assert left == {jobs[0].id, jobs[3].id, jobs[4].id, running.id}
    clock.pass_(100)
    assert store.retain(max_bytes=0, max_age=50) == 2
    assert {job.id for job in store.find()} == {jobs[0].id, running.id}
    assert len(list((tmp_path / "store" / "results").glob("*/*"))) == 1
    assert store.retain(max_bytes=0, max_age=0) == 0  # nothing but the favourite is left


def test_a_result_is_deleted_alone_and_the_last_one_with_its_job(store, tmp_path):
    job = store.submit("ann", "imagine", {})
    one, two = store.finish(store.claim("w"), [result(tmp_path, b"one"), result(tmp_path, b"two", "s.png")], 1).results
    before = store.last_events([job.id])
    for call in ((job.id, one.id, "bob"), (job.id, "0" * 32, "ann")):
        with pytest.raises(NotFound):
            store.delete_result(*call)
    store.delete_result(job.id, one.id, "ann")
    assert [left.id for left in store.get(job.id).results] == [two.id]
    assert store.files.result(two.id).exists() and not store.files.result(one.id).exists()
    assert store.last_events([job.id]) != before, "streams show the job again"
    store.delete_result(job.id, two.id, "ann")
    assert not store.files.result(two.id).exists() and store.last_events([job.id]) == {}


def test_an_upload_is_kept_while_a_job_needs_it(store, tmp_path, clock):
    used, unused = store.upload("ann", io.BytesIO(b"used")), store.upload("ann", io.BytesIO(b"unused"))
    store.upload("bob", io.BytesIO(b"used"))
    store.submit("ann", "train_lora", {}, files={"photos": [f"{used.id}/a.jpg"]})
    clock.pass_(10_000)
    store.retain(max_bytes=1e9, max_age=5000)
    assert [path.name for path in (tmp_path / "store" / "uploads").glob("*/*")] == [used.id]
    with pytest.raises(NotFound):
        store.find_upload("ann", unused.id)


def test_files_that_a_killed_process_left_are_deleted(store, tmp_path):
    job = store.submit("ann", "imagine", {})
    done = store.finish(store.claim("w"), [result(tmp_path)], 1)
    folder = tmp_path / "store"
    orphan, kept = folder / "results" / "ab" / ("ab" + "0" * 30), store.files.result(done.results[0].id)
    young = folder / "incoming" / "young"
    orphan.parent.mkdir(exist_ok=True)
    for path in (orphan, young, folder / "incoming" / "old"):
        path.write_bytes(b"half")
    for path in (orphan, kept, folder / "incoming" / "old"):
        os.utime(path, (time.time() - 7200,) * 2)
    assert store.delete_orphans() == 2
    assert kept.exists() and young.exists() and not orphan.exists() and store.get(job.id).results


@pytest.mark.parametrize(("kind", "stays"), [("restore", True), ("imagine", False)])
def test_a_preview_whose_deletion_a_kill_prevented_is_deleted(store, tmp_path, monkeypatch, kind, stays):
    job = store.submit("ann", kind, {})
    claim = store.claim("w")
    store.add_preview(claim, b"preview")
    monkeypatch.setattr(store.files, "delete_preview", lambda job_id: None)
    store.finish(claim, [result(tmp_path)], 1)
    preview = store.files.preview(job.id)
    assert preview.exists()
    os.utime(preview, (time.time() - 7200,) * 2)
    assert store.delete_orphans() == (0 if stays else 1)
    assert preview.exists() == stays


def test_of_a_long_job_notes_stay_and_the_rest_thins_out(store):
    job = store.submit("ann", "train_gan", {})
    claim = store.claim("w")
    store.add_event(claim, {"event": "said", "message": "the plan"})
    with store.database.writing() as db:
        db.exec_driver_sql("UPDATE jobs SET last_event = 3")
        events = (
            {"job": job.id, "number": n, "created": 0.0, "data": {"event": "learning", "done": n}}
            for n in range(4, 101)
        )
        db.execute(EVENTS.insert(), list(events))
        db.exec_driver_sql(f"UPDATE jobs SET last_event = {MAX_EVENTS + 97}")
    for _ in range(3):
        last = store.add_event(claim, {"event": "learning", "done": 1})
    assert last == MAX_EVENTS + 100
    kept = store.events(job.id)
    assert [event.number for event in kept] == [1, 2, 3, 50, 100, last - 2, last - 1, last]
    assert kept[2].data == {"event": "said", "message": "the plan"}


def test_the_steps_of_a_training_stay_its_progress_while_it_draws(store, clock):
    job = store.submit("ann", "train_gan", {})
    claim = store.claim("w")
    store.add_event(claim, {"event": "progress", "done": 3, "total": 9, "what": "photos", "remaining": None})
    assert store.get(job.id).progress["what"] == "photos"
    learnt = {"event": "learning", "done": 40, "total": 100, "what": "steps", "remaining": 600.0}
    store.add_event(claim, learnt)
    store.add_event(claim, {"event": "progress", "done": 1, "total": 16, "what": "drawing samples", "remaining": 1.0})
    assert store.get(job.id).progress == learnt | {"aside": {"done": 1, "total": 16, "what": "drawing samples"}}
    store.submit("ben", "train_gan", {})
    assert store.places("ben")[0].seconds == 600.0, "not the second that the samples take"
    store.add_event(claim, learnt)
    assert store.get(job.id).progress == learnt


def test_a_preview_replaces_the_one_before(store):
    job = store.submit("ann", "imagine", {})
    claim = store.claim("w")
    store.add_preview(claim, b"one")
    before = store.get(job.id).preview
    store.add_preview(claim, b"two")
    assert store.files.preview(job.id).read_bytes() == b"two" and store.get(job.id).preview != before
    assert "image" not in store.events(job.id)[-1].data
    store.finish(claim, [], 1)
    assert not store.files.preview(job.id).exists() and store.get(job.id).preview is None


def test_workers_report_what_they_do(store, clock):
    store.report("w1", "cuda:0", ["sdxl"], Message("the disk is full"))
    clock.pass_(30)
    store.report("w2", "cpu", [])
    assert [worker.name for worker in store.workers()] == ["w1", "w2"]
    assert Message.from_data(store.workers()[0].note) == Message("the disk is full")
    clock.pass_(40)
    assert [worker.name for worker in store.workers()] == ["w2"]


def test_each_worker_drops_its_models_once_when_asked(store):
    for worker in ("w1", "w2"):
        assert store.report(worker, "cpu", []) is False
    store.unload_models()
    store.submit("ann", "imagine", {})
    store.submit("ann", "imagine", {})
    assert [store.claim("w1").unload, store.claim("w1").unload] == [True, False]
    assert [store.report("w1", "cpu", []), store.report("w2", "cpu", []), store.report("w2", "cpu", [])] == [
        *(False, True, False)
    ]


def test_a_queue_of_thousands_is_claimed_quickly(store):
    with store.database.writing() as db:
        from sqlalchemy import insert

        from calotype.jobs.schema import JOBS

        row = dict.fromkeys(column.name for column in JOBS.c if column.nullable)
        row |= {"kind": "imagine", "task": {}, "files": {}, "output": {}, "models": [], "state": "queued", "cost": 0.0}
        row |= {"priority": 0, "created": 1.0, "queued": 1.0, "attempts": 0, "overtaken": 0, "is_favourite": False}
        row |= {"fingerprint": "", "last_event": 0, "requested": "run", "is_daily": True}
        rows = [
            row | {"id": f"{n:032}", "owner": f"u{n % 9}", "account": f"u{n % 9}", "position": n} for n in range(3000)
        ]
        db.execute(insert(JOBS), rows)
    started = time.perf_counter()
    first = store.claim("w")
    assert int(first.job.id) == 0 and time.perf_counter() - started < 1


def in_threads(work, count):
    errors = []

    def guarded():
        try:
            work()
        except Exception as fault:  # noqa: BLE001 - raised again in the main thread
            errors.append(fault)

    threads = [threading.Thread(target=guarded, name=f"worker{n}") for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
