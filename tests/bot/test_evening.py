"""An evening: 20 people, 60 commands and presses, restarts, errors of Discord and failing jobs."""

import random
from collections import Counter

from calotype.api.limiter import Rate, RateLimiter
from calotype.errors import CalotypeError
from calotype.jobs.jobs import BUG
from tests.bot.conftest import buttons, work

PEOPLE = 20
PROMPTS = ("red fox", "{red, blue} apple --s 250", "cat::2 dog::-.5", "house --ar 3:2 --seed 7", "tree --draft")
MISTAKES = ("fox --sead 1", "{a", "--tile")


def test_an_evening_loses_and_doubles_nothing_and_its_budgets_are_exact(play, studio, clock):
    commands = 60
    rng = random.Random(17)
    studio.flood = studio.crowd = RateLimiter(Rate(10**6, 10**6))
    store = studio.service.store
    expected, seconds = Counter(), Counter()  # jobs and device seconds by person

    async def scene(evening):
        people = [evening.person(f"person{n}") for n in range(PEOPLE)]

        def finish_jobs(count):
            for _ in range(count):
                if not store.counts().get("queued"):
                    return
                clock.now += 1
                is_broken, took = rng.random() < 0.1, rng.choice((0.5, 1.0, 2.5))
                fault = CalotypeError(BUG, kind="KeyError", bug="x") if is_broken else None
                job = work(store, fault=fault, seconds=took).job
                seconds[studio.chat.message(job.id).member] += 0 if is_broken else took

        async def imagine(person, text):
            await person.slash(evening.channel, "imagine", prompt=text)
            expected[str(person.id)] += 2 if "{red, blue}" in text else 0 if text in MISTAKES else 1

        async def press(person):
            grids = [message for message in evening.messages if "V1" in buttons(message)]
            if not grids:
                await imagine(person, PROMPTS[0])
                return
            grid, label = rng.choice(grids), rng.choice(("U1", "U3", "V1", "V4"))
            before = len(store.find(limit=1000))
            await person.click(grid, label=label)
            await person.click(grid, label=label)
            created = len(store.find(limit=1000)) - before
            assert created <= 1, "a second press made a second job"
            expected[str(person.id)] += created

        for number in range(commands):
            clock.now += 1
            person, kind = rng.choice(people), rng.random()
            if kind < 0.55:
                await imagine(person, rng.choice(PROMPTS))
            elif kind < 0.65:
                await imagine(person, rng.choice(MISTAKES))
            elif kind < 0.9:
                await press(person)
            else:
                await person.slash(evening.channel, rng.choice(("queue", "info", "settings")))
            if number % 10 == 3:
                evening.env.inject_error("PATCH", "/channels/*/messages/*", status=503, times=2)
                evening.env.inject_error("POST", "/channels/*/messages", status=500, times=1)
            finish_jobs(rng.randrange(3))
            if number % 5 == 0:
                await evening.look()
            if number % 40 == 39:
                finish_jobs(3)  # while the bot is away
                await evening.restart()
        finish_jobs(10**4)
        for _ in range(4):  # until the last injected error is over
            await evening.look()

        jobs = store.find(limit=1000)
        assert Counter(studio.chat.message(job.id).member for job in jobs) == +expected
        assert {job.state for job in jobs} == {"done", "failed"}
        assert studio.chat.open_messages() == []
        shown = {message.id: message for message in evening.messages}
        places = [int(studio.chat.message(job.id).message) for job in jobs]
        assert len(set(places)) == len(jobs) and set(places) <= shown.keys()
        for job, place in zip(jobs, places, strict=True):
            assert ("seed 7, done in" if job.state == "done" else "not charged") in shown[place].content
        single = [message for message in shown.values() if message.content.startswith("picture ")]
        assert len(shown) == len(jobs) + len(single), "a job has two messages"
        for person, used in seconds.items():
            assert abs(store.spent(studio.chat.member(person).account.id) - used) < 1e-6
        assert len(jobs) > 0.6 * commands and sum(seconds.values()) > 0.5 * commands

    play(scene)
