"""Pictures of requests are decoded, and their texts parsed, by other processes, never by the service's own."""

import base64
import io

import cv2
import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from calotype.api import events
from calotype.api.app import PUBLIC_ROUTERS, ROUTERS
from calotype.dialects import readers
from calotype.outputs import redraw
from calotype.picture import picture as pictures
from calotype.picture.codecs import formats
from tests.api.conftest import png, submit, upload, work, working

PICTURE = base64.b64encode(png()).decode()
INFOTEXT = "fox\nSteps: 20, Sampler: Euler a, CFG scale: 7.0, Seed: 5, Size: 8x6, Model: emoji"
ACCEPT = {"Accept": "application/json, text/event-stream"}
FILE = {"image": ("a.png", png())}
A1111 = {  # addresses that take pictures, with their bodies
    "img2img": {"prompt": "fox", "init_images": [PICTURE], "mask": PICTURE},
    "extra-single-image": {"image": PICTURE, "upscaler_1": "Lanczos"},
    "extra-batch-images": {"imageList": [{"data": PICTURE, "name": "a"}]},
    "png-info": {"image": PICTURE},
    "interrogate": {"image": PICTURE, "model": "clip"},
}
FILES = {
    "/v1/images/edits": {"data": {"prompt": "fox", "size": "64x64"}, "files": FILE | {"mask": ("b.png", png())}},
    "/v1/images/variations": {"files": FILE},
}
TOOLS = {
    "image_to_image": {"image": PICTURE, "mask": PICTURE, "prompt": "fox"},
    "restore_photo": {"image": PICTURE},
    "upscale": {"image": PICTURE},
}
OTHERS = {
    *("/uploads", "/jobs", "/links", "/mcp"),  # below, by their own calls
    *("/signup", "/presets/{preset}", "/sdapi/v1/options", "/sdapi/v1/txt2img", "/v1/images/generations"),  # no picture
    *(f"/jobs/{{job_id}}/{verb}" for verb in ("cancel", "pause", "resume", "retry", "move", "favourite")),
    *(f"/sdapi/v1/{verb}" for verb in ("interrupt", "skip", "unload-checkpoint", "reload-checkpoint")),
    *("/accounts", "/accounts/{name}", "/accounts/{name}/tokens", "/invitations"),
    *("/models/{name}/fetch", "/models/trained", "/imports/{folder_id}", "/archive"),
    *(f"/sdapi/v1/refresh-{what}" for what in ("checkpoints", "vae", "loras")),
}


def infotext_png():
    texts, file = PngInfo(), io.BytesIO()
    texts.add_text("parameters", INFOTEXT)
    Image.new("RGB", (8, 6), (10, 200, 30)).save(file, "PNG", pnginfo=texts)
    return file.getvalue()


def test_every_address_that_takes_a_body_is_tried():
    found = {
        route.path
        for router in (*ROUTERS, *PUBLIC_ROUTERS)
        for route in router.routes
        if route.methods & {"POST", "PUT", "PATCH"}
    }
    assert found == {*(f"/sdapi/v1/{name}" for name in A1111), *FILES, *OTHERS}


def test_no_picture_is_decoded_in_the_process_of_the_service(client, store, monkeypatch):
    monkeypatch.setattr(events, "POLL", 0.02)
    content, opened = infotext_png(), []

    def refuse(*args, **_):
        opened.append(args)
        raise AssertionError("a picture was opened in the process of the service")

    for owner, name in (
        *((Image, "open"), (Image, "frombuffer"), (ImageFile.Parser, "feed"), (cv2, "imdecode"), (cv2, "imread")),
        *((pictures, "read_header"), (formats, "recognise"), (pictures.Picture, "open_here")),
        *((readers, "read_parameters"), (redraw, "read_parameters"), (redraw, "picture_parameters")),
    ):
        monkeypatch.setattr(owner, name, refuse)
    job = submit(client, "upscale", {"scale": 2}, files={"source": f"{upload(client)}/a.png"})
    work(store, content)
    [result] = client.get(f"/jobs/{job}").json()["results"]
    assert client.get(result["url"]).content == content
    answer = client.post("/links", json={"job": job, "result": result["id"]})
    assert client.get(answer.json()["url"]).status_code == 200, answer.text
    with working(store, content):
        for name, body in A1111.items():
            answer = client.post(f"/sdapi/v1/{name}", json=body)
            assert answer.status_code in ((200,) if name != "interrogate" else (200, 422)), answer.text
        info = client.post("/sdapi/v1/png-info", json={"image": base64.b64encode(content).decode()}).json()
        assert (info["info"], info["parameters"]["Seed"]) == (INFOTEXT, "5")
        assert client.get(f"/uploads/{upload(client, content)}/parameters").json()["parameters"]["Seed"] == "5"
        drawn = client.post("/sdapi/v1/txt2img", json={"prompt": "fox"}).json()
        assert INFOTEXT in drawn["info"].replace("\\n", "\n")
        for address, body in FILES.items():
            assert client.post(address, **body).status_code == 200
        for name, arguments in TOOLS.items():
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
            answer = client.post("/mcp", json=call, headers=ACCEPT)
            assert '"type":"image"' in answer.text, answer.text
    assert not opened


@pytest.mark.parametrize("content", [b"no picture", png()[:-20], b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_damaged_picture_is_one_sentence(client, content):
    answer = client.post("/sdapi/v1/png-info", json={"image": base64.b64encode(content).decode()})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"] == "invalid" and "\n" not in answer.json()["detail"]
