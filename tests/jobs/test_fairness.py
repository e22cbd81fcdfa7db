"""Nobody starves, whoever else submits, and whatever models are loaded."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.jobs.fairness import CREDIT, HALF_LIFE, MAX_OVERTAKEN, Candidate, Usage, choose, score

MODELS = [frozenset(), frozenset("a"), frozenset("b"), frozenset("ab")]
JOBS = st.lists(
    st.builds(
        Candidate,
        id=st.uuids().map(str),
        account=st.sampled_from("wxyz"),
        priority=st.integers(-1, 1),
        position=st.integers(1, 99),
        queued=st.floats(0, 1000),
        models=st.sampled_from(MODELS),
        overtaken=st.integers(0, MAX_OVERTAKEN),
    ),
    max_size=12,
    unique_by=lambda job: job.id,
)
USAGE = st.dictionaries(
    st.sampled_from("wxyz"), st.builds(Usage, st.floats(0, 5000), st.floats(0, 1000), st.floats(0, 1000))
)


@given(JOBS, USAGE, st.sampled_from([*MODELS, frozenset("abc")]))
def test_somebody_is_served_if_anybody_waits_and_nobody_is_overtaken_too_often(jobs, usage, loaded):
    choice = choose(jobs, usage, 1000.0, loaded)
    assert (choice is None) == (not jobs)
    if choice is None:
        return
    by_id = {job.id: job for job in jobs}
    chosen, best = by_id[choice.id], by_id[choose(jobs, usage, 1000.0).id]
    own = [job for job in jobs if job.account == chosen.account]
    assert chosen.priority == max(job.priority for job in own)
    assert all(by_id[passed].overtaken < MAX_OVERTAKEN for passed in choice.overtakes)
    if choice.overtakes:
        assert chosen.models and chosen.models <= loaded and best.id in choice.overtakes
    else:
        assert chosen == best and chosen.position == min(j.position for j in own if j.priority == chosen.priority)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(1, 300), st.sampled_from(MODELS[1:])), min_size=2, max_size=6),
    st.floats(0, 4000),
    st.data(),
)
def test_no_account_starves(accounts, used, data):
    """Accounts that always have work, and newcomers that never end: one that has used much is served all the same,
    at the latest after four times that, one job of each other account, and those that may overtake."""
    now, loaded, served = 0.0, frozenset(), set()
    usage = {"patient": Usage(used, 0.0, 0.0)}
    overtaken: dict[str, int] = {}
    longest = max(seconds for seconds, _ in accounts)
    bound = 4 * used + (len(accounts) + 2) * (MAX_OVERTAKEN + 1) * longest
    round_, waiting_since = 0, {}
    while "patient" not in served:
        assert now <= bound
        round_ += 1
        jobs = [Candidate("patient", "patient", 0, 1, 0.0, frozenset("c"), overtaken.get("patient", 0))]
        for n, (_, models) in enumerate(accounts):
            since = waiting_since.setdefault(f"u{n}", now)
            jobs.append(Candidate(f"u{n}", f"u{n}", 0, 1, since, models, overtaken.get(f"u{n}", 0)))
        jobs.append(Candidate(f"new{round_}", f"new{round_}", 0, 1, now, MODELS[1]))  # an account of its own each time
        choice = choose(jobs, usage, now, loaded)
        for passed in choice.overtakes:
            overtaken[passed] = overtaken.get(passed, 0) + 1
            assert overtaken[passed] <= MAX_OVERTAKEN
        chosen = next(job for job in jobs if job.id == choice.id)
        seconds = accounts[int(chosen.id[1:])][0] if chosen.id.startswith("u") else data.draw(st.floats(1, longest))
        before = usage.get(chosen.account, Usage())
        usage[chosen.account] = replace(before.after(seconds, now), served=now)
        now, loaded = now + seconds, chosen.models
        waiting_since[chosen.account], overtaken[chosen.id] = now, 0
        served.add(chosen.account)


def test_two_accounts_that_always_have_work_get_the_same_device_time():
    now, usage, total = 0.0, {}, {"long": 0.0, "short": 0.0}
    while now < 20_000:
        jobs = [Candidate(name, name, 0, 1, 0.0) for name in total]
        name = choose(jobs, usage, now).id
        seconds = 100.0 if name == "long" else 5.0
        now, total[name] = now + seconds, total[name] + seconds
        usage[name] = replace(usage.get(name, Usage()).after(seconds, now), served=now)
    assert 0.4 < total["short"] / sum(total.values()) < 0.6


def test_usage_halves_every_hour():
    usage = Usage(100.0, 0.0).after(50.0, HALF_LIFE)
    assert usage.seconds == 100.0 and usage.at(2 * HALF_LIFE) == 50.0 and usage.at(0.0) == 100.0
    assert score(Usage(), queued=0.0, now=8.0) == -8 * CREDIT < score(Usage(), queued=4.0, now=8.0)


def test_within_an_account_priority_counts_then_the_place():
    jobs = [Candidate("a", "x", 0, 1, 0.0), Candidate("b", "x", 1, 3, 0.0), Candidate("c", "x", 1, 2, 0.0)]
    assert choose(jobs, {}, 1.0).id == "c"
    loaded = [replace(job, models=frozenset("a")) if job.id in "ab" else job for job in jobs]
    assert choose(loaded, {}, 1.0, ["a"]).id == "b"  # not a, which has a lower priority
    assert choose(loaded, {}, 1.0, ["a"]).overtakes == ("c",)
