"""OpenAI's images API, by its client over a real connection: with a real worker and a small model, and without."""

import base64
import io
import threading
import time

import pytest
from PIL import Image

from calotype.api.service import Service
from calotype.api.settings import ServiceSettings
from calotype.jobs.account import Allowance
from calotype.jobs.store import JobStore
from tests.api.conftest import drawing, listening, png, work, working

SMALL = {"model": "small", "size": "64x64"}


@pytest.fixture(scope="module")
def server(shared_app, tmp_path_factory, small_settings):
    """The address of a service, its store, and a real worker."""
    store = JobStore("", tmp_path_factory.mktemp("service"))
    service = Service(store, small_settings, ServiceSettings())
    with listening(shared_app) as address, drawing(store, small_settings, preview_every=0.001):
        yield address, store, service
    store.close()


@pytest.fixture
def openai(server, shared_app):
    """OpenAI's client of a service with a real worker."""
    package = pytest.importorskip("openai", reason="the package openai is not installed")
    address, store, shared_app.state.service = server
    client = package.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0)
    client.store, client.address = store, address
    return client


def opened(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


def picture(mode="RGB", color=(10, 200, 30), size=(64, 64)):
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, "PNG")
    return file.getvalue()


def mask():
    """Transparent in the left half, which is redrawn."""
    file, found = io.BytesIO(), Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    found.paste((0, 0, 0, 0), (0, 0, 32, 64))
    found.save(file, "PNG")
    return file.getvalue()


def generate(openai, **more):
    extra = {"seed": 5, "steps": 2} | more.pop("extra_body", {})
    return openai.images.generate(**{"prompt": "fox", **SMALL} | more, extra_body=extra)


@pytest.mark.slow
def test_pictures_are_generated(openai):
    answer = generate(openai, n=2, user="ann", quality="high")
    assert [opened(picture.b64_json).size for picture in answer.data] == [(64, 64)] * 2
    assert answer.data[0].b64_json != answer.data[1].b64_json
    assert (answer.size, answer.quality, answer.output_format, answer.background) == ("64x64", "high", "png", "opaque")
    assert answer.usage.total_tokens == 0 and answer.usage.device_seconds > 0 and answer.safety_identifier == "ann"
    [job] = openai.store.find(limit=1)
    assert abs(answer.created - job.finished) <= 1
    expected = {"prompt": "fox", "model": "small", "size": "64x64", "count": 2, "seed": 5, "steps": 2}
    assert job.task == expected
    assert [result.facts["seed"] for result in job.results] == [5, 6]
    assert opened(generate(openai).data[0].b64_json).tobytes() == opened(answer.data[0].b64_json).tobytes()


@pytest.mark.slow
def test_addresses_lead_to_the_files(openai):
    import httpx

    answer = generate(openai, response_format="url", output_format="jpeg", output_compression=40)
    assert answer.output_format == "jpeg" and answer.data[0].b64_json is None
    file = httpx.get(answer.data[0].url)
    assert (file.status_code, file.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(file.content)).format == "JPEG"
    [job] = openai.store.find(limit=1)
    assert job.output == {"format": "jpeg", "quality": 40}


def test_quality_is_steps_unless_they_are_given(openai):
    for given, steps in (({"quality": "low"}, 10), ({"quality": "standard"}, None), ({"style": "vivid"}, None)):
        with openai.images.with_streaming_response.generate(prompt="fox", model="dall-e-3", stream=True, **given):
            [job] = openai.store.find(limit=1)
            openai.store.cancel(job.id)
        assert (job.task.get("steps"), job.task.get("model")) == (steps, None)


def test_partial_pictures_are_streamed(openai):
    events = list(generate(openai, stream=True, partial_images=2, extra_body={"steps": 40}))
    *partial, completed = events
    assert [event.type for event in partial] == ["image_generation.partial_image"] * len(partial)
    assert 1 <= len(partial) <= 2 and [event.partial_image_index for event in partial] == list(range(len(partial)))
    assert (
        {opened(event.b64_json).format for event in partial} == {"JPEG"} == {e.output_format.upper() for e in partial}
    )
    assert completed.type == "image_generation.completed" and completed.usage.total_tokens == 0
    assert (opened(completed.b64_json).format, completed.size, completed.quality) == ("PNG", "64x64", "medium")
    [job] = openai.store.find(limit=1)
    assert base64.b64decode(completed.b64_json) == openai.store.files.result(job.results[0].id).read_bytes()


def test_transparent_parts_of_the_mask_are_redrawn(openai):
    source = picture()
    answer = openai.images.edit(
        image=[("photo.png", source)], mask=("mask.png", mask()), prompt="fox", n=1, **SMALL, extra_body={"steps": 2}
    )
    changed = opened(answer.data[0].b64_json).convert("RGB")
    assert changed.getpixel((60, 32)) == (10, 200, 30) != changed.getpixel((8, 32))
    [job] = openai.store.find(limit=1)
    assert job.files.keys() == {"init", "mask"} and job.task["invert_mask"] is True
    assert openai.store.files.upload(job.files["init"].partition("/")[0]).read_bytes() == source


def test_a_picture_without_a_mask_is_drawn_over(openai):
    events = list(
        openai.images.edit(
            image=picture(), prompt="fox", input_fidelity="high", stream=True, **SMALL, extra_body={"steps": 4}
        )
    )
    assert events[-1].type == "image_edit.completed"
    assert opened(events[-1].b64_json).size == (64, 64)
    [job] = openai.store.find(limit=1)
    assert (job.task["strength"], "mask" in job.files) == (0.5, False)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_variations_start_from_the_picture(openai):
    answer = openai.images.create_variation(image=picture(), n=2, **SMALL, extra_body={"steps": 2, "strength": 0.3})
    assert len(answer.data) == 2
    [job] = openai.store.find(limit=1)
    assert (job.task["count"], job.task["strength"], job.task.get("prompt")) == (2, 0.3, None)


def test_models_are_listed(openai):
    import openai as package

    names = [model.id for model in openai.models.list()]
    assert names == sorted(names) and {"small", "emoji"} <= set(names)
    assert openai.models.retrieve("small").object == "model"
    with pytest.raises(package.NotFoundError) as error:
        openai.models.retrieve("nobody")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_a_picture_that_fails_in_the_worker_is_named(openai):
    import openai as package

    for stream in (False, True):
        with pytest.raises(package.APIError) as error:
            list(openai.images.edit(image=b"no picture", prompt="fox", stream=stream, **SMALL))
        assert "not a picture" in error.value.message and "/" not in error.value.message
        assert error.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"complexity": "high"}, "complexity"),
        ({"frame_count": 4}, "frame_count"),
        ({"svg": {"model": "x"}}, "svg"),
        ({"output_format": "gif"}, "output_format"),
        ({"background": "transparent"}, "background"),
        ({"style": "natural"}, "style"),
        ({"n": 11}, "n"),
        ({"n": 0}, "n"),
        ({"n": "x"}, "n"),
        ({"n": True}, "n"),
        ({"size": "100000x100000"}, "size"),
        ({"size": "big"}, "size"),
        ({"quality": "best"}, "quality"),
        ({"partial_images": 2}, "partial_images"),
        ({"partial_images": 4, "stream": True}, "partial_images"),
        ({"output_compression": 50}, "output_compression"),
        ({"response_format": "url", "stream": True}, "response_format"),
        ({"model": "/etc/passwd"}, "model"),
        ({"model": "nobody"}, "model"),
        ({"steps": 100_000}, "steps"),
        ({"grid": True}, "grid"),
        ({"x": "steps=1,2"}, "x"),
        ({"promt": "fox"}, "promt"),
        ({"prompt": ["fox"]}, "prompt"),
        ({"prompt": "<lora:nobody:1>"}, "prompt"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(client, fields, param):
    answer = client.post("/v1/images/generations", json={"prompt": "fox"} | fields)
    check(answer, 400, param)
    assert client.get("/jobs").json()["jobs"] == []


def check(answer, status, param, code=None):
    """OpenAI's form of an error."""
    assert (answer.status_code, answer.json().keys()) == (status, {"error"}), answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and error["message"]
    assert error["param"] == param, error
    assert code in (None, error["code"])


def post_form(client, address, texts=None, files=None):
    return client.post(f"/v1/images/{address}", data=texts or {}, files=files or [])


@pytest.mark.parametrize(
    "texts, files, status, param",
    [
        ({"prompt": "fox"}, [("mask", mask())], 400, "image"),
        ({}, [("image", png())], 400, None),
        ({"prompt": "fox"}, [("image", png()), ("image[]", png())], 400, "image"),
        ({"prompt": "fox"}, [("image", png()), ("markup", png())], 400, "markup"),
        ({"prompt": "fox", "image": "https://evil.example/x.png"}, [("mask", mask())], 400, "image"),
        ({"prompt": "fox", "svg[model]": "x"}, [("image", png())], 400, "svg[model]"),
        ({"prompt": "fox", "n": "many"}, [("image", png())], 400, "n"),
        ({"prompt": "fox", "stream": "perhaps"}, [("image", png())], 400, "stream"),
        ({"prompt": ["fox", "cat"]}, [("image", png())], 400, "prompt"),
        ({"prompt": "fox", "mask": "x"}, [("image", png())], 400, "mask"),
    ],
)
def test_forms_that_are_no_request(client, texts, files, status, param):
    check(post_form(client, "edits", texts, files), status, param)
    assert client.get("/jobs").json()["jobs"] == []


def test_variations_have_no_prompt_of_edits(client):
    image = [("image", png())]
    check(post_form(client, "variations", {"stream": "true"}, image), 400, "stream")
    check(post_form(client, "variations", {}, [*image, ("mask", mask())]), 400, "mask")


@pytest.mark.parametrize(
    "content_type, content, status",
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=b", b"x", 400),
        ("multipart/form-data; boundary=b", b"", 400),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", 400),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"x" * 100_000, 400),
    ],
)
def test_bodies_that_are_no_form(client, content_type, content, status):
    answer = client.post("/v1/images/edits", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == status and "error" in answer.json(), answer.text


def test_errors_below_v1_have_openais_form(client):
    check(client.post("/v1/chat/completions", json={}), 404, None, "not_found")
    check(client.get("/v1/images/generations"), 405, None)
    check(client.get("/v1/models", headers={"Host": "evil.example"}), 421, None)
    check(client.get("/v1/models", headers={"Origin": "https://evil.example"}), 403, None)
    json_type = {"Content-Type": "application/json"}
    check(client.post("/v1/images/generations", content=b"{", headers=json_type), 400, None)
    check(client.post("/v1/images/generations", json={}), 400, None)
    stopping = client.app.state.service.stopping
    stopping.set()
    check(client.post("/v1/images/generations", json={"prompt": "fox"}), 503, None)
    stopping.clear()


def test_tokens_and_budgets_are_those_of_accounts(client_for, store):
    ann, bob = client_for("ann", allowance=Allowance(seconds=10)), client_for("bob")
    check(ann.get("/v1/models", headers={"Authorization": "Bearer sk-wrong"}), 401, None, "invalid_api_key")
    with working(store, png()):
        url = ann.post("/v1/images/generations", json={"prompt": "fox", "response_format": "url"}).json()["data"][0][
            "url"
        ]
        assert ann.get(url).content == png()
        assert bob.get(url).status_code == 404
    ann.post("/jobs", json={"kind": "imagine"})
    work(store, seconds=10)
    answer = ann.post("/v1/images/generations", json={"prompt": "fox"})
    check(answer, 429, None, "rate_limit_exceeded")
    assert answer.headers["x-should-retry"] == "false"


def test_the_same_key_is_one_job(client, store):
    with working(store, png()):
        sent = [
            client.post("/v1/images/generations", json={"prompt": p}, headers={"Idempotency-Key": "k"})
            for p in ("fox", "fox", "cat")
        ]
    assert [answer.status_code for answer in sent] == [200, 200, 409]
    assert sent[0].json() == sent[1].json() and len(store.find()) == 1


def test_a_cancelled_job_is_not_sent_again_by_the_client(openai):
    import openai as package

    patient = openai.with_options(max_retries=2)
    thread = threading.Thread(target=cancel_next, args=(openai.store,))
    thread.start()
    with pytest.raises(package.ConflictError, match="was cancelled"):
        generate(patient, extra_body={"steps": 500, "user": "cancelled"})
    thread.join()
    assert sum(job.task.get("steps") == 500 for job in openai.store.find()) == 1


def cancel_next(store):
    while not (jobs := store.find(states=("queued", "running"))):
        time.sleep(0.01)
    store.cancel(jobs[0].id)
