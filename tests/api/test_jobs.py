"""Jobs over HTTP: what is asked for is queued, followed, and fetched."""

import asyncio
import io
import itertools
import json
import threading
import time
import zipfile

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from calotype.api import events as streams
from calotype.api.events import EventHub, read_last_id, stream, stream_all
from calotype.jobs.account import LOCAL
from calotype.jobs.files import MAX_SAMPLES
from calotype.tasks import TASKS, Learning, Progress, note
from calotype.tasks.events import as_data
from tests.api.conftest import listening, png, submit, upload, work, working


def test_a_job_goes_from_an_upload_to_its_result(client, store):
    source = upload(client)
    answer = client.post(
        "/jobs",
        json={"kind": "restore", "task": {"scale": 2, "upscaler": "realesrgan-x4plus"}, "files": {"source": source}},
    )
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert (job["state"], job["kind"], job["files"]) == ("queued", "restore", {"source": source})
    assert job["task"] == {"scale": 2, "upscaler": "realesrgan-x4plus"}
    assert store.get(job["id"]).models == ("marks", "realesrgan-x4plus")

    result = png(16, 12)
    work(store, result)
    job = client.get(f"/jobs/{job['id']}").json()
    assert (job["state"], job["cost"], job["progress"]["done"]) == ("done", 1.0, 1)
    (stored,) = job["results"]
    assert (stored["name"], stored["media_type"], stored["size"]) == ("picture.png", "image/png", len(result))
    fetched = client.get(stored["url"])
    assert fetched.content == result
    assert fetched.headers["content-type"] == "image/png"
    assert fetched.headers["content-disposition"] == "inline; filename*=UTF-8''picture.png"
    assert "sandbox" in fetched.headers["content-security-policy"]


@pytest.mark.parametrize("name, media_type", [("page.html", "text/html"), ("x.svg", "image/svg+xml")])
def test_results_that_could_run_scripts_are_saved_not_shown(client, store, name, media_type):
    submit(client)
    job = work(store, b"<script>", name, media_type)
    fetched = client.get(client.get(f"/jobs/{job}").json()["results"][0]["url"])
    assert fetched.headers["content-disposition"].startswith("attachment")
    assert fetched.headers["x-content-type-options"] == "nosniff"


def test_a_file_name_cannot_leave_its_header(client, store):
    submit(client)
    job = work(store, name='a"\r\nX: 1; 狐.png')
    fetched = client.get(client.get(f"/jobs/{job}").json()["results"][0]["url"])
    assert "x" not in fetched.headers
    assert fetched.headers["content-disposition"].isascii()


def test_jobs_are_listed_in_pages_and_by_state(client, store, clock):
    ids = []
    for _ in range(5):
        clock.now += 1
        ids.append(submit(client))
    ended = work(store)
    assert [job["id"] for job in client.get("/jobs", params={"state": "done"}).json()["jobs"]] == [ended]
    both = client.get("/jobs", params={"state": ["done", "queued"]}).json()["jobs"]
    assert len(both) == 5
    found, after = [], None
    while True:
        page = client.get("/jobs", params={"limit": 2} | ({"after": after} if after else {})).json()
        found += [job["id"] for job in page["jobs"]]
        if not (after := page["next"]):
            break
    assert found == ids[::-1]


def test_a_job_can_be_steered(client, store):
    first, second = submit(client), submit(client)
    assert client.post(f"/jobs/{first}/pause").json()["state"] == "paused"
    assert client.post(f"/jobs/{first}/resume").json()["state"] == "queued"
    queue = client.post(f"/jobs/{second}/move", json={"before": first}).json()
    assert [job["id"] for job in queue] == [second, first] == [job["id"] for job in client.get("/queue").json()]
    assert client.post(f"/jobs/{second}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/jobs/{second}/pause").status_code == 409
    assert client.post(f"/jobs/{second}/retry").json()["state"] == "queued"
    assert client.delete(f"/jobs/{second}").status_code == 409
    assert client.put(f"/jobs/{first}/favourite").json()["is_favourite"]
    assert not client.delete(f"/jobs/{first}/favourite").json()["is_favourite"]
    client.post(f"/jobs/{second}/cancel")
    assert client.delete(f"/jobs/{second}").status_code == 204
    assert client.get(f"/jobs/{second}").status_code == 404


def test_a_plan_waits_for_none_of_ones_own_trainings(client):
    training = submit(client, "train_gan", {"demo": True})
    plan = submit(client, "train_gan", {"demo": True, "dry_run": True})
    assert [job["id"] for job in client.get("/queue").json()] == [plan, training]
    body = {"kind": "train_gan", "task": {"demo": True, "dry_run": True}, "priority": 0}
    last = client.post("/jobs", json=body).json()["id"]
    assert [job["id"] for job in client.get("/queue").json()] == [plan, training, last]


def test_the_same_key_twice_is_one_job(client):
    body, key = {"kind": "imagine", "task": {"prompt": "fox"}}, {"Idempotency-Key": "k1"}
    first, again = (client.post("/jobs", json=body, headers=key).json()["id"] for _ in range(2))
    assert first == again
    assert len(client.get("/jobs").json()["jobs"]) == 1
    other = client.post("/jobs", json=body | {"priority": 1}, headers=key)
    assert (other.status_code, other.json()["error"]) == (409, "conflict")
    assert client.post("/jobs", json=body, headers={"Idempotency-Key": "a b"}).status_code == 422


def test_a_variation_knows_its_parent(client):
    parent = submit(client)
    child = submit(client, parent=parent)
    assert client.get(f"/jobs/{child}").json()["parent"] == parent
    missing = client.post("/jobs", json={"kind": "imagine", "task": {}, "parent": "0" * 32})
    assert missing.status_code == 404


def test_a_failed_job_says_why_without_paths(client, store):
    submit(client)
    job = work(store, fault="/home/ann/service/work/ab/photo.jpg is damaged; save it again")
    error = client.get(f"/jobs/{job}").json()["error"]
    assert error == {"error": "failed", "detail": "photo.jpg is damaged; save it again", "option": ""}


def test_the_preview_is_the_latest(client, store):
    job = submit(client)
    assert client.get(f"/jobs/{job}/preview").status_code == 404
    work(store, has_preview=True)
    assert client.get(f"/jobs/{job}").json()["preview"] == f"/jobs/{job}/preview"
    assert client.get(f"/jobs/{job}/preview").content == b"\xff\xd8\xff"


@pytest.mark.parametrize("kind", TASKS)
def test_every_kind_of_task_is_described_and_taken(client, kind):
    view = client.get(f"/tasks/{kind}").json()
    assert view["options"]["properties"].keys().isdisjoint(view["files"])
    assert not any("x-file" in spec for spec in view["options"]["properties"].values())
    needed = {
        "merge_lora": {"loras": ["nobody"]},
        "resize_lora": {"lora": "nobody", "rank": 4},
        "convert_lora": {"lora": "nobody"},
        "extract_lora": {"tuned": "nobody", "base": "nobody"},
    }
    photo = upload(client)
    files = {name: [photo] if name == "photos" else photo for name in view["required_files"]}
    files |= {"photos": [photo]} if kind in ("train_gan", "train_lora") else {}
    files |= {"reference": photo} if kind == "colour" else {}
    answer = client.post("/jobs", json={"kind": kind, "task": needed.get(kind, {}), "files": files})
    if kind in needed:
        assert (answer.status_code, "nobody" in answer.json()["detail"]) == (422, True)
    else:
        assert answer.status_code == 201, answer.text


def test_photos_of_a_folder_are_named(client, store):
    photo, caption = upload(client), upload(client, b"a fox")
    files = {"photos": [f"{photo}/fox.png", f"{caption}/fox.txt"]}
    job = submit(client, "train_gan", {}, files=files)
    assert store.get(job).files == files
    invalid = ("../a.png", "a/b.png", ".hidden", "CON.png", "a\0.png", "x" * 200, "a.png ", "", "C:a.png", "..", "a\\b")
    for name in invalid:
        answer = client.post("/jobs", json={"kind": "train_gan", "files": {"photos": [f"{photo}/{name}"]}})
        assert (answer.status_code, answer.json()["option"]) == (422, "photos"), name


def test_the_format_of_generated_pictures_can_be_given(client, store):
    job = submit(client, output={"format": "webp", "quality": 80})
    assert store.get(job).output == {"format": "webp", "quality": 80}
    for body, option in [
        ({"kind": "imagine", "output": {"format": "exe"}}, "format"),
        ({"kind": "imagine", "output": {"quality": 101}}, "quality"),
        ({"kind": "imagine", "output": {"out": "/etc"}}, ""),
        ({"kind": "imagine", "output": []}, "output"),
        ({"kind": "caption", "output": {"format": "png"}, "files": {"photos": [upload(client)]}}, "output"),
    ]:
        answer = client.post("/jobs", json=body)
        assert (answer.status_code, answer.json()["option"]) == (422, option), body


def events_of(text):
    blocks = [
        dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\n\n") if "data" in block
    ]
    return [(block["id"], block["event"], json.loads(block["data"])) for block in blocks]


def test_events_are_resumed_after_the_last_one(client, store):
    job = submit(client)
    work(store)
    answer = client.get(f"/jobs/{job}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert [name for _, name, _ in events] == ["state", "state", "progress", "state", "job"]
    assert [id for id, _, _ in events] == ["1", "2", "3", "4", "end"]
    assert events[2][2] == {"event": "progress", "done": 1, "total": 2, "what": "steps", "remaining": None}
    assert events[-1][2]["state"] == "done"
    rest = client.get(f"/jobs/{job}/events", headers={"Last-Event-ID": "3"})
    assert events_of(rest.text) == events[3:]
    assert client.get(f"/jobs/{job}/events", headers={"Last-Event-ID": "end"}).status_code == 204


@pytest.mark.parametrize(
    "text, number", [(None, 0), ("", 0), ("7", 7), ("-1", 0), ("²", 0), ("9" * 40, 0), ("x", 0), ("end", None)]
)
def test_any_last_id_is_read(text, number):
    assert read_last_id(text) == number


def test_events_arrive_while_the_job_runs(client, store):
    """Each one once, in order, although they are written by another thread while the stream waits."""
    job = store.get(submit(client))

    async def follow():
        stopping = asyncio.Event()
        hub, seen = EventHub(store, stopping), []
        async for part in stream(hub, store, job, 0):
            seen += events_of(part.decode())
            if len(seen) == 1:
                threading.Thread(target=work, args=(store,)).start()
        return seen

    events = asyncio.run(asyncio.wait_for(follow(), 10))
    numbers = [id for id, name, _ in events if name != "job"]
    assert numbers == ["1", "2", "3", "4"]
    assert events[-1][:2] == ("end", "job")


def test_the_stream_of_a_deleted_job_ends_with_a_word(client, store):
    job = store.get(submit(client))

    async def follow():
        hub, parts = EventHub(store, asyncio.Event()), []
        async for part in stream(hub, store, job, 0):
            parts.append(part.decode())
            if len(parts) == 3:  # it waits
                store.cancel(job.id)
                store.delete(job.id)
        return events_of("".join(parts))

    events = asyncio.run(asyncio.wait_for(follow(), 5))
    assert events[-1] == ("end", "error", {"error": "not_found", "detail": "there is no such job", "option": ""})
    assert client.get(f"/jobs/{job.id}/events", headers={"Last-Event-ID": "end"}).status_code == 404


def test_streams_end_when_the_service_stops(client, store):
    job = store.get(submit(client))

    async def follow():
        stopping = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, stopping.set)
        return [part async for part in stream(EventHub(store, stopping), store, job, 0)]

    parts = asyncio.run(asyncio.wait_for(follow(), 5))
    assert b"queued" in b"".join(parts)


def test_a_stopping_service_takes_no_jobs_and_loses_none(client):
    job = submit(client)
    client.app.state.service.stopping.set()
    answer = client.post("/jobs", json={"kind": "imagine", "task": {}})
    assert (answer.status_code, answer.json()["error"], answer.headers["Retry-After"]) == (503, "unavailable", "60")
    assert client.get(f"/jobs/{job}").json()["state"] == "queued"
    assert client.get("/health").json()["status"] == "stopping"


def test_jobs_are_found_by_kind_words_time_and_mark(client, store, clock):
    fox = submit(client, task={"prompt": "red Fox in snow"})
    clock.now += 100
    old = upload(client)
    photo = submit(client, "restore", {"scale": 3}, files={"source": f"{old}/奶奶 1950.png"})
    client.put(f"/jobs/{photo}/favourite")

    def found(query):
        return [job["id"] for job in client.get(f"/jobs?{query}").json()["jobs"]]

    assert found("kind=imagine") == [fox] and found("kind=restore&kind=imagine") == [photo, fox]
    assert found("text=fox") == found("text=SNOW%20red") == [fox] and found("text=fo%25") == []
    assert found("text=奶奶") == found("text=1950") == [photo]
    assert found("text=emoji") == found("text=emoji%20fox") == [fox], "its model, which is the usual one"
    assert found("favourite=true") == [photo] and found("favourite=false") == [fox]
    assert found(f"since={clock.now - 1}") == [photo] and found(f"until={clock.now - 1}") == [fox]


def test_the_place_of_a_waiting_job_counts_those_of_others_and_how_long_they_take(client_for, store):
    ann, ben = client_for("ann"), client_for("ben")
    assert ann.get("/queue/places").json() == []
    first, second = submit(ann), submit(ben)
    free = {"is_over_budget": False, "renewed_in": None}
    assert ann.get("/queue/places").json() == [{"job": first, "ahead": 0, "seconds": 0.0, **free}]
    assert ben.get("/queue/places").json() == [{"job": second, "ahead": 1, "seconds": None, **free}]
    work(store, seconds=12.0)
    waiting = submit(ben)
    assert ben.get("/queue/places").json()[-1] == {"job": waiting, "ahead": 1, "seconds": 12.0, **free}
    assert ann.get("/queue/places").json() == []


def test_results_of_several_jobs_are_one_zip(client, store):
    ids = [submit(client, task={"prompt": f"fox {number}"}) for number in range(3)]
    for _ in ids:
        work(store, name="picture.png")
    answer = client.get("/archive?" + "&".join(f"job={job}" for job in (*ids, ids[0])))
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["picture.png", "picture-2.png", "picture-3.png"]
        assert archive.read("picture-2.png") == png()
    assert client.get(f"/archive?job={ids[0]}&job={'0' * 32}").status_code == 404
    assert client.get("/archive").status_code == 422


def test_one_of_several_results_is_deleted_and_the_last_one_with_its_job(client, store):
    job = submit(client, task={"prompt": "fox", "count": 2})
    with working(store, png()):
        while client.get(f"/jobs/{job}").json()["state"] != "done":
            time.sleep(0.02)
    one, two = client.get(f"/jobs/{job}").json()["results"]
    assert client.delete(one["url"]).status_code == 204
    assert [left["id"] for left in client.get(f"/jobs/{job}").json()["results"]] == [two["id"]]
    assert [client.get(result["url"]).status_code for result in (one, two)] == [404, 200]
    assert client.delete(one["url"]).status_code == 404
    assert client.delete(two["url"]).status_code == 204
    assert client.get(f"/jobs/{job}").status_code == 404


def test_an_uploaded_picture_says_what_it_was_generated_with(client):
    texts, file = PngInfo(), io.BytesIO()
    texts.add_text("parameters", "fox\nSteps: 20, Sampler: Euler a, CFG scale: 7.0, Seed: 5, Size: 8x6, Model: emoji")
    Image.new("RGB", (8, 6)).save(file, "PNG", pnginfo=texts)
    found = client.get(f"/uploads/{upload(client, file.getvalue())}/parameters").json()
    assert found["text"].startswith("fox\nSteps: 20") and found["parameters"]["Seed"] == "5"
    assert client.get(f"/uploads/{upload(client)}/parameters").json() == {"text": "", "parameters": {}}
    refused = client.get(f"/uploads/{upload(client, b'no picture')}/parameters")
    assert refused.status_code == 422 and "picture" in refused.json()["detail"]


def test_a_form_names_more_jobs_of_a_zip_than_an_address_can(client, store):
    ids = [submit(client, task={"prompt": f"fox {number}"}) for number in range(3)]
    for _ in ids:
        work(store, name="picture.png")
    gone = [f"{number:032x}" for number in range(1000)]
    answer = client.post("/archive", data={"job": [*gone, *ids]})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None and len(archive.namelist()) == 3
    assert client.post("/archive", data={"job": gone}).status_code == 404
    assert client.post("/archive", data={"job": [f"{number:032x}" for number in range(5001)]}).status_code == 413
    assert client.post("/archive", json={"job": ids}).status_code == 415


def test_nobody_gets_anothers_results_in_a_zip(client_for, store):
    ann, ben = client_for("ann"), client_for("ben")
    job = submit(ann)
    work(store)
    assert ann.get(f"/archive?job={job}").status_code == 200
    assert ben.get(f"/archive?job={job}").status_code == 404
    assert ben.post("/archive", data={"job": job}).status_code == 404


def test_results_have_the_facts_of_their_kind(client, store):
    job = submit(client)
    work(store)
    assert client.get(f"/jobs/{job}").json()["results"][0]["facts"] == {}


def test_one_stream_has_all_jobs_as_they_change(store):
    hub = EventHub(store, asyncio.Event())

    async def read():
        job = store.submit("ann", "imagine", {"prompt": "fox"})
        store.submit("ben", "imagine", {"prompt": "another's"})
        stream, names = stream_all(hub, store, "ann", {}), []
        async for part in stream:
            text = part.decode()
            if "event: " not in text:
                continue
            names.append((text.partition("event: ")[2].partition("\n")[0], json.loads(text.rpartition("data: ")[2])))
            if len(names) == 1:
                store.cancel(job.id, "ann")
            elif len(names) == 2:
                store.delete(job.id, "ann")
            else:
                break
        await stream.aclose()
        return job.id, names

    job, names = asyncio.run(read())
    assert [(name, data["id"], data.get("state")) for name, data in names] == [
        ("job", job, "queued"),
        ("job", job, "cancelled"),
        ("gone", job, None),
    ]
    assert len(names) == 3


def test_streams_of_all_jobs_share_one_look_into_the_store(store, monkeypatch):
    for _ in range(3):
        store.submit("ann", "imagine", {})
    looks, marks = [], store.marks
    monkeypatch.setattr(store, "marks", lambda *given: looks.append(given) or marks(*given))
    hub, begun, idle = EventHub(store, asyncio.Event()), [], []

    async def read(owner):
        async for part in stream_all(hub, store, owner, streams.marks_of(store, owner)):
            begun.append(part)

    async def watch():
        tasks = [asyncio.create_task(read(owner)) for owner in ("ann", "ben") for _ in range(20)]
        await asyncio.sleep(1.2)
        idle.append(len(looks) - 40)
        for number in range(3):
            store.submit("eve", "imagine", {"prompt": f"{number}"})
            await asyncio.sleep(0.6)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(watch())
    assert begun == [b"retry: 2000\n\n"] * 40, "nothing has changed since they began"
    assert {tuple(sorted(owners)) for owners, _ in looks[40:]} == {("ann", "ben")}
    assert idle[0] <= 2, "nothing is read while nothing changes"
    assert 3 <= len(looks) - 40 - idle[0] <= 4, "once a change, for all of them"


@pytest.mark.parametrize("address, begun", [("/events?current=false", "retry"), ("/jobs/{job}/events", "event: job")])
def test_a_stream_ends_with_the_token(app, accounts, store, monkeypatch, address, begun):
    monkeypatch.setattr(streams, "CHECK", 0.0)
    owner = accounts.add("ann").id
    job = store.submit(owner, "imagine", {"prompt": "fox"})
    headers = {"Authorization": f"Bearer {accounts.add_token('ann')}"}
    with listening(app) as server, httpx.stream("GET", server + address.format(job=job.id), headers=headers) as answer:
        parts = answer.iter_text()
        assert any(begun in part for part in parts)
        accounts.remove_tokens("ann")
        store.pause(job.id)
        assert "paused" not in "".join(parts), "it has ended, and did not show what happened later"


def learn(claim, store, steps):
    for step in steps:
        store.add_event(claim, as_data(Learning(step, 100, "steps", 1.0, 0.5 / step, 1e-4, 1)))


def test_what_a_training_has_learnt_is_told_whole_and_as_it_goes(client, store):
    job = submit(client, "train_gan", {"demo": True})
    claim = store.claim("w")
    store.add_event(claim, as_data(note("{count} pictures to train on, as squares of {side} pixels", count=9, side=32)))
    store.add_preview(claim, png(), "image/jpeg", 0)
    learn(claim, store, range(1, 1001))
    told = client.get(f"/jobs/{job}/learning", headers={"Accept-Language": "zh"}).json()
    assert [(told_note["step"], "9" in told_note["text"]) for told_note in told["notes"]] == [(None, True)]
    assert "张" in told["notes"][0]["text"], "in the language of the request"
    drawing = Progress(1, 16, "drawing samples", 1.0)
    store.add_event(claim, as_data(drawing))
    progress = client.get(f"/jobs/{job}", headers={"Accept-Language": "zh"}).json()["progress"]
    assert (progress["done"], progress["loss"]) == (1000, 0.0005)
    assert progress["aside"] == {"done": 1, "total": 16, "what": "正在生成样图"}
    assert told["losses"][-1] == [1000, 0.0005] and 300 <= len(told["losses"]) <= 400
    assert told["samples"] == [{"step": 0, "url": f"/jobs/{job}/samples/0"}]
    assert client.get(told["samples"][0]["url"]).content == png()
    assert client.get(f"/jobs/{job}/samples/1").status_code == 404

    async def follow():
        hub = EventHub(store, asyncio.Event())
        async for part in stream_all(hub, store, LOCAL, streams.marks_of(store, LOCAL)):
            if b"retry" in part:
                learn(claim, store, [1001, 1002])
                store.add_preview(claim, png(), "image/jpeg", 1002)
                store.add_event(claim, as_data(note("report: {path}", path="gan.html")))
            elif b"event: learning" in part:
                return json.loads(part.partition(b"data: ")[2])

    more = asyncio.run(asyncio.wait_for(follow(), 5))
    assert more["last"] == told["last"] + 5 and [step for step, _ in more["losses"]] == [1001, 1002]
    assert more["notes"] == [{"step": 1002, "text": "the report of the training is among its files: gan.html"}]
    assert more["samples"] == [{"step": 1002, "url": f"/jobs/{job}/samples/1002"}]
    store.cancel(job)
    store.stop(claim, 1.0)
    assert client.get(f"/jobs/{job}/samples/1002").status_code == 200, "also after its end"
    store.delete(job)
    assert store.files.samples(job) == []


def test_what_a_new_training_told_before_the_stream_saw_it_is_told(store):
    async def follow():
        async for part in stream_all(EventHub(store, asyncio.Event()), store, LOCAL, {}):
            if b"retry" in part:
                store.submit(LOCAL, "train_gan", {"demo": True})
                store.add_preview(store.claim("w"), png(), "image/jpeg", 0)
            elif b"event: learning" in part:
                return json.loads(part.partition(b"data: ")[2])

    assert [sample["step"] for sample in asyncio.run(asyncio.wait_for(follow(), 5))["samples"]] == [0]


def test_a_long_training_keeps_some_samples_of_all_its_time(store):
    for step in range(0, 5000, 10):
        store.files.write_sample("a" * 32, step, b"x")
    steps = store.files.samples("a" * 32)
    assert len(steps) == MAX_SAMPLES and steps[0] == 0 and steps[-1] == 4990
    assert max(later - earlier for earlier, later in itertools.pairwise(steps)) <= 2 * 5000 / MAX_SAMPLES


@pytest.mark.parametrize(("language", "word"), [("en", "the job is waiting;"), ("zh", "任务的状态为 等待中；")])
def test_the_state_of_a_job_is_told_in_the_reader_s_language(client, language, word):
    job = submit(client)
    answer = client.post(f"/jobs/{job}/retry", headers={"Accept-Language": language})
    assert answer.status_code == 409 and word in answer.json()["detail"]
