"""Whatever happens, people are charged for the work that was finished for them, and nothing starts beyond a budget."""

import contextlib
import itertools
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calotype.errors import CalotypeError
from calotype.jobs.account import Allowance
from calotype.jobs.chat import Chat, Terms
from calotype.jobs.jobs import BUG, Conflict, OverBudget
from calotype.jobs.usage import DAY
from calotype.jobs.users import Accounts

PEOPLE, PAGE_SECONDS, TRIAL, DAILY = range(2), 12.0, 9.0, 10.0  # a member, and a newcomer
PERSON = st.sampled_from(PEOPLE)
COSTS = st.sampled_from((0.5, 4.0, 7.0))
BUG_ERROR = CalotypeError(BUG, kind="KeyError", bug="x")
OPERATIONS = st.one_of(
    st.tuples(st.just("submit"), PERSON),
    st.tuples(st.sampled_from(("finish", "fail", "bug", "kill", "stop", "cancel", "pause")), COSTS),
    st.tuples(st.just("finish"), COSTS),
    st.tuples(st.sampled_from(("link", "unlink", "relink", "resume")), PERSON),
    st.tuples(st.sampled_from(("ban", "known", "join")), PERSON),
    st.tuples(st.just("grant"), PERSON, st.sampled_from((0.0, 3.0, 20.0, None))),
    st.tuples(st.just("page"), PERSON, st.sampled_from((0.0, 3.0, 20.0, None))),
    st.tuples(st.just("day")),
)
ENDS = {  # of an attempt, and whether it is charged
    "finish": (lambda store, claim, cost: store.finish(claim, [], cost), True),
    "fail": (lambda store, claim, cost: store.fail(claim, CalotypeError("a bad picture"), cost), True),
    "bug": (lambda store, claim, cost: store.fail(claim, BUG_ERROR, cost), False),
    "kill": (lambda store, claim, cost: store.worker_ended("w"), False),
    "stop": (lambda store, claim, cost: store.park(claim, cost), False),
    "cancel": (lambda store, claim, cost: (store.cancel(claim.job.id), store.stop(claim, cost)), True),
    "pause": (lambda store, claim, cost: (store.pause(claim.job.id), store.park(claim, cost)), True),
}
numbers = itertools.count()


class Evening:
    """Some people, the store, and what the store should say of them, counted apart from it."""

    def __init__(self, store, chat, accounts, clock):
        self.store, self.chat, self.accounts, self.clock = store, chat, accounts, clock
        self.ids = [f"{next(numbers)}" for _ in PEOPLE]
        self.pages = [accounts.add(f"page{id}", Allowance(seconds=PAGE_SECONDS)) for id in self.ids]
        self.terms = [Terms(DAILY), Terms(DAILY, TRIAL)]
        self.code = accounts.invite(2, 2 * TRIAL)
        self.owns = [chat.visit(id, terms).account.id for id, terms in zip(self.ids, self.terms, strict=True)]
        self.work = Counter()  # device seconds that were finished for each person
        self.today, self.ever = Counter(), Counter()  # by account
        self.moved = Counter()  # of today, by person

    def member(self, person):
        return self.chat.visit(self.ids[person], self.terms[person])

    def submit(self, person):
        """Two jobs: of a kind of which nothing is known, so that they wait whatever they cost."""
        account = self.member(person).account
        with contextlib.suppress(OverBudget):
            for _ in range(2):
                self.store.submit(account.id, f"kind{next(numbers)}", {}, budget=account.budget)

    def resume(self, person):
        for job in self.store.find(self.member(person).account.id, ("paused",)):
            self.store.resume(job.id)

    def relink(self, person):
        for _ in range(2):
            self.link(person)
            self.unlink(person)

    def end(self, how, cost):
        """Runs the next job to this end."""
        claim = self.store.claim("w")
        if claim is None:
            return
        person = next(n for n in PEOPLE if claim.job.owner in (self.owns[n], self.pages[n].id))
        budget = self.accounts.get(claim.job.owner).budget
        if budget.seconds is not None and budget.is_daily:
            assert self.today[claim.job.owner] < budget.seconds, "it starts though nothing is left of today"
        elif budget.seconds is not None:
            used = sum(self.ever[id] for id in self.group(budget.account))
            assert used < budget.seconds, "it starts though nothing is left of the trial"
        before = claim.job.cost
        self.clock.pass_(1)
        self.store.heartbeat(claim)
        end, is_charged = ENDS[how]
        end(self.store, claim, cost)
        charged = cost if is_charged else -before if how == "bug" else 0.0
        if self.store.get(claim.job.id).state == "failed" and how == "kill":  # for the third time
            charged = -before
        self.work[person] += charged
        self.today[claim.job.owner] += charged
        self.ever[claim.job.owner] += charged

    def group(self, account):
        """Ids of those who share a trial."""
        return {found.id for found in self.accounts.list() if found.budget.account == account}

    def link(self, person):
        if not self.member(person).is_own:
            return
        own, page = self.owns[person], self.pages[person].id
        self.chat.link(self.ids[person], self.accounts.add_code(self.pages[person]))
        self.moved[person] = self.today[own]
        self.today[page] += self.today[own]
        self.today[own] = 0

    def unlink(self, person):
        if self.member(person).is_own:
            return
        self.chat.unlink(self.ids[person])
        moved = min(self.moved[person], self.today[self.pages[person].id])
        self.today[self.owns[person]] += moved
        self.today[self.pages[person].id] -= moved

    def ban(self, person):
        for is_banned in (True, False):
            self.chat.change_member(self.ids[person], is_banned=is_banned)

    def known(self, person):
        """No newcomer any more."""
        self.terms[person] = Terms(DAILY)
        self.member(person)

    def join(self, person):
        with contextlib.suppress(Conflict, OverBudget):
            self.chat.join(self.ids[person], self.code)

    def grant(self, person, seconds):
        self.chat.grant(self.ids[person], seconds, Terms(DAILY))

    def page(self, person, seconds):
        """The owner changes the account on the page."""
        self.accounts.change(self.pages[person].name, seconds=seconds)

    def day(self):
        self.clock.pass_(DAY)
        self.today.clear()
        self.moved.clear()

    def check(self):
        """What the store says is what was finished: by person, and today by account."""
        for person in PEOPLE:
            own, page = self.owns[person], self.pages[person].id
            total = sum(self.store.spent(id, is_daily=False) for id in (own, page))
            assert total == pytest.approx(self.work[person], abs=1e-6)
            for id in (own, page):
                assert self.store.spent(id) == pytest.approx(self.today[id], abs=1e-6)

    def close(self):
        for owner in (*self.owns, *(page.id for page in self.pages)):
            for job in self.store.find(owner, ("queued", "paused", "running"), limit=1000):
                self.store.cancel(job.id)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OPERATIONS, min_size=20, max_size=50))
def test_everybody_is_charged_for_what_was_finished_and_nothing_starts_beyond_a_budget(store, clock, operations):
    accounts = Accounts(store.database, clock)
    evening = Evening(store, Chat(store.database, accounts, clock), accounts, clock)
    for name, *arguments in operations:
        if name in ENDS:
            evening.end(name, *arguments)
        else:
            getattr(evening, name)(*arguments)
        evening.check()
    evening.close()
