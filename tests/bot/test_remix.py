"""Windows in which a prompt is changed: what is drawn keeps all that the prompt does not say, also after a restart."""

import pytest

from calotype.bot.prompt import COUNT, ImaginePrompt, ModelRow, literal, read_prompt, read_prompts
from calotype.bot.remix import Redrawing, changed
from calotype.jobs.account import Allowance
from calotype.jobs.users import Accounts
from tests.api.conftest import png
from tests.bot.conftest import buttons

JOB = "0" * 32


def latest(studio):
    return studio.service.store.find()[0]


def contents(studio, job):
    """The bytes of a job's files, by their options."""
    files = {name: refs if isinstance(refs, list) else [refs] for name, refs in job.files.items()}
    store = studio.service.store.files
    return {name: [store.upload(ref.partition("/")[0]).read_bytes() for ref in refs] for name, refs in files.items()}


def shown_prompt(shown):
    (row,) = shown.modal["components"]
    return row["components"][0]["value"]


async def with_remix(evening, name="ann"):
    person = evening.person(name)
    await person.slash(evening.channel, "settings", remix=True)
    return person


@pytest.fixture
def reroll(play, studio):
    """Runs `reroll(begin, prompt, who)`: a job of Ann's command, drawn anew by a changed prompt. Returns both jobs."""

    def run(begin, prompt, who="ann"):
        found = []

        async def scene(evening):
            people = {name: await with_remix(evening, name) for name in ("ann", "ben")}
            await begin(evening, people["ann"])
            message, before = evening.messages[-1], latest(studio)
            shown = await people[who].click(message, custom_id=buttons(message)["🔄"])
            found.append(shown_prompt(shown))
            studio.clock.now += 1
            said = await people[who].submit_modal(shown, {"prompt": prompt})
            assert [followup.content for followup in said.followups] == []
            found.extend((before, latest(studio)))
            assert contents(studio, found[1]) == contents(studio, found[2]) and found[2].id != before.id

        play(scene)
        return found

    return run


@pytest.mark.parametrize("who", ["ann", "ben"])
def test_a_grid_over_a_picture_stays_over_it(reroll, who):
    async def begin(evening, ann):
        await ann.slash(evening.channel, "imagine", prompt="fox --no dog --seed 7", picture=("a.png", png()))
        await evening.work()

    shown, before, after = reroll(begin, "cat --no dog", who)
    assert shown == "fox --no dog --seed 7" and list(after.files) == ["init"]
    kept = {name: value for name, value in before.task.items() if name != "seed"}
    assert after.task == {**kept, "prompt": "cat", "strength": 0.75}


def test_a_blend_stays_one(reroll):
    async def begin(evening, ann):
        pictures = {f"picture{n}": (f"{n}.png", png(64, 32 * n)) for n in (1, 2, 3)}
        await ann.slash(evening.channel, "blend", prompt="fox", shape="landscape", **pictures)
        await evening.work()

    _, before, after = reroll(begin, "red fox")
    assert list(after.files) == ["init", "blend"] and len(after.files["blend"]) == 2
    assert after.task == {**before.task, "prompt": "red fox"}


def test_chosen_regions_stay_the_only_ones(reroll):
    async def begin(evening, ann):
        await ann.slash(evening.channel, "imagine", prompt="fox --ar 3:2")
        await evening.work()
        await ann.click(evening.messages[0], label="U2")
        (choice,) = (await ann.click(evening.messages[1], label="Vary (region)")).followups
        shown = await ann.select(choice, ["1", "4"], custom_id=choice.components[0]["components"][0]["custom_id"])
        studio_time(evening)
        await ann.submit_modal(shown, {"prompt": "cat --ar 3:2"})
        await evening.work()

    _, before, after = reroll(begin, "dog --ar 3:2")
    assert before.task["prompt"] == "cat" and list(after.files) == ["init", "mask"] and "size" not in after.task
    assert after.task == {**before.task, "prompt": "dog"}


def test_a_picture_that_was_made_wider_stays_so(reroll):
    async def begin(evening, ann):
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        await ann.click(evening.messages[0], label="U2")
        studio_time(evening)
        await ann.click(evening.messages[1], label="Zoom out 2x")
        await evening.work()

    _, before, after = reroll(begin, "fox in a forest --no people")
    assert before.task["outpaint"] and before.task["count"] == 1
    assert after.task == {**before.task, "prompt": "fox in a forest", "negative": "people"}


def studio_time(evening):
    evening.studio.clock.now += 1


def test_a_window_shows_what_was_written_and_no_weight_of_ours(play, studio):
    async def scene(evening):
        ann = await with_remix(evening)
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        for action in ("V1", "🔄"):
            message = evening.messages[-1]
            shown = await ann.click(message, custom_id=buttons(message)[action])
            assert shown_prompt(shown) == "fox"
            studio_time(evening)
            await ann.submit_modal(shown, {"prompt": "fox"})
            await evening.work()
        varied, first = studio.service.store.find()[1:]
        assert varied.task == {**first.task, "strength": 0.65, "size": "64x48"}
        await ann.slash(evening.channel, "imagine", prompt="fox --iw 2", picture=("a.png", png()))
        await evening.work()
        shown = await ann.click(evening.messages[-1], label="V1")
        assert shown_prompt(shown) == "fox --iw 2"
        studio_time(evening)
        await ann.submit_modal(shown, {"prompt": "fox --iw 1"})
        assert latest(studio).task["strength"] == 0.75

    play(scene)


def test_a_variation_keeps_what_the_page_has_chosen(play, studio, clock):
    accounts = Accounts(studio.service.store.database, clock)
    page = accounts.add("ann", Allowance())

    async def scene(evening):
        ann = await with_remix(evening)
        await ann.slash(evening.channel, "link", code=accounts.add_code(page))
        task = {"prompt": "fox {x}", "negative": "dog", "steps": 3, "count": 1}
        job = studio.service.store.submit(page.id, "imagine", task, budget=page.budget)
        await evening.work()
        shown = (await ann.slash(evening.channel, "show", job=job.id)).response.message
        window = await ann.click(shown, label="Vary (strong)")
        assert shown_prompt(window) == "fox \\{x\\}"
        studio_time(evening)
        await ann.submit_modal(window, {"prompt": "cat \\{x\\}"})
        expected = {"prompt": "cat {x}", "negative": "dog", "steps": 3, "count": 4, "grid": True}
        assert latest(studio).task == {**expected, "strength": 0.85, "size": "64x48"}

    play(scene)


def test_windows_that_were_open_at_a_restart_are_drawn(play, studio):
    async def scene(evening):
        ann, ben = await with_remix(evening), await with_remix(evening, "ben")
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        grid = evening.messages[0]
        await ann.click(grid, label="U2")
        (choice,) = (await ann.click(evening.messages[1], label="Vary (region)")).followups
        windows = [
            (ann, await ann.click(grid, label="V1")),
            (ben, await ben.click(grid, label="V1")),
            (ann, await ann.click(grid, custom_id=buttons(grid)["🔄"])),
            (ann, await ann.select(choice, ["9"], custom_id=choice.components[0]["components"][0]["custom_id"])),
        ]
        await evening.restart()
        for number, (person, window) in enumerate(windows):
            studio_time(evening)
            await person.submit_modal(window, {"prompt": f"cat {number}"})
            job = latest(studio)
            assert job.task["prompt"] == f"cat {number}"
            assert list(job.files) == [["init"], ["init"], [], ["init", "mask"]][number]
        assert len(studio.service.store.find()) == 5 == len(evening.messages) - 1
        assert (await ben.click(grid, label="V2")).modal, "what people have chosen is known after it"

    play(scene)


def test_a_window_of_a_job_that_was_deleted_says_so(play, studio):
    async def scene(evening):
        ann = await with_remix(evening)
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        window = await ann.click(evening.messages[0], label="V1")
        studio.service.store.delete(latest(studio).id)
        said = await ann.submit_modal(window, {"prompt": "cat"})
        assert "deleted to make room" in said.followups[0].content

    play(scene)


def test_a_weight_without_a_picture_is_refused(play, studio):
    async def scene(evening):
        ann = await with_remix(evening)
        await ann.slash(evening.channel, "imagine", prompt="fox")
        await evening.work()
        window = await ann.click(evening.messages[0], custom_id=buttons(evening.messages[0])["🔄"])
        said = await ann.submit_modal(window, {"prompt": "fox --iw 1"})
        assert said.followups[0].content == "--iw weighs a picture; attach one to the command"
        assert len(studio.service.store.find()) == 1

    play(scene)


ROWS = {"default": ModelRow("emoji", 256, 10), "v 6": ModelRow("photoreal", 1024, 25)}


@pytest.mark.parametrize(
    ("task", "before", "text", "action", "after"),
    [
        ({"model": "emoji", "steps": 3}, "a", "b --v 6", "r", {"model": "photoreal", "steps": 3}),
        ({"model": "photoreal"}, "a --v 6", "b", "r", {"model": "emoji"}),
        ({"size": "96x64"}, "a --ar 3:2", "b --ar 3:2", "r", {"size": "96x64"}),
        ({"size": "320x224"}, "a --ar 3:2", "b", "r", {}),
        ({"size": "96x64"}, "a", "b --ar 2:1", "g", {}),
        ({"steps": 5}, "a --stop 50", "b --draft", "r", {"steps": 4}),
        ({"seed": 7}, "a --seed 7", "b", "r", {}),
        ({"seed": -1}, "a", "b --seed 9", "r", {"seed": 9}),
        ({"strength": 0.5}, "a --iw 2", "b", "r", {"strength": 0.75}),
        ({"strength": 0.9}, "a --iw 2", "b --iw 2", "r", {"strength": 0.9}),
        ({"strength": 0.9}, "a --iw 2", "b --iw 1", "g", {"strength": 0.9}),
        ({"strength": 0.65}, "a --iw 2", "b --iw 2", "v", {"strength": 0.65}),
        ({"strength": 0.65}, "a --iw 2", "b --iw 3", "v", {"strength": 0.25}),
        ({"strength": 0.65}, "a --iw 2", "b", "v", {"strength": 0.65}),
        ({"negative": "dog", "count": 1}, "a", "b", "r", {"negative": "dog", "count": 1}),
        ({"tiling": True, "guidance": 7}, "a --tile --s 100", "b --s 0", "r", {"guidance": 10.0}),
    ],
)
def test_what_the_prompt_says_is_changed_and_the_rest_stays(task, before, text, action, after):
    old, new = (read_prompt(words, ROWS, ROWS["default"]) for words in (before, text))
    usual = {"prompt": "a", "model": "emoji", "count": COUNT}
    expected = {"model": task.get("model", "emoji"), "count": COUNT, **after, "prompt": "b"}
    assert changed({**usual, **task}, old, new, action) == expected


def test_a_prompt_of_unknown_origin_takes_what_is_written():
    new = read_prompt("b --ar 2:1", ROWS, ROWS["default"])
    assert changed({"prompt": "?", "count": 1}, ImaginePrompt("", {"count": COUNT}), new, "r") == {
        **new.task,
        "count": 1,
    }


@pytest.mark.parametrize("text", ["{a, b} c", "a}", "{", "{a{b}}", "plain, with commas"])
def test_braces_of_a_prompt_that_was_read_are_characters_in_the_window(text):
    (prompt,) = read_prompts(literal(text), ROWS)
    assert prompt.text == prompt.task["prompt"] == text


def test_what_a_window_draws_is_in_its_id():
    for redrawing in (Redrawing("r", JOB, 0), Redrawing("g", JOB, 4, (1, 9)), Redrawing("v", JOB, 12)):
        assert Redrawing.of(redrawing.custom_id) == redrawing and len(redrawing.custom_id) <= 100
    for other in ("", "calw:c:" + JOB + ":0:", "calw:v:0:0:", f"cal:v:{JOB}:0", f"calw:v:{JOB}:0:0"):
        assert Redrawing.of(other) is None
