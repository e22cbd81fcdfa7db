"""A worker stores what happens to a job: its events, results, errors, and the wishes of its owner."""

import contextlib
import errno
import hashlib
import io
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

import numpy as np
from PIL import Image

from calotype import runner
from calotype.api.shown import event_data, job_view
from calotype.checkpoints import open_network
from calotype.engine import Engine
from calotype.errors import CalotypeError, Message, PictureError
from calotype.jobs.jobs import LeaseLost
from calotype.ops.colorize import grey_values
from calotype.ops.scan import ScannedPhoto
from calotype.tasks import Upscale
from calotype.tasks.events import Failed, Finished, Note, Preview, Progress, Saved, Started
from calotype.tasks.output import Album
from calotype.worker.attempt import safe_name
from calotype.worker.upkeep import Schedule
from calotype.worker.worker import Worker
from calotype.worker.worker_options import WorkerOptions
from tests.scans import LIDS, Drawn, drawn_scan

OPTIONS = WorkerOptions(min_free=0.0, poll=0.05, progress_every=0.0, lease=2.0)
MODEL = "realesr-animevideov3"


@pytest.fixture
def worker(store, settings):
    return Worker(store, Engine(settings), OPTIONS, "w")


def photo(seed=0):
    file = io.BytesIO()
    Image.radial_gradient("L").rotate(seed).resize((24, 20)).convert("RGB").save(file, "PNG")
    return file.getvalue()


def submit(store, kind="upscale", **options):
    upload = store.upload("ann", io.BytesIO(photo()))
    return store.submit("ann", kind, options or {"model": MODEL}, files={"source": f"{upload.id}/gran.png"})


def uploaded(store, pixels, name):
    """A picture as the job's file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return f"{store.upload('ann', file).id}/{name}"


def kinds(store, job):
    return [event.data["event"] for event in store.events(job.id)]


def error_of(job):
    return str(CalotypeError.from_data(job.error))


def test_a_job_gives_every_photo_of_a_scan(store, worker):
    places = [ScannedPhoto((200, 220), (250, 250), 6), ScannedPhoto((420, 560), (200, 220), -3)]
    scan = drawn_scan((750, 560), LIDS["blue"], [Drawn(place, n) for n, place in enumerate(places)])
    job = store.submit("ann", "split", {}, files={"source": uploaded(store, scan, "album page.png")})
    assert worker.run_next()
    job = store.get(job.id)
    assert (job.state, [r.name for r in job.results]) == ("done", ["album page-01.png", "album page-02.png"])
    assert [result.facts["photo"] for result in job.results] == [1, 2]
    first, second = (Image.open(store.files.sample(job.id, number)) for number in (1, 2))
    assert first.size == pytest.approx((250, 250), abs=3) and second.size == pytest.approx((220, 200), abs=3)
    blank = drawn_scan((750, 560), LIDS["blue"], [])
    job = store.submit("ann", "split", {}, files={"source": uploaded(store, blank, "blank.png")})
    assert worker.run_next()
    job = store.get(job.id)
    assert job.state == "failed" and "there is no photo on blank.png" in error_of(job)


def test_the_plan_of_a_scan_is_a_picture_with_the_outlines_of_its_photos(store, worker):
    place = ScannedPhoto((200, 220), (250, 250), 0)
    scan = drawn_scan((750, 560), LIDS["white"], [Drawn(place, 0)])
    job = store.submit("ann", "split", {"dry_run": True}, files={"source": uploaded(store, scan, "page.png")})
    assert worker.run_next()
    job = store.get(job.id)
    assert (job.state, job.results) == ("done", ())
    plan = np.asarray(Image.open(store.files.preview(job.id))).astype(int)
    changed = np.abs(plan - scan).max(2) > 60
    left, top = place.corners.min(0).round().astype(int)
    assert changed[top + 20 : top + 60, left - 1 : left + 2].any(1).all()  # its left side
    assert changed[215:225, 190:210].any() and not changed[500:700].any()  # its number; the lid below
    said = [event.data for event in store.events(job.id) if event.data["event"] == "said"]
    assert len(said) == 2


def test_what_a_job_invents_is_a_picture_beside_its_result(store, worker, portrait):
    old = np.asarray(Image.fromarray(portrait).resize((128, 128)).resize((256, 256), Image.Resampling.BILINEAR))
    task = {"upscaler": "none", "scale": 1.0, "has_uncertainty": True}
    job = store.submit("ann", "restore", task, files={"source": uploaded(store, old, "old.png")})
    assert worker.run_next()
    result, beside = store.get(job.id).results
    assert (result.name, beside.name, beside.facts) == ("old.png", "old-uncertainty.png", {"beside": "uncertainty"})
    assert "uncertainty" not in result.facts
    pixels = np.asarray(Image.open(store.files.result(beside.id))).astype(int)
    assert pixels.shape == (256, 256, 3) and (pixels.max(2) - pixels.min(2)).max() > 25


def test_what_a_job_says_of_a_picture_is_among_the_facts_of_its_result(store, worker):
    faded = np.random.default_rng(0).integers(90, 160, (160, 200, 3)).astype(np.uint8)
    task = {"upscaler": "none", "scale": 1.0, "faces": "none", "repair": "fading"}
    job = store.submit("ann", "restore", task, files={"source": uploaded(store, faded, "old.png")})
    assert worker.run_next()
    [result] = job_view(store.get(job.id)).results
    said = [event_data(event.data)["text"] for event in store.events(job.id) if event.data["event"] == "said"]
    assert result.facts["notes"] == said and any(note.startswith("black ") for note in said)
    fading = next(measure for measure in result.facts["measures"] if measure["name"] == "fading")
    assert fading["decision"] == said[0] and fading["is_beyond"] and fading["value"] >= 90 and fading["threshold"] > 0


def test_what_is_said_is_told_of_the_first_result_of_its_picture_alone_and_without_paths(store, worker, runs):
    def album(request, output):
        a, b = (str(Path(output.out) / name) for name in ("a.png", "b.png"))
        yield Note(Message("2 photos were found by {path}", path="/srv/models/x.safetensors"), a)
        yield Note(Message("about b"), b)  # the next picture is read while this one is written
        yield Note(Message("a traceback"))
        yield Note(Message("how long it takes"), a, topic="time")
        for name in ("a.png", "a.png", "b.png"):
            yield from written(output, name)

    runs(album)
    job = submit(store)
    assert worker.run_next()
    notes = [result.facts.get("notes") for result in job_view(store.get(job.id)).results]
    assert notes == [["2 photos were found by x.safetensors"], None, ["about b"]]


def test_the_mask_of_what_a_job_repairs_is_a_picture_beside_its_result(store, worker):
    old = np.tile(np.linspace(60, 120, 240).astype(np.uint8), (160, 1))
    damage = np.zeros_like(old)
    damage[70:74, 30:200] = 255
    old[damage > 0] = 250
    files = {"source": uploaded(store, old, "old.png"), "mask": uploaded(store, damage, "by-hand.png")}
    task = {"upscaler": "none", "face_model": "none", "scale": 1.0, "has_mask": True}
    job = store.submit("ann", "restore", task, files=files)
    assert worker.run_next()
    result, beside = store.get(job.id).results
    assert (result.name, beside.name, beside.facts) == ("old.png", "old-mask.png", {"beside": "mask"})
    assert "mask" not in result.facts
    np.testing.assert_array_equal(np.asarray(Image.open(store.files.result(beside.id)).convert("L")), damage)
    store.submit("ann", "restore", task | {"has_mask": False}, files=files)
    assert worker.run_next()
    assert [result.name for job in store.find(kinds=("restore",)) for result in job.results].count("old-mask.png") == 1


def test_a_job_colours_by_an_uploaded_layer(store, worker):
    grey, layer = np.tile(np.arange(40, 200, 4, dtype=np.uint8), (30, 1)), np.zeros((30, 40, 4), np.uint8)
    layer[10:20, 10:30] = (200, 60, 40, 255)
    files = {"source": uploaded(store, grey, "grey.png"), "hints": uploaded(store, layer, "strokes.png")}
    job = store.submit("ann", "colour", {}, files=files)
    assert worker.run_next()
    job = store.get(job.id)
    assert (job.state, [r.name for r in job.results]) == ("done", ["grey.png"])
    pixels = np.asarray(Image.open(store.files.result(job.results[0].id)))
    np.testing.assert_array_equal(grey_values(pixels), grey)
    assert pixels[15, 20, 0] > pixels[15, 20, 2] + 50


def test_a_job_gives_the_file_that_the_command_line_gives(store, worker, settings, tmp_path):
    job = submit(store)
    assert worker.run_next() and not worker.run_next()
    job = store.get(job.id)
    assert (job.state, [(r.name, r.media_type) for r in job.results]) == ("done", [("gran.png", "image/png")])
    source = tmp_path / "gran.png"
    source.write_bytes(photo())
    task = Upscale(source=source, model=MODEL)
    list(runner.run(runner.Request((task,)), worker.engine, Album(out=tmp_path / "out")))
    content = store.files.result(job.results[0].id).read_bytes()
    assert content == (tmp_path / "out" / "gran.png").read_bytes()
    assert job.results[0].sha256 == hashlib.sha256(content).hexdigest() and job.results[0].facts["width"] == 96
    assert kinds(store, job)[:3] == ["state", "state", "begin"] and kinds(store, job)[-1] == "state"
    assert "progress" in kinds(store, job) and job.progress["done"] == job.progress["total"]
    assert str(tmp_path) not in str(store.events(job.id)) and not store.files.work(job.id).exists()
    assert MODEL in worker.engine.models.loaded and job.cost > 0


@pytest.mark.parametrize("kind, options, words", [
    ("upscale", {"model": "nonsense"}, "no model is named nonsense"),
    ("upscale", {"nonsense": 1}, "nonsense"),
    ("colorize", {}, "knows no task colorize"),
])  # fmt: skip
def test_a_job_that_cannot_be_done_fails_with_a_sentence(store, worker, kind, options, words):
    job = submit(store, kind, **options)
    worker.run_next()
    assert store.get(job.id).state == "failed" and words in error_of(store.get(job.id))


def test_a_file_that_is_no_picture_fails_its_job_by_its_own_name(store, worker, tmp_path):
    upload = store.upload("ann", io.BytesIO(b"GIF89a no picture"))
    job = store.submit("ann", "upscale", {"model": MODEL}, files={"source": f"{upload.id}/../../odd.png"})
    worker.run_next()
    text = error_of(store.get(job.id))
    assert store.get(job.id).state == "failed" and "odd.png" in text and str(tmp_path) not in text


def test_a_bug_fails_its_job_and_not_the_worker(store, worker, runs, caplog):
    def broken(request, output):
        yield Started(1, "out")
        raise ZeroDivisionError("secret detail")

    runs(broken)
    first, second = submit(store), submit(store)
    assert worker.run_next() and worker.run_next()
    assert "an error in Calotype itself: ZeroDivisionError" in error_of(store.get(first.id))
    assert store.get(second.id).state == "failed" and "in broken" in caplog.text


def test_a_job_without_memory_fails_with_advice(store, worker, runs):
    def large(request, output):
        yield Started(1, "out")
        raise MemoryError

    runs(large)
    job = submit(store)
    worker.run_next()
    assert "not enough memory" in error_of(store.get(job.id))


def test_the_only_picture_failing_fails_the_job_and_one_of_several_does_not(store, worker, runs):
    def album(request, output):
        yield Failed("a.png", PictureError("a.png is damaged"))
        if request.task.scale == 2:
            yield from written(output, "b.png")

    runs(album)
    alone, several = submit(store, scale=3), submit(store, scale=2)
    worker.run_next()
    worker.run_next()
    assert store.get(alone.id).state == "failed" and error_of(store.get(alone.id)) == "a.png is damaged"
    assert store.get(several.id).state == "done" and len(store.get(several.id).results) == 1


def written(output, name, content=b"png"):
    path = Path(output.out) / name
    path.write_bytes(content)
    yield Saved(str(path), str(path), {"seed": 3})


def endless(request, output):
    yield from written(output, "first.png")
    for step in range(10**6):
        time.sleep(0.005)
        yield Progress(step, 10**6, "steps")
        if step % 10 == 0:
            yield Preview("x", b"jpeg")


@pytest.mark.parametrize("wish, state, attempts, results", [
    ("cancel", "cancelled", 1, 1), ("pause", "paused", 0, 0), ("stop", "queued", 0, 0), ("lost", "running", 1, 0),
])  # fmt: skip
def test_a_running_job_stops_within_a_step(store, worker, runs, wish, state, attempts, results):
    runs(endless)
    job = submit(store)
    thread = in_thread(worker.run if wish == "stop" else worker.run_next)
    wait_for(lambda: store.get(job.id).preview)
    started = time.monotonic()
    if wish == "lost":
        store.worker_ended("w")
        assert store.claim("another").job.id == job.id
    elif wish == "stop":
        worker.stop()
    else:
        getattr(store, wish)(job.id, "ann")
    thread.join(5)
    assert not thread.is_alive() and time.monotonic() - started < 2
    job = store.get(job.id)
    assert (job.state, len(job.results)) == (state, results)
    assert job.attempts == (2 if wish == "lost" else attempts)
    assert (job.cost > 0) == (wish in ("cancel", "pause")), "who did not ask for the end is not charged"


@pytest.mark.slow
def test_a_long_step_keeps_its_lease(store, worker, runs):
    def slow(request, output):
        time.sleep(2.5)  # longer than the lease
        yield from written(output, "a.png")

    runs(slow)
    job = submit(store)
    thread = in_thread(worker.run_next)
    while thread.is_alive():
        assert store.sweep() == []
        time.sleep(0.2)
    assert store.get(job.id).state == "done" and store.get(job.id).attempts == 1


def test_a_full_disk_parks_the_job_until_there_is_room(store, worker, runs, monkeypatch):
    is_full = True

    def save(request, output):
        yield Progress(1, 2, "steps")
        if is_full:
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as fault:
                raise CalotypeError("{path} cannot be written: the disk is full", path="x") from fault
        yield from written(output, "a.png")

    runs(save)
    monkeypatch.setattr("calotype.worker.worker.RETRY_SECONDS", 0.01)
    job = submit(store)
    worker.run_next()
    assert (store.get(job.id).state, store.get(job.id).attempts) == ("queued", 0)
    monkeypatch.setattr(store.files, "free", lambda: -1)
    worker._schedule._due.clear()
    assert not worker.run_next() and store.get(job.id).state == "queued"
    worker._schedule._due.clear()
    worker.run_next()
    assert "wait until there is room" in str(Message.from_data(store.workers()[0].note))
    monkeypatch.undo()
    runs(save)
    is_full = False
    assert worker.run_next() and store.get(job.id).state == "done"


def test_results_are_stored_when_the_store_can_be_written_again(store, worker, runs, monkeypatch):
    runs(lambda request, output: written(output, "a.png"))
    job, finish, calls = submit(store), store.finish, []

    def fail_twice(*args):
        calls.append(1)
        if len(calls) < 3:
            raise CalotypeError("the store cannot be written: the disk is full")
        return finish(*args)

    monkeypatch.setattr(store, "finish", fail_twice)
    monkeypatch.setattr("calotype.worker.worker.RETRY_SECONDS", 0.01)
    worker.run_next()
    assert store.get(job.id).state == "done" and len(calls) == 3


def test_progress_is_stored_some_seconds_apart_and_at_its_end(store, settings, runs):
    def quick(request, output):
        yield from (Progress(step, 500, "steps") for step in range(501))
        yield Finished(1, 1, 0, (), 0.1, False)

    runs(quick)
    job = submit(store)
    Worker(store, Engine(settings), WorkerOptions(min_free=0, progress_every=60), "w").run_next()
    stored = [event.data["done"] for event in store.events(job.id) if event.data["event"] == "progress"]
    assert stored == [0, 500]


def test_a_parked_training_run_goes_on_at_its_step_and_gives_the_same_bytes(store, worker):
    from calotype.picture import video

    options = {"resolution": 32, "capacity": 0.125, "max_train_steps": 4, "train_batch_size": 2, "snapshots": 2}
    photos = [f"{store.upload('ann', io.BytesIO(photo(n))).id}/a.png" for n in range(8)]
    whole, parked = (store.submit("ann", "train_gan", options, files={"photos": photos}) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "RATE", 4)
        worker.run_next()
        steps, add_event = [], store.add_event

        def stop_at_two(claim, data):
            if data["event"] == "learning":
                steps.append(data["done"])
                if steps == [1, 2]:
                    worker.stop()
            return add_event(claim, data)

        patch.setattr(store, "add_event", stop_at_two)
        worker.run_next()
        assert store.get(parked.id).state == "queued", store.get(parked.id).error
        assert store.get(parked.id).cost > 0, "the training has saved where it stopped: that work is charged"
        worker._stopping.clear()
        worker.run_next()
    done = [store.get(job.id) for job in (whole, parked)]
    assert [job.state for job in done] == ["done", "done"], [job.error for job in done]
    assert steps in ([1, 2, 3, 4], [1, 2, 4])  # the step after the wish is done, and not stored
    one, two = ({r.name: r.sha256 for r in job.results if r.name.endswith(".safetensors")} for job in done)
    assert one == two and len(one) == 1


def test_a_training_that_was_killed_after_its_end_begins_anew(store, worker):
    options = {"resolution": 32, "capacity": 0.125, "max_train_steps": 2, "train_batch_size": 2, "snapshots": 2}
    photos = [f"{store.upload('ann', io.BytesIO(photo(n))).id}/a.png" for n in range(8)]
    job = store.submit("ann", "train_gan", options, files={"photos": photos})
    out = store.files.work(job.id) / "out"
    out.mkdir(parents=True)
    for name in ("gan.safetensors", "gan-best.safetensors"):  # written, and its state deleted; the store does not know
        (out / name).write_bytes(b"of the attempt that was killed")
    worker.run_next()
    done = store.get(job.id)
    assert done.state == "done", done.error
    assert "gan.safetensors" in {result.name for result in done.results}


@pytest.mark.parametrize("name, safe", [
    ("a photo é.jpg", "a photo é.jpg"), ("../../etc/passwd", "passwd"), ("C:\\x\\y.png", "y.png"), ("", "upload"),
    ("...", "upload"), (".hidden.png", "hidden.png"), ("a\x00b\n.png", "a_b_.png"), ("\ud800.png", "?.png"),
    ("x" * 300 + ".jpeg", "x" * 95 + ".jpeg"), ("/", "upload"), ("a/", "upload"),
])  # fmt: skip
def test_a_name_from_outside_does_no_harm(name, safe):
    assert safe_name(name) == safe


def test_models_are_dropped_on_request(store, worker, monkeypatch):
    check_unload(store, worker, monkeypatch)


def check_unload(store, worker, monkeypatch):
    """Before the next job, or by a worker that waits; then they are loaded again."""
    loaded, load = [], open_network.load
    monkeypatch.setattr(open_network, "load", lambda it, **more: (loaded.append(it.name), load(it, **more))[1])
    for count, is_asked in [(1, False), (1, False), (2, True), (2, False)]:
        submit(store)
        if is_asked:
            store.unload_models()
        assert worker.run_next() and loaded == [MODEL] * count
    assert worker.engine.models.loaded == {MODEL}
    store.unload_models()
    assert not worker.run_next() and worker.engine.models.loaded == {MODEL}, "it reports some seconds apart"
    worker._schedule = Schedule()
    assert not worker.run_next() and worker.engine.models.loaded == frozenset()
    submit(store)
    assert worker.run_next() and loaded == [MODEL] * 3
    assert {job.state for job in store.find()} == {"done"}


@pytest.mark.slow
@pytest.mark.parametrize("room, loads", [(1.0, 2), (0.001, 3)])
def test_jobs_for_the_loaded_model_go_first_and_no_job_waits_for_ever(store, settings, monkeypatch, room, loads):
    loaded, load = [], open_network.load
    monkeypatch.setattr(open_network, "load", lambda it, **more: (loaded.append(it.name), load(it, **more))[1])
    worker = Worker(store, Engine(replace(settings, memory=room)), replace(OPTIONS, trusted=True), "w")
    upload = store.upload("ann", io.BytesIO(photo()))
    for number in range(10):
        model = (MODEL, "photo-x2")[number % 2]
        options = {"files": {"source": f"{upload.id}/gran.png"}, "models": {model}}
        store.submit("ann", "upscale", {"model": model, "scale": 2}, **options)
    while worker.run_next():
        pass
    jobs = sorted(store.find(), key=lambda job: job.started)
    assert {job.state for job in jobs} == {"done"}
    order = "".join("a" if job.task["model"] == MODEL else "b" for job in jobs)
    assert len(loaded) == loads
    assert order == {2: "aaaabbbbab", 3: "aaaabbbbba"}[loads] and order[:5] == "aaaab"  # three overtake


def in_thread(function):
    def run():
        with contextlib.suppress(LeaseLost):
            function()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found
