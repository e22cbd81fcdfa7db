"""Bad input over HTTP: an answer of 4xx with `{error, detail, option}`, never a traceback."""

import json
import logging
from dataclasses import replace

import pytest

from calotype.api.errors import CODES
from calotype.tasks import TASKS
from tests.api.conftest import png, submit, upload, working
from tests.tasks.test_guard import FILES, NEEDED, ODD, OUTSIDE

JSON = {"Content-Type": "application/json"}


def check(answer, *statuses):
    """The form of every error."""
    assert answer.status_code in (statuses or range(400, 500)), (answer.status_code, answer.text[:500])
    error = answer.json()
    assert error.keys() == {"error", "detail", "option"}
    assert error["error"] == CODES[answer.status_code]
    assert error["detail"]
    assert len(error["detail"]) < 1000
    assert "Traceback" not in answer.text
    return error


@pytest.mark.parametrize(
    "content, status",
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"kind": NaN}', 400),
        (b'{"kind": -Infinity}', 400),
        (b"[" * 100_000, 400),
        (b'{"a": [' + b"[]," * 150_000 + b"[]]}", 413),
        (b'{"a":' * 40 + b"1" + b"}" * 40, 400),
        (b'{"kind": ' + b"9" * 5000 + b"}", 400),
        (b"[]", 422),
        (b'"x"', 422),
        (b"null", 422),
        (b"{}", 422),
    ],
)
def test_bodies_that_are_no_request(client, content, status):
    check(client.post("/jobs", content=content, headers=JSON), status)


@pytest.mark.parametrize(
    "body, option",
    [
        ({"kind": "imagin"}, "kind"),
        ({"kind": 1}, "kind"),
        ({"kind": None}, "kind"),
        ({"kind": "imagine", "task": []}, "task"),
        ({"kind": "imagine", "task": {"steps": 0}}, "steps"),
        ({"kind": "imagine", "task": {"steps": "x"}}, "steps"),
        ({"kind": "imagine", "task": {"model": "nobody"}}, "model"),
        ({"kind": "imagine", "task": {"prompt": "<lora:nobody:1>"}}, "prompt"),
        ({"kind": "imagine", "task": {"init": "/etc/passwd"}}, "init"),
        ({"kind": "imagine", "task": {"size": "16384x16384"}}, "size"),
        ({"kind": "imagine", "task": {}, "priority": 11}, "priority"),
        ({"kind": "imagine", "task": {}, "priority": True}, "priority"),
        ({"kind": "imagine", "task": {}, "priority": 1.5}, "priority"),
        ({"kind": "imagine", "task": {}, "parent": "../x"}, "parent"),
        ({"kind": "imagine", "files": []}, "files"),
        ({"kind": "imagine", "files": {"init": "/etc/passwd"}}, "init"),
        ({"kind": "imagine", "files": {"prompt": "0" * 64}}, "prompt"),
        ({"kind": "merge_lora", "task": {"loras": ["x"], "out": "/etc/x"}}, "out"),
        ({"kind": "merge_lora", "task": {"loras": ["x"]}, "files": {"out": "0" * 64}}, "out"),
        ({"kind": "train_gan", "files": {"output_dir": "0" * 64}}, "output_dir"),
        ({"kind": "train_gan", "files": {"photos": []}}, "photos"),
        ({"kind": "caption", "files": {"photos": "0" * 64, "tagger": "0" * 64}}, "tagger"),
    ],
)
def test_errors_name_the_option(client, body, option):
    assert check(client.post("/jobs", json=body), 422)["option"] == option


@pytest.mark.parametrize("image", ["data:,", "data:image/png;base64,aGVsbG8="])
def test_no_answer_has_a_path_of_this_machine(client, image):
    error = check(client.post("/sdapi/v1/png-info", json={"image": image}), 422)
    assert "/" not in error["detail"], error


@pytest.mark.parametrize("charset", ["undefined", "idna", "no-such"])
def test_a_form_in_a_charset_that_is_none_is_refused(client, charset):
    content = b"--x\r\nContent-Disposition: form-data; name=a\xff\r\n\r\nb\r\n--x--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    assert client.post("/v1/images/edits", content=content, headers=headers).status_code == 400


def test_unknown_options_are_named_with_the_nearest_one(client):
    error = check(client.post("/jobs", json={"kind": "imagine", "task": {"promt": "x"}}), 422)
    assert error["detail"] == "there is no option promt, did you mean prompt?"
    error = check(client.post("/jobs", json={"kind": "imagine", "tasks": {}}), 422)
    assert error["detail"] == "there is no option tasks, did you mean task?"


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("kind", ["imagine", "restore", "train_lora", "merge_lora"])
def test_whatever_is_in_an_option_is_a_job_or_a_sentence(client, store, kind):
    """The texts and values of the guard's own tests, through HTTP."""
    photo = upload(client)
    files = {name: [photo] if name == "photos" else photo for name in FILES[kind] if name != "out"}
    options = client.get(f"/tasks/{kind}").json()["options"]["properties"]
    values = [value for value in (*OUTSIDE, *ODD) if is_json(value)]
    for n, name in enumerate(options):
        for value in (values[n % len(values)], [None, {"a": 1}][n % 2]):
            body = {"kind": kind, "task": NEEDED.get(kind, {}) | {name: value}, "files": files}
            answer = client.post("/jobs", content=json.dumps(body), headers=JSON)
            if answer.status_code != 201:
                check(answer)
    assert not list(store.folder.parent.rglob("passwd"))


def is_json(value):
    try:
        return len(json.dumps(value, allow_nan=False)) < 1 << 20
    except (TypeError, ValueError):
        return False


@pytest.mark.parametrize(
    "method, address, status",
    [
        ("GET", "/nothing", 404),
        ("GET", "/jobs/", 404),
        ("GET", "/jobs/x", 422),
        ("GET", "/jobs/..%2f..%2fetc%2fpasswd", 404),
        ("GET", f"/jobs/{'0' * 32}", 404),
        ("GET", f"/jobs/{'A' * 32}", 422),
        ("GET", f"/uploads/{'0' * 64}", 404),
        ("GET", "/uploads/..%2f..%2fjobs.sqlite3", 404),
        ("GET", "/s/../jobs.sqlite3", 404),
        ("PUT", "/jobs", 405),
        ("TRACE", "/jobs", 405),
        ("GET", "/jobs?limit=0", 422),
        ("GET", "/jobs?limit=x", 422),
        ("GET", "/jobs?state=lost", 422),
        ("GET", "/jobs?after=%00", 422),
        ("GET", "/tasks/paint", 404),
        ("GET", "/presets/%ed%a0%80", 404),
        ("GET", "/docs", 404),
    ],
)
def test_addresses_without_an_object(client, method, address, status):
    check(client.request(method, address), status)


@pytest.mark.parametrize("kind", TASKS)
def test_a_preset_is_checked_like_a_job(client, kind):
    assert check(client.put("/presets/a", json={"kind": kind, "task": {"photo": "/etc/passwd"}}), 422)
    assert check(client.put("/presets/a", json={"kind": kind, "files": {}}), 422)
    assert client.get("/presets").json() == []


def test_presets_are_kept_under_any_name(client):
    for name in ("soft portraits", "狐 🦊", "50%", "a.b"):
        assert client.put(f"/presets/{name}", json={"kind": "restore", "task": {"scale": 3}}).status_code == 200
        assert client.get(f"/presets/{name}").json() == {"name": name, "kind": "restore", "task": {"scale": 3}}
    assert len(client.get("/presets").json()) == 4
    assert client.delete("/presets/a.b").status_code == 204
    check(client.delete("/presets/a.b"), 404)


def test_a_bug_is_logged_and_not_shown(client, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr("calotype.api.service.Service.spent", broken)
    with caplog.at_level(logging.ERROR, "calotype.api"):
        answer = client.get("/me")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["error"] == "internal_error"
    assert "secret" in caplog.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_log_has_neither_prompts_nor_tokens(client, caplog):
    with caplog.at_level(logging.INFO, "calotype.api.access"):
        job = submit(client, task={"prompt": "grandma's secret"})
        client.get(f"/jobs/{job}?x=secret", headers={"Authorization": "Bearer secret"})
    lines = [json.loads(record.message) for record in caplog.records if record.name == "calotype.api.access"]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", "/jobs", 201),
        ("GET", "/jobs/{job_id}", 200),
    ]
    assert "secret" not in caplog.text


@pytest.mark.parametrize("address", ["/jobs", "/sdapi/v1/txt2img", "/v1/images/generations"])
def test_prompts_are_logged_on_request_whatever_the_api(client, store, caplog, address):
    service = client.app.state.service
    service.service = replace(service.service, log_prompts=True)
    body = (
        {"kind": "imagine", "task": {"prompt": "grandma's secret"}}
        if address == "/jobs"
        else {"prompt": "grandma's secret"}
    )
    with caplog.at_level(logging.INFO, "calotype.api"), working(store, png()):
        client.post(address, json=body)
    assert "grandma's secret" in caplog.text


def test_figures_count_requests_by_route_and_jobs_by_state(client):
    submit(client)
    client.get("/jobs/x")
    text = client.get("/metrics").text
    assert 'calotype_jobs{state="queued"} 1.0' in text
    assert 'calotype_requests_total{method="POST",route="/jobs",status="201"}' in text
    assert 'route="/jobs/x"' not in text


@pytest.mark.parametrize(
    "accepted, detail",
    [
        ({"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}, "没有任务类型 imagin（您是否想用 imagine？）"),
        ({"Accept-Language": "en,zh;q=0.5"}, "there is no task imagin, did you mean imagine?"),
        ({}, "there is no task imagin, did you mean imagine?"),
    ],
)
def test_errors_are_in_the_language_that_the_request_prefers(client, accepted, detail):
    assert check(client.post("/jobs", json={"kind": "imagin"}, headers=accepted), 422)["detail"] == detail
    named = client.get("/tasks/restore", headers=accepted).json()
    title = named["options"]["properties"]["strip_location"]["title"]
    assert title == ("去除位置" if "没有" in detail else "Strip location")
    asked = {"prompt": "x", "output_format": "gif"}
    error = client.post("/v1/images/generations", json=asked, headers=accepted).json()["error"]
    assert error["param"] == "output_format" and ("应为" in error["message"]) == ("没有" in detail)
