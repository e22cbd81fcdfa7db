"""MCP's tools by its client: in memory, over HTTP with tokens, and from the command line."""

import base64
import io
import json
import sys

import anyio
import pytest
from PIL import Image

pytest.importorskip("mcp", reason="the package mcp is not installed")

import httpx2
import mcp
from mcp.client.streamable_http import streamable_http_client

from calotype.api.mcp import mcp_server
from calotype.api.service import Caller, Service
from calotype.api.settings import ServiceSettings
from calotype.jobs.account import LOCAL
from calotype.jobs.jobs import NewResult
from calotype.jobs.store import JobStore
from tests.api.conftest import drawing, listening, png, work, working

RESULT = "calotype://results/"


@pytest.fixture
def service(store, home):
    return Service(store, home, ServiceSettings())


def with_client(service, use, owner=LOCAL, **more):
    """What `use` returns, of a client in memory."""

    async def run():
        async with mcp.Client(mcp_server(service, Caller(owner)), **more) as client:
            return await use(client)

    return anyio.run(run)


def call(service, name, arguments, **more):
    return with_client(service, lambda client: client.call_tool(name, arguments), **more)


def refused(result, words, option=None):
    assert result.is_error and words in result.content[0].text, result
    assert option in (None, result.structured_content["option"])


def parts(result, kind):
    return [part for part in result.content if part.type == kind]


def test_every_tool_is_described(service):
    tools = {tool.name: tool for tool in with_client(service, lambda client: client.list_tools()).tools}
    assert tools.keys() == {
        *("text_to_image", "image_to_image", "restore_photo", "upscale", "list_models", "job_status")
    }
    for tool in tools.values():
        assert tool.description and tool.input_schema["additionalProperties"] is False
        assert set(tool.input_schema["required"]) <= tool.input_schema["properties"].keys()
        assert all(rules.get("description") for rules in tool.input_schema["properties"].values())
    assert tools["text_to_image"].input_schema["properties"]["count"]["maximum"] > 1
    assert tools["list_models"].annotations.read_only_hint and not tools["upscale"].annotations.read_only_hint


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_pictures_are_generated_by_a_real_worker(small_settings, tmp_path, mode):
    store, progress = JobStore("", tmp_path / "service"), []
    service = Service(store, small_settings, ServiceSettings())
    arguments = {"prompt": "fox", "model": "small", "size": "640x64", "seed": 3, "steps": 2}

    async def draw(client):
        async def report(done, total, what):
            progress.append((done, total))

        result = await client.call_tool("text_to_image", arguments, progress_callback=report)
        file = await client.read_resource(f"{RESULT}{result.structured_content['results'][0]['id']}")
        return result, file.contents[0]

    with drawing(store, small_settings):
        result, file = with_client(service, draw, mode=mode)
    [row], [preview], [link] = (
        result.structured_content["results"],
        parts(result, "image"),
        parts(result, "resource_link"),
    )
    assert (row["seed"], row["width"], row["height"], row["media_type"]) == (3, 640, 64, "image/png")
    assert json.loads(result.content[0].text) == result.structured_content
    small = Image.open(io.BytesIO(base64.b64decode(preview.data)))
    assert (small.format, small.width, preview.mime_type) == ("JPEG", 512, "image/jpeg")
    assert (link.uri, link.size) == (f"{RESULT}{row['id']}", row["size"])
    assert base64.b64decode(file.blob) == store.files.result(row["id"]).read_bytes()
    assert all(total for _, total in progress)
    store.close()


def test_a_result_is_the_picture_of_the_next_call(service, store):
    with working(store, png()):
        first = call(service, "text_to_image", {"prompt": "fox"}).structured_content["results"][0]["id"]
        images = (first, base64.b64encode(png()).decode(), service.store.upload(LOCAL, io.BytesIO(png())).id)
        tools = ("upscale", "source"), ("restore_photo", "source"), ("image_to_image", "init")
        for image, (name, option) in zip(images, tools, strict=True):
            more = {"prompt": "fox", "strength": 0.4} if name == "image_to_image" else {"scale": 3}
            result = call(service, name, {"image": image, **more})
            assert not result.is_error, result
            job = store.get(result.structured_content["job"])
            assert job.files.keys() == {option} and more.items() <= job.task.items()
            assert job.files[option].endswith(f"/{option}")
            assert store.files.upload(job.files[option].partition("/")[0]).read_bytes().startswith(png())


def test_a_picture_that_explains_another_is_told_and_not_shown(service, store, tmp_path):
    """The mask of damage, and what was invented."""
    job = store.submit(LOCAL, "restore", {"has_mask": True, "has_uncertainty": True}).id
    facts, names = ({"width": 8}, {"beside": "mask"}, {"beside": "uncertainty"}), ("a.png", "b.png", "c.png")
    results = [NewResult(tmp_path / name, name, "image/png", fact) for name, fact in zip(names, facts, strict=True)]
    for result in results:
        result.path.write_bytes(png())
    store.finish(store.claim("tester"), results, 1.0)
    result = call(service, "job_status", {"job": job})
    rows = result.structured_content["results"]
    assert [row.get("beside") for row in rows] == [None, "mask", "uncertainty"]
    assert len(parts(result, "image")) == 1 and len(parts(result, "resource_link")) == 3


@pytest.mark.parametrize(
    "name, arguments, words, option",
    [
        ("upscale", {}, "image must be given", "image"),
        ("upscale", {"image": "https://evil.example/x.png"}, "is an address", "image"),
        ("upscale", {"image": "/etc/passwd"}, "is not valid base64", "image"),
        ("upscale", {"image": 1}, "is a picture in base64", "image"),
        ("upscale", {"image": "0" * 64}, "", None),
        ("upscale", {"image": "0" * 32}, "there is no such result", None),
        ("upscale", {"image": "aGk=", "scale": 1e6}, "scale", "scale"),
        ("upscale", {"image": "aGk=", "model": "/etc/passwd"}, "model", "model"),
        ("upscale", {"image": "aGk=", "sorce": "x"}, "there is no option sorce", None),
        ("upscale", {"image": "aGk=", "source": "/etc/passwd"}, "there is no option source", None),
        ("text_to_image", {"prompt": "fox", "wait": -1}, "wait is from 0", "wait"),
        ("text_to_image", {"prompt": "fox", "count": "x"}, "count", "count"),
        ("text_to_image", {"prompt": "<lora:nobody:1>"}, "nobody", "prompt"),
        ("text_to_imge", {"prompt": "fox"}, "did you mean text_to_image?", None),
        ("list_models", {"kind": "upscaler"}, "did you mean upscale?", "kind"),
        ("job_status", {"job": "0" * 32}, "no such job", None),
        ("job_status", {"job": {"a": 1}}, "no such job", None),
    ],
)
def test_what_a_call_cannot_have_is_said(service, store, name, arguments, words, option):
    refused(call(service, name, arguments), words, option)
    assert store.find() == []


def test_a_job_that_takes_longer_is_followed(service, store):
    result = call(service, "text_to_image", {"prompt": "fox", "wait": 0})
    job = result.structured_content["job"]
    assert result.structured_content == {"job": job, "state": "queued", "results": []}
    claim = store.claim("tester")
    store.add_event(claim, {"event": "progress", "done": 1, "total": 4, "what": "steps", "remaining": 3.0})
    store.add_preview(claim, b"\xff\xd8\xff")
    status = call(service, "job_status", {"job": job})
    assert (status.structured_content["state"], status.structured_content["progress"]["done"]) == ("running", 1)
    assert base64.b64decode(parts(status, "image")[0].data) == b"\xff\xd8\xff"
    store.park(claim, 0.0)
    work(store)
    assert call(service, "job_status", {"job": job, "wait": 5}).structured_content["state"] == "done"
    failed = call(service, "text_to_image", {"prompt": "fox", "wait": 0}).structured_content["job"]
    work(store, fault="the disk is full")
    status = call(service, "job_status", {"job": failed})
    assert status.structured_content["error"] == "the disk is full" and not status.is_error


def test_large_files_are_known_by_their_ids_only(service, store, monkeypatch):
    with working(store, png()):
        result = call(service, "text_to_image", {"prompt": "fox"})
    found = result.structured_content["results"][0]

    async def read(client):
        return await client.read_resource(f"{RESULT}{found['id']}")

    content = with_client(service, read).contents[0]
    assert base64.b64decode(content.blob) == png()
    monkeypatch.setattr("calotype.api.mcp.MAX_RESOURCE", len(png()) - 1)

    async def refused_read(client):
        with pytest.raises(mcp.MCPError, match="of an answer; fetch each by its id"):
            await read(client)

    with_client(service, refused_read)
    again = call(service, "job_status", {"job": result.structured_content["job"]})
    assert len(parts(again, "image")) == 1 and again.structured_content["results"] == [found]
    with working(store, png()):
        assert not call(service, "upscale", {"image": found["id"], "scale": 2}).is_error


def test_models_are_listed_by_kind(service):
    models = call(service, "list_models", {"kind": "upscale"}).structured_content["models"]
    assert "realesrgan-x4plus" in {model["name"] for model in models} and {m["kind"] for m in models} == {"upscale"}


def test_objects_of_others_are_not_found(service, store):
    with working(store, png()):
        data = call(service, "text_to_image", {"prompt": "fox"}).structured_content
    photo = store.upload(LOCAL, io.BytesIO(b"photo")).id
    result = data["results"][0]["id"]
    refused(call(service, "job_status", {"job": data["job"]}, owner="bob"), "no such job")
    for image in (result, photo):
        refused(call(service, "upscale", {"image": image}, owner="bob"), "there is no")

    async def read(client):
        for address in (f"{RESULT}{result}", f"{RESULT}../jobs.sqlite3", "file:///etc/passwd", RESULT):
            with pytest.raises(mcp.MCPError, match="there is no such result"):
                await client.read_resource(address)

    with_client(service, read, owner="bob")


def test_a_bug_is_logged_and_not_told(service, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr("calotype.api.tools._submit", broken)
    refused(call(service, "text_to_image", {"prompt": "fox"}), "its log has the cause")
    assert "secret" in caplog.text


# Over HTTP


def over_http(address, token, use, **more):
    async def run():
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
            mcp.Client(streamable_http_client(f"{address}/mcp", http_client=http), **more) as client,
        ):
            return await use(client)

    return anyio.run(run)


@pytest.mark.slow
def test_the_service_has_the_same_tools_for_each_account(app, accounts, store):
    def draw(client):
        return client.call_tool("text_to_image", {"prompt": "fox"})

    accounts.add("ann"), accounts.add("bob")
    ann, bob = accounts.add_token("ann"), accounts.add_token("bob")
    with listening(app) as address, working(store, png()):
        for mode in ("auto", "legacy"):
            result = over_http(address, ann, draw, mode=mode)
            assert not result.is_error and len(parts(result, "image")) == 1
        assert [store.get(result.structured_content["job"]).owner] == [accounts.verify(ann).id]
        job = {"job": result.structured_content["job"]}
        refused(over_http(address, bob, lambda client: client.call_tool("job_status", job)), "no such job")
        with pytest.raises(BaseException):  # noqa: B017 - the client raises a group
            over_http(address, "cal_wrong", lambda client: client.list_tools())


def test_messages_need_a_token_and_come_from_this_site(client_for, app):
    ann = client_for("ann")
    hello = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    accepted = {"Accept": "application/json, text/event-stream"}
    assert ann.post("/mcp", json=hello, headers=accepted).status_code == 200
    for headers, status in (
        ({"Authorization": "Bearer x"}, 401),
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
    ):
        assert ann.post("/mcp", json=hello, headers=accepted | headers).status_code == status
    assert ann.get("/mcp").status_code == ann.delete("/mcp").status_code == 405
    chunks = (b"x" * (1 << 20) for _ in range(app.state.service.max_upload // (1 << 20) + 2))
    too_large = ann.post("/mcp", content=chunks, headers=accepted | {"Content-Type": "application/json"})
    assert too_large.status_code == 413
    assert ann.post("/mcp", content=b"{", headers=accepted | {"Content-Type": "application/json"}).status_code == 400


# From the command line


@pytest.mark.slow
def test_the_command_speaks_on_standard_input_and_output(tmp_path):
    arguments = ["-m", "calotype", "mcp", "--no-worker", "--home", str(tmp_path)]
    command = mcp.StdioServerParameters(command=sys.executable, args=arguments)

    async def use():
        async with mcp.Client(command) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            return names, await client.call_tool("text_to_image", {"prompt": "fox", "wait": 0})

    names, result = anyio.run(use)
    assert "restore_photo" in names and result.structured_content["state"] == "queued"
    store = JobStore("", tmp_path / "service")
    assert [job.owner for job in store.find()] == [LOCAL]
    store.close()
