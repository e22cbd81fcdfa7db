"""What only the owner may do: models and accounts."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from calotype.api import downloads
from calotype.api.app import create_app
from calotype.api.routes import owner
from calotype.api.settings import ServiceSettings
from calotype.checkpoints.store import ModelStore
from calotype.errors import CalotypeError, Message, Wording
from calotype.jobs.chat import Chat, Terms
from calotype.jobs.jobs import NewResult
from calotype.jobs.users import Accounts
from calotype.tasks.events import Progress
from tests.api.conftest import ADDRESS, png, submit, upload

ROUTES = (
    *(("GET", "/downloads"), ("POST", "/models/codeformer/fetch"), ("DELETE", "/models/codeformer")),
    *(("GET", "/imports"), ("POST", "/imports/0123456789abcdef")),
    *(("GET", "/accounts"), ("POST", "/accounts"), ("PATCH", "/accounts/ann")),
    *(("POST", "/accounts/ann/tokens"), ("POST", "/invitations")),
)


@pytest.fixture
def house(store, home):
    """A service with an owner and a guest."""
    accounts = Accounts(store.database)
    accounts.add("ann", is_admin=True)
    accounts.add("ben")
    app = create_app(store, home, ServiceSettings(host="0.0.0.0"), accounts=accounts)
    of = lambda name: {"Authorization": f"Bearer {accounts.add_token(name)}"}  # noqa: E731
    clients = {name: TestClient(app, base_url=ADDRESS, headers=of(name)) for name in ("ann", "ben")}
    return SimpleNamespace(accounts=accounts, store=store, home=home, **clients)


@pytest.mark.parametrize(("method", "address"), ROUTES)
def test_others_may_not(house, method, address):
    assert house.ben.request(method, address, json={}).status_code == 403
    assert TestClient(house.ann.app, base_url=ADDRESS).request(method, address, json={}).status_code == 401


def test_people_of_the_bot_are_called_as_on_discord(house):
    chat = Chat(house.store.database, house.accounts)
    chat.visit("7", Terms(600), name="Eve ✨")
    chat.visit("8", Terms(600), name="Ben B")
    chat.link("8", house.accounts.add_code(house.accounts.find("ben")))
    found = {account["name"]: account["people"] for account in house.ann.get("/accounts").json()}
    assert found == {"ann": [], "ben": ["Ben B"], "discord-7": ["Eve ✨"], "discord-8": ["Ben B"]}
    changed = house.ann.patch("/accounts/discord-7", json={"seconds": 5}).json()
    assert (changed["people"], changed["seconds"]) == (["Eve ✨"], 5)
    assert chat.visit("7", Terms(600)).account.budget.seconds == 5
    assert house.ann.post("/accounts", json={"name": "discord-9"}).json()["option"] == "name"


def test_accounts_are_added_changed_and_disabled(house):
    made = house.ann.post("/accounts", json={"name": "eve", "seconds": 60})
    assert made.status_code == 201
    eve = {"Authorization": f"Bearer {made.json()['token']}"}
    assert house.ben.get("/me", headers=eve).json()["seconds_limit"] == 60
    assert house.ann.post("/accounts", json={"name": "eve"}).json()["option"] == "name"
    changed = house.ann.patch("/accounts/eve", json={"max_queued": 3})
    assert (changed.json()["max_queued"], changed.json()["seconds"]) == (3, 60)
    for bad in ({"max_queued": 0}, {"is_admin": True}, {"is_disabled": 1}):
        assert house.ann.patch("/accounts/eve", json=bad).status_code == 422, bad
    assert house.ann.patch("/accounts/eve", json={"is_disabled": True}).json()["is_disabled"] is True
    assert house.ben.get("/me", headers=eve).status_code == 401
    assert house.ann.patch("/accounts/ann", json={"is_disabled": True}).status_code == 422
    assert house.ann.patch("/accounts/nobody", json={}).status_code == 404
    assert [account["name"] for account in house.ann.get("/accounts").json()] == ["ann", "ben", "eve"]
    assert not any(account["is_admin"] for account in house.ann.get("/accounts").json()[1:])


def test_an_invitation_opens_an_account(house):
    invitation = house.ann.post("/invitations", json={"accounts": 1, "seconds": 30}).json()["invitation"]
    made = house.ben.post("/signup", json={"invitation": invitation, "name": "kim"})
    assert made.status_code == 201
    assert [a["is_trial"] for a in house.ann.get("/accounts").json()] == [False, False, True]


def test_a_model_is_fetched_in_the_background(house, monkeypatch):
    def pull(entry, settings):
        yield Progress(5, 10, "bytes")
        if entry.name != "codeformer":
            raise CalotypeError("{entry} is not at hand", entry=entry.name)

    monkeypatch.setattr(downloads, "pull", pull)
    names = ("codeformer", "realesrgan-x4plus")
    for name in names:
        assert house.ann.post(f"/models/{name}/fetch").status_code == 202
    until = time.monotonic() + 5
    while any(d["state"] in ("waiting", "running") for d in house.ann.get("/downloads").json()):
        assert time.monotonic() < until
    states = {d["name"]: (d["state"], d["done"], d["total"], d["error"]) for d in house.ann.get("/downloads").json()}
    assert states == {names[0]: ("done", 5, 10, ""), names[1]: ("failed", 5, 10, f"{names[1]} is not at hand")}
    chinese = house.ann.get("/downloads", headers={"Accept-Language": "zh"}).json()[1]["error"]
    assert chinese == Wording("zh").fill(Message("{entry} is not at hand", entry=names[1])) and "at hand" not in chinese
    for name in ("nothing", "..%2f..%2fetc", "a%00"):
        assert house.ann.post(f"/models/{name}/fetch").status_code in (404, 422), name


def trained(house, tmp_path, name, output_name="fox"):
    """A training of an account that has ended, with samples: what keeps its file as a model."""
    job = house.store.submit(house.accounts.find(name).id, "train_lora", {"output_name": output_name}, files={})
    weights, samples = tmp_path / f"{name}.safetensors", tmp_path / f"{name}.png"
    weights.write_bytes(name.encode())
    samples.write_bytes(png(900))
    found = [NewResult(samples, "samples.png", "image/png")]
    found += [NewResult(weights, f"../a/{output_name}.safetensors", "application/octet-stream")]
    done = house.store.finish(house.store.claim("w"), found, 1.0)
    return {"job": job.id, "result": done.results[1].id}


def test_a_trained_lora_is_a_model_at_once_and_can_be_removed(house, tmp_path):
    body = trained(house, tmp_path, "ann")
    made = house.ann.post("/models/trained", json=body)
    assert made.status_code == 201 and made.json() == {"name": "fox", "kind": "lora", "is_own": False}
    path = ModelStore(house.home).find("fox", "lora").path
    assert path.read_bytes() == b"ann"
    assert house.ann.post("/models/trained", json=body).json()["name"] == "fox"
    assert house.ann.post("/models/trained", json={**body, "result": "0" * 32}).status_code == 404
    house.accounts.add("max", is_admin=True)
    other = {"Authorization": f"Bearer {house.accounts.add_token('max')}"}
    assert house.ann.post("/models/trained", json=body, headers=other).status_code == 404
    assert house.ben.delete("/models/fox").status_code == 403
    assert house.ann.delete("/models/fox").status_code == 204
    assert "fox" not in ModelStore(house.home).names("lora") and not any(path.parent.iterdir())
    assert house.ann.delete("/models/fox").status_code == 404
    assert house.ann.delete("/models/emoji").status_code == 422


def test_what_others_have_trained_is_theirs_alone(house, tmp_path):
    made = house.ben.post("/models/trained", json=trained(house, tmp_path, "ben")).json()
    assert made == {"name": "fox", "kind": "lora", "is_own": True}
    kept = ModelStore(house.home).find("fox").path
    use = {"kind": "imagine", "task": {"prompt": "a <lora:fox:1>"}}
    lists = ("/models", "/sdapi/v1/loras")
    named = lambda who: [address for address in lists if "fox" in who.get(address).text]  # noqa: E731
    assert named(house.ben) == list(lists) and house.ben.post("/jobs", json=use).status_code == 201
    assert named(house.ann) == []
    refused = house.ann.post("/jobs", json=use)
    assert refused.status_code == 422 and "no LoRA is named fox" in refused.json()["detail"]
    for method, address in (("GET", "/models/fox/preview"), ("DELETE", "/models/fox")):
        assert house.ann.request(method, address).status_code == 404
    mine = house.ann.post("/models/trained", json=trained(house, tmp_path, "ann")).json()
    assert mine["name"] == "fox-2" and house.ben.get("/models?kind=lora").text.count('"name"') == 2
    assert house.ben.delete("/models/fox").status_code == 204 and not kept.exists()
    assert house.ben.delete("/models/fox-2").status_code == 403


def test_models_of_ones_own_count_as_storage(house, tmp_path):
    assert house.ben.post("/models/trained", json=trained(house, tmp_path, "ben")).status_code == 201
    house.accounts.change("ben", max_stored=2 / 2**30)  # 2 bytes; the file has 3
    refused = house.ben.post("/models/trained", json=trained(house, tmp_path, "ben", "hen"))
    assert refused.status_code == 429 and "its limit" in refused.json()["detail"]


def test_a_model_has_the_picture_beside_its_file(house, tmp_path):
    models = ModelStore(house.home)
    house.ann.post("/models/trained", json=trained(house, tmp_path, "ann"))
    for name in ("owl", "cat"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"x")
        models.put(name, tmp_path / f"{name}.safetensors", "lora")
    (tmp_path / "owl.png").write_bytes(png(900))
    (tmp_path / "cat.preview.png").write_bytes(b"no picture")
    found = {model["name"]: model["preview"] for model in house.ben.get("/models?kind=lora").json()}
    assert found == {name: f"/models/{name}/preview" for name in ("fox", "owl", "cat")}
    for name in ("fox", "owl"):
        answer = house.ben.get(found[name])
        assert answer.headers["content-type"] == "image/jpeg"
        assert max(Image.open(io.BytesIO(answer.content)).size) <= 320
    assert house.ben.get(found["cat"]).status_code == 422
    assert house.ben.get("/models/emoji/preview").status_code == 404


def imported(client):
    """The folders, once none of them is being imported."""
    until = time.monotonic() + 60
    while "running" in [found["state"] for found in client.get("/imports").json()]:
        assert time.monotonic() < until
        time.sleep(0.05)
    return client.get("/imports").json()


def test_models_of_a_folder_named_at_the_start_are_put_on_the_list(store, home, tmp_path):
    webui = tmp_path / "webui"
    (webui / "models" / "Lora").mkdir(parents=True)
    weights = {"lora_unet_a.lora_down.weight": np.ones((2, 2), "f"), "lora_unet_a.lora_up.weight": np.ones((2, 2), "f")}
    save_file(weights, webui / "models" / "Lora" / "owl.safetensors")
    (webui / "models" / "Lora" / "bad.safetensors").write_bytes(b"damaged")
    service = ServiceSettings(import_folder=(str(webui), str(tmp_path / "gone")))
    client = TestClient(create_app(store, home, service), base_url=ADDRESS)
    known = client.get("/imports").json()
    assert [(found["name"], found["state"]) for found in known] == [("webui", ""), ("gone", "")]
    assert str(tmp_path) not in client.get("/imports").text
    assert client.post("/imports/" + "0" * 16).status_code == 404
    for found in known:
        assert client.post(f"/imports/{found['id']}").json()["state"] == "running"
    now = imported(client)
    assert [(found["state"], found["added"], found["failed"]) for found in now] == [("done", 1, 1), ("failed", 0, 0)]
    assert "bad.safetensors" in now[0]["faults"][0] and str(tmp_path) not in now[0]["faults"][0]
    assert "there is no folder gone" in now[1]["faults"][0]
    assert ModelStore(home).find("owl", "lora").path.is_relative_to(webui)
    client.post(f"/imports/{known[0]['id']}")
    now = imported(client)
    assert (now[0]["added"], now[0]["known"]) == (0, 1)


def test_what_was_made_before_there_were_accounts_is_the_owners(store, home):
    accounts = Accounts(store.database)
    app = create_app(store, home, ServiceSettings(), accounts=accounts)
    alone = TestClient(app, base_url=ADDRESS)
    kept, job = upload(alone), submit(alone)
    assert alone.post("/invitations", json={}).status_code == 409  # nobody would be the owner
    tokens = [alone.post("/accounts", json={"name": "ann"}).json()["token"]]
    assert accounts.find("ann").is_admin
    ann = TestClient(app, base_url=ADDRESS, headers={"Authorization": f"Bearer {tokens[0]}"})
    tokens.append(ann.post("/accounts", json={"name": "ben"}).json()["token"])
    ben = TestClient(app, base_url=ADDRESS, headers={"Authorization": f"Bearer {tokens[1]}"})
    assert [found["id"] for found in ann.get("/jobs").json()["jobs"]] == [job]
    assert ben.get("/jobs").json()["jobs"] == []
    assert [client.head(f"/uploads/{kept}").status_code for client in (ann, ben)] == [204, 404]
    assert ann.post("/invitations", json={}).status_code == 201


def test_of_two_first_accounts_at_once_one_is_the_owners_and_the_other_is_refused(store, home, monkeypatch):
    accounts, both = Accounts(store.database), threading.Barrier(2)
    app = create_app(store, home, ServiceSettings(), accounts=accounts)
    clients = [TestClient(app, base_url=ADDRESS) for _ in range(2)]
    read = owner.read_request

    def read_request(*args):  # both have come in before there is an account
        both.wait(10)
        return read(*args)

    monkeypatch.setattr(owner, "read_request", read_request)
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(c.post, "/accounts", json={"name": f"ann{n}"}) for n, c in enumerate(clients)]
        answers = [answer.result() for answer in answers]
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    assert [account.is_admin for account in accounts.list()] == [True]
