"""A1111's API, by the client webuiapi over a real connection, and by what other clients send."""

import base64
import io
import threading
import time

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from calotype.api.service import Service
from calotype.api.settings import ServiceSettings
from calotype.jobs.store import JobStore
from tests.api.conftest import client_of, drawing, listening, png, submit, upload, working

INFOTEXT = "fox\nSteps: 20, Sampler: Euler a, CFG scale: 7.0, Seed: 5, Size: 8x6, Model: emoji"


def picture(color=(10, 200, 30), parameters=""):
    texts = PngInfo()
    if parameters:
        texts.add_text("parameters", parameters)
    file = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(file, "PNG", pnginfo=texts)
    return file.getvalue()


@pytest.fixture
def api(shared_app, tmp_path, home):
    """webuiapi's client of a service with a connection and a worker."""
    webuiapi = pytest.importorskip("webuiapi")
    store = JobStore("", tmp_path / "service")
    shared_app.state.service = Service(store, home, ServiceSettings())
    with listening(shared_app) as address, working(store, picture(parameters=INFOTEXT)):
        client = webuiapi.WebUIApi(host="127.0.0.1", port=int(address.rpartition(":")[2]))
        client.store = store
        yield client
    store.close()


def test_webuiapi_generates_pictures(api):
    result = api.txt2img(prompt="fox", negative_prompt="text", seed=5, steps=20, width=64, height=96, n_iter=2)
    assert [image.getpixel((0, 0)) for image in result.images] == [(10, 200, 30)] * 2
    assert result.info["all_seeds"] == [5, 6]
    assert result.info["infotexts"] == [INFOTEXT] * 2
    assert result.parameters["prompt"] == "fox"
    (job,) = api.store.find()
    expected = {"prompt": "fox", "negative": "text", "seed": 5, "steps": 20, "size": "64x96", "count": 2, "batch": 1}
    assert expected.items() <= job.task.items()
    assert (job.task["sampler"], job.task["schedule"], job.task["guidance"]) == ("Euler a", "automatic", 7.0)


def test_webuiapi_makes_pictures_of_pictures(api):
    source, mask = Image.open(io.BytesIO(png())), Image.new("L", (8, 6), 255)
    api.img2img(images=[source], prompt="fox", mask_image=mask, denoising_strength=0.4, inpainting_fill=2, mask_blur=8)
    (job,) = api.store.find()
    assert job.files.keys() == {"init", "mask"}
    sent = api.store.files.upload(job.files["init"].partition("/")[0]).read_bytes()
    assert Image.open(io.BytesIO(sent)).getpixel((1, 1)) == (200, 30, 40)
    expected = {"strength": 0.4, "fill": "noise", "mask_blur": 8, "only_masked": True, "resize": "stretch"}
    assert expected.items() <= job.task.items()


def test_webuiapi_enlarges_and_reads_pictures(api):
    source = Image.open(io.BytesIO(png()))
    assert api.extra_single_image(source, upscaler_1="R-ESRGAN 4x+", upscaling_resize=3).image.size == (8, 6)
    assert len(api.extra_batch_images([source, source], upscaler_1="Lanczos", upscaling_resize=2).images) == 2
    tasks = [job.task for job in api.store.find()][::-1]
    assert tasks[0] == {"scale": 3.0, "upscaler": "realesrgan-x4plus", "faces": "none"}
    assert tasks[1] == tasks[2] == {"scale": 2.0, "upscaler": "none", "faces": "none"}
    info = api.png_info(Image.open(io.BytesIO(picture(parameters=INFOTEXT))))
    assert info.info == INFOTEXT
    assert info.parameters["Seed"] == "5"


def test_webuiapi_reads_lists_and_settings(api):
    assert "Euler a" in {sampler["name"] for sampler in api.get_samplers()}
    assert {"automatic", "karras"} <= {schedule["name"] for schedule in api.get_schedulers()}
    assert api.util_get_model_names() == ["emoji"]
    assert api.get_options()["sd_model_checkpoint"] == "emoji" == api.util_get_current_model()
    assert api.set_options({"sd_model_checkpoint": "emoji", "CLIP_stop_at_last_layers": 2}) == {}
    assert api.get_options()["CLIP_stop_at_last_layers"] == 2
    assert {"realesrgan-x4plus", "None", "Lanczos"} <= {upscaler["name"] for upscaler in api.get_upscalers()}
    assert "Latent (nearest-exact)" in {mode["name"] for mode in api.get_latent_upscale_modes()}
    assert "faces-v3" in {network["name"] for network in api.get_face_restorers()}
    assert api.get_realesrgan_models()
    assert api.get_loras() == api.get_sd_vae() == api.get_hypernetworks() == api.get_prompt_styles() == []
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert api.get_embeddings()["loaded"] == {}
    assert api.get_cmd_flags()["api"]
    assert api.get_memory().keys() == {"ram", "cuda"}
    assert api.get_progress()["progress"] == 0
    assert api.interrupt() == api.skip() == api.refresh_checkpoints() == {}
    for verb in ("unload", "reload"):
        assert api.session.post(f"{api.baseurl}/{verb}-checkpoint").json() == {}


def test_extras_take_a_size_instead_of_a_scale(client, store):
    fields = {"image": base64.b64encode(png()).decode(), "upscaler_1": "Lanczos", "upscaling_resize": 3}
    sizes = {"upscaling_resize_w": 640, "upscaling_resize_h": 480}
    plain = {"upscaler": "none", "faces": "none"}
    for more, task in [
        ({"resize_mode": 1, **sizes}, {"scale": 1.0, "cover": "640x480", "crop": True}),
        ({"resize_mode": 1, **sizes, "upscaling_crop": False}, {"scale": 1.0, "cover": "640x480", "crop": False}),
        ({"resize_mode": 1}, {"scale": 1.0, "cover": "512x512", "crop": True}),
        ({"resize_mode": 0, **sizes}, {"scale": 3.0}),
        ({"resize_mode": 1, **sizes, "upscaler_1": "None"}, {"scale": 1.0}),  # A1111 enlarges nothing either
    ]:
        with working(store, png()):
            assert post(client, "extra-single-image", **fields | more).status_code == 200
        assert [job.task for job in store.find(states=("done",))] == [plain | task]
        store.delete(store.find()[0].id)
    for more, option in [
        ({"resize_mode": 2}, "resize_mode"),
        ({"resize_mode": 1, "upscaling_resize_w": 0}, "cover"),
        ({"resize_mode": 1, "upscaling_resize_h": "x"}, "upscaling_resize_h"),
    ]:
        answer = post(client, "extra-single-image", **fields | more)
        assert (answer.status_code, answer.json()["option"]) == (422, option), answer.text


def post(client, address, **fields):
    return client.post(f"/sdapi/v1/{address}", json=fields)


@pytest.mark.parametrize(
    "fields, option",
    [
        ({"alwayson_scripts": {"ADetailer": {"args": [True, {}]}}}, "alwayson_scripts"),
        ({"alwayson_scripts": {"controlnet": {"args": [{"module": "canny"}]}}}, "alwayson_scripts"),
        ({"script_name": "x/y/z plot"}, "script_name"),
        ({"restore_faces": True}, "restore_faces"),
        ({"refiner_checkpoint": "x"}, "refiner_checkpoint"),
        ({"s_churn": 0.5}, "s_churn"),
        ({"eta": 0.3}, "eta"),
        ({"hr_prompt": "x"}, "hr_prompt"),
        ({"not_a_field": 1}, "not_a_field"),
        ({"override_settings": {"outdir_samples": "/etc"}}, "override_settings"),
        ({"override_settings": {"sd_model_checkpoint": "/etc/passwd"}}, "model"),
        ({"sampler_name": "no sampler"}, "sampler"),
        ({"steps": 100_000}, "steps"),
        ({"width": 100_000}, "size"),
        ({"batch_size": "x"}, "batch_size"),
        ({"prompt": ["x"]}, "prompt"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(client, fields, option):
    answer = post(client, "txt2img", **fields)
    assert (answer.status_code, answer.json()["option"]) == (422, option), answer.text
    assert client.get("/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    "address, fields, sentence",
    [
        ("interrogate", {"image": "x", "model": "clip"}, "no tagger is installed"),
        ("interrogate", {"image": "x", "model": "deepdanbooru"}, "no tagger is installed"),
        ("interrogate", {"image": "x", "model": "blip"}, "model is clip or deepdanbooru, not 'blip'"),
    ],
)
def test_what_a_service_does_not_do_is_said(client, address, fields, sentence):
    answer = post(client, address, **fields)
    assert answer.status_code == 422 and sentence in answer.json()["detail"]


def test_interrogate_gives_the_tags_of_the_workers_tagger(shared_app, store, home, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from tests.pipelines.test_caption import wd14

    shared_app.state.service = Service(store, home, ServiceSettings(), has_tagger=True)
    client = client_of(shared_app)
    red, blue = (base64.b64encode(picture(color)).decode() for color in ((250, 0, 0), (0, 0, 250)))
    with drawing(store, home, tagger=wd14(tmp_path / "tagger")):
        surest_first = post(client, "interrogate", image=red, model="clip")
        assert surest_first.json() == {"caption": r"anna \(series\), red dress, ^_^"}, surest_first.text
        assert post(client, "interrogate", image=blue).json() == {"caption": "blue sky, ^_^"}
        by_name = post(client, "interrogate", image=red, model="deepdanbooru").json()["caption"]
        assert by_name == r"^_^, anna \(series\), red dress"
        damaged = post(client, "interrogate", image=base64.b64encode(b"no picture").decode())
        assert damaged.status_code == 422 and "photos.png" in damaged.json()["detail"]
        jobs = client.get("/jobs")
        photo = f"{upload(client, picture((250, 0, 0)))}/red.png"
        captioned = submit(client, "caption", {"tagger": "installed", "trigger": "zkz"}, files={"photos": [photo]})
        assert "zkz, anna (series), red dress" in client.get(f"/jobs/{captioned}/events").text
    assert "/tagger" not in jobs.text and str(tmp_path) not in jobs.text + damaged.text
    assert sorted(job["state"] for job in jobs.json()["jobs"]) == ["done", "done", "done", "failed"]


def test_a_worker_without_a_tagger_says_so(shared_app, store, home):
    shared_app.state.service = Service(store, home, ServiceSettings(), has_tagger=True)
    with drawing(store, home):
        answer = post(client_of(shared_app), "interrogate", image=base64.b64encode(picture()).decode())
    assert answer.status_code == 422 and "no tagger is installed with the worker" in answer.json()["detail"]


@pytest.mark.parametrize(
    "image",
    ["http://127.0.0.1/x.png", "https://evil.example/x.png", "file:///etc/passwd", "/etc/passwd", "%%%", "", 1, None],
)
def test_pictures_are_sent_never_fetched(client, image):
    for route, fields in [
        ("img2img", {"init_images": [image]}),
        ("extra-single-image", {"image": image}),
        ("png-info", {"image": image}),
    ]:
        assert post(client, route, **fields).status_code == 422


def test_settings_belong_to_an_account(client_for):
    ann, bob = client_for("ann"), client_for("bob")
    assert post(ann, "options", CLIP_stop_at_last_layers=2).status_code == 200
    assert bob.get("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 1
    assert post(ann, "options", outdir_samples="/etc").status_code == 422
    assert post(ann, "options", sd_model_checkpoint="nobody").status_code == 422


def test_only_the_owner_has_models_dropped(client_for, store):
    def is_asked():
        return store.report("w", "cpu", [])

    assert not is_asked()
    ann, owner = client_for("ann"), client_for("owner", is_admin=True)
    assert post(ann, "unload-checkpoint").status_code == 403 and not is_asked()
    assert post(owner, "unload-checkpoint").json() == {} and is_asked()
    assert post(ann, "reload-checkpoint").json() == post(owner, "reload-checkpoint").json() == {} and not is_asked()


def test_interrupt_stops_only_ones_own_job(client_for, store):
    ann, bob = client_for("ann"), client_for("bob")
    jobs = {submit(ann), submit(bob)}
    claims = [store.claim("a"), store.claim("b")]
    store.add_event(claims[0], {"event": "progress", "done": 1, "total": 4, "what": "steps", "remaining": 3.0})
    assert {claim.job.id for claim in claims} == jobs
    ann.post("/sdapi/v1/interrupt")
    wanted = {claim.job.owner: store.heartbeat(claim) for claim in claims}
    assert sorted(wanted.values()) == ["cancel", "run"]
    assert wanted[store.get(ann.get("/jobs").json()["jobs"][0]["id"]).owner] == "cancel"
    shown = [who.get("/sdapi/v1/progress").json()["progress"] for who in (ann, bob)]
    assert sorted(shown) == [0, 0.25]


def test_a_failed_job_is_an_error_of_the_request(client, store):
    def fail():
        while not (claim := store.claim("tester")):
            time.sleep(0.01)
        from calotype.errors import CalotypeError

        store.fail(claim, CalotypeError("{option} is damaged", option="init"), 1.0)

    thread = threading.Thread(target=fail)
    thread.start()
    answer = post(client, "img2img", init_images=[base64.b64encode(png()).decode()], prompt="fox")
    thread.join()
    assert (answer.status_code, answer.json()["detail"], answer.json()["option"]) == (422, "init is damaged", "init")


KRITA = {  # fields as clients send them besides webuiapi's
    **{"prompt": "fox", "negative_prompt": "", "sampler_name": "DPM++ 2M Karras", "steps": 12, "cfg_scale": 6},
    **{"seed": 3, "batch_size": 2, "width": 64, "height": 64, "tiling": False, "restore_faces": False},
    **{"override_settings": {"CLIP_stop_at_last_layers": 1}, "override_settings_restore_afterwards": False},
    **{"alwayson_scripts": {}, "save_images": False, "send_images": True},
}
SILLY_TAVERN = {
    **{"prompt": "fox", "negative_prompt": "bad", "sampler_name": "Euler a", "scheduler": "Automatic", "steps": 20},
    **{"cfg_scale": 7, "width": 64, "height": 64, "restore_faces": False, "enable_hr": False, "hr_upscaler": "Latent"},
    **{"hr_scale": 1, "hr_additional_steps": 0, "denoising_strength": 0.7, "hr_second_pass_steps": 0, "seed": -1},
    **{"override_settings": {}, "override_settings_restore_afterwards": True, "clip_skip": None},
    **{"save_images": True, "send_images": True, "do_not_save_grid": False, "do_not_save_samples": False},
}


@pytest.mark.parametrize("fields", [KRITA, SILLY_TAVERN, {"prompt": "fox"}])
def test_requests_of_other_clients(client, store, fields):
    with working(store, picture(parameters=INFOTEXT)):
        answer = post(client, "txt2img", **fields)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["images"]) == fields.get("batch_size", 1)
