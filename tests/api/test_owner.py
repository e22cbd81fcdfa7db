"""What only the owner may do: models and accounts."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from calotype.api import downloads
from calotype.api.app import create_app
from calotype.api.routes import owner
from calotype.api.settings import ServiceSettings
from calotype.checkpoints.store import ModelStore
from calotype.errors import CalotypeError
from calotype.jobs.jobs import NewResult
from calotype.jobs.users import Accounts
from calotype.tasks.events import Progress
from tests.api.conftest import ADDRESS, submit, upload

ROUTES = (
    *(("GET", "/downloads"), ("POST", "/models/codeformer/fetch"), ("DELETE", "/models/codeformer")),
    *(("POST", "/models/trained"), ("GET", "/accounts"), ("POST", "/accounts"), ("PATCH", "/accounts/ann")),
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
            raise CalotypeError("no connection")

    monkeypatch.setattr(downloads, "pull", pull)
    names = ("codeformer", "realesrgan-x4plus")
    for name in names:
        assert house.ann.post(f"/models/{name}/fetch").status_code == 202
    until = time.monotonic() + 5
    while any(d["state"] in ("waiting", "running") for d in house.ann.get("/downloads").json()):
        assert time.monotonic() < until
    states = {d["name"]: (d["state"], d["done"], d["total"], d["error"]) for d in house.ann.get("/downloads").json()}
    assert states == {names[0]: ("done", 5, 10, ""), names[1]: ("failed", 5, 10, "no connection")}
    for name in ("nothing", "..%2f..%2fetc", "a%00"):
        assert house.ann.post(f"/models/{name}/fetch").status_code in (404, 422), name


def test_a_trained_lora_is_a_model_at_once_and_can_be_removed(house, tmp_path):
    owner = house.accounts.find("ann").id
    job = house.store.submit(owner, "train_lora", {"output_name": "fox"}, files={"photos": []})
    weights = tmp_path / "fox.safetensors"
    weights.write_bytes(b"weights")
    claimed = house.store.claim("w")
    done = house.store.finish(claimed, [NewResult(weights, "../a/fox.safetensors", "application/octet-stream")], 1.0)
    body = {"job": job.id, "result": done.results[0].id}
    made = house.ann.post("/models/trained", json=body)
    assert made.status_code == 201 and made.json() == {"name": "fox", "kind": "lora"}
    assert ModelStore(house.home).find("fox", "lora").path.read_bytes() == b"weights"
    assert house.ann.post("/models/trained", json=body).json()["name"] == "fox"
    assert house.ann.post("/models/trained", json={**body, "result": "0" * 32}).status_code == 404
    house.accounts.add("max", is_admin=True)
    other = {"Authorization": f"Bearer {house.accounts.add_token('max')}"}
    assert house.ann.post("/models/trained", json=body, headers=other).status_code == 404
    assert house.ann.delete("/models/fox").status_code == 204
    assert "fox" not in ModelStore(house.home).names("lora")
    assert house.ann.delete("/models/fox").status_code == 422
    assert house.ann.delete("/models/emoji").status_code == 422


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
