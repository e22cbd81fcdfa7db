"""The page: who gets in, what is open, its languages and its policy."""

import gc
import json
import re

import pytest

pytest.importorskip("gradio")

from fastapi.testclient import TestClient

from calotype.checkpoints.store import ModelStore
from calotype.errors import Wording
from calotype.html import csp_hash
from calotype.web.texts import Texts, preferred, script_templates
from tests.web.conftest import ADDRESS, StudioService

CLOSED = (
    *("gradio_api/file=/etc/passwd", "gradio_api/file/etc/passwd", "gradio_api/upload", "gradio_api/info"),
    *("gradio_api/proxy=http://example.org/", "gradio_api/component_server", "gradio_api/queue/join", "monitoring"),
    *("gradio_api/call/order_of", "gradio_api/openapi.json", "gradio_api/deep_link", "gradio_api/runs", "dev/reload"),
    *(
        "static/%2e%2e/config",
        "assets/..%2f..%2fetc/passwd",
        "svelte/x.js",
        "gradio_api/vibe-code",
    ),
    *("custom_component/1/client/component/x", "manifest.json", "robots.txt", "login"),
)


@pytest.mark.parametrize("address", CLOSED)
def test_gradio_serves_nothing_but_its_own_files(ann, address):
    for method in ("GET", "POST"):
        assert ann.request(method, f"/page/en/{address}").status_code == 404


def test_nothing_is_shown_without_login(guest):
    assert guest.get("/page/en/").headers["location"] == "/login"
    for address in (
        "/page/en/config",
        "/page/en/gradio_api/startup-events",
        "/page/en/gradio_api/app_id",
        "/jobs",
        "/events",
        "/archive?job=" + "0" * 32,
    ):
        assert guest.get(address).status_code == 401, address
    assert guest.post("/page/en/gradio_api/run/predict", json={"data": [], "fn_index": 0}).status_code == 401


def test_what_gradio_keeps_for_ever_is_not_searched_for_garbage(ann):
    assert ann.get("/page/en/").status_code == 200
    assert gc.get_freeze_count() > 100_000


def test_a_token_opens_a_session_that_scripts_cannot_read(studio, guest):
    token = studio.accounts.add_token("ann")
    answer = guest.post("/login", data={"token": f" {token} "})
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; ")) and token not in cookie
    assert guest.get("/me").json()["name"] == "ann"
    assert guest.get("/page/en/").status_code == 200
    guest.post("/logout")
    assert guest.get("/me").status_code == 401


def test_a_session_ends_with_its_token_and_cannot_be_forged(studio, guest, ann):
    session = ann.cookies["calotype_session"]
    prefix, token_id, until, signature = session.split("_")
    for forged in (f"{prefix}_{token_id}_{int(until) + 1}_{signature}", session[:-1] + "x", "ses_", token_id, ""):
        assert studio.accounts.of_session(forged) is None
    assert studio.accounts.of_session(session).name == "ann"
    studio.accounts.remove_tokens("ann")
    assert studio.accounts.of_session(session) is None


def test_logging_out_ends_the_session_in_every_window(studio, guest, ann):
    session = ann.cookies["calotype_session"]
    assert ann.get("/me").status_code == 200
    ann.post("/logout")
    other = TestClient(studio.app, base_url=ADDRESS, cookies={"calotype_session": session}, follow_redirects=False)
    other.portal = studio.portal
    assert other.get("/me").status_code == 401 and studio.accounts.of_session(session) is None


def test_a_session_ends_in_time(tmp_path):
    from calotype.jobs.store import JobStore
    from calotype.jobs.users import Accounts

    now = [1e9]
    store = JobStore("", tmp_path)
    accounts = Accounts(store.database, lambda: now[0])
    accounts.add("ann")
    session = accounts.open_session(accounts.add_token("ann"), 60)
    assert accounts.open_session("cal_" + "0" * 16 + "_" + "a" * 43, 60) is None
    now[0] += 59
    assert accounts.of_session(session)
    now[0] += 2
    assert accounts.of_session(session) is None
    store.close()


def test_a_wrong_token_is_answered_by_the_form_with_a_sentence(guest):
    answer = guest.post("/login", data={"token": "<b>"})
    assert answer.status_code == 401 and "not a valid token" in answer.text and "<b>" not in answer.text
    style = re.search("<style>(.*?)</style>", answer.text, re.DOTALL)[1]
    assert csp_hash(style) in answer.headers["content-security-policy"] and "<script" not in answer.text


def test_a_cookie_alone_changes_nothing_without_the_origin_of_the_page(ann):
    del ann.headers["Origin"]
    assert ann.get("/jobs").status_code == 200
    assert ann.post("/uploads", content=b"x").status_code == 403
    assert ann.post("/uploads", content=b"x", headers={"Origin": "https://example.org"}).status_code == 403


def test_the_policy_allows_the_scripts_of_the_page_and_no_other_site(ann):
    answer = ann.get("/page/zh/")
    policy, page = answer.headers["content-security-policy"], answer.text
    assert "unsafe-eval" not in policy and "http" not in policy.replace("'self'", "")
    for script in re.findall(r"<script(?![^>]*\b(?:src|type)=)[^>]*>(.*?)</script>", page, re.DOTALL):
        assert csp_hash(script) in policy
    assert '<html\n\tlang="zh"' in page and "githubusercontent" not in page and "gradio.app" not in page
    assert set(json.loads(re.search('id="ct-texts">(.*?)</script>', page)[1])) == set(script_templates())


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "fr,en;q=0.2,zh;q=0.5", "zh"),
        (None, "zh;q=0, de", "en"),
        ("zh", "en", "zh"),
        ("xx", "en", "en"),
    ],
)
def test_the_language_is_that_of_the_switch_or_of_the_browser(cookie, accepted, language):
    assert preferred(cookie, accepted) == language


def test_the_switch_keeps_a_language_and_leads_to_its_page(ann):
    ann.post("/language", data={"language": "zh"})
    assert ann.get("/", headers={"Accept-Language": "en"}).headers["location"] == "/page/zh/"


def test_the_body_of_a_form_is_small(ann):
    address = "/page/en/gradio_api/run/predict"
    assert ann.post(address, json={"data": ["x" * (1 << 20)], "fn_index": 0}).status_code == 413


def test_texts_of_scripts_are_found():
    templates = script_templates()
    assert "Drop old photos here" in templates and "{count} photos are in the queue" in templates
    assert Texts("en")("{count} photos", count=3) == "3 photos"


def test_a_page_that_could_not_be_built_is_built_at_the_next_request(tmp_path):
    studio = StudioService(tmp_path)
    shelf = ModelStore(studio.settings).folder / "shelf.json"
    shelf.parent.mkdir(parents=True)
    shelf.write_text("{")
    with TestClient(studio.app, base_url=ADDRESS) as client:
        refused = client.get("/page/en/")
        assert refused.status_code == 422 and "shelf.json is damaged" in refused.json()["detail"]
        shelf.unlink()
        assert client.get("/page/en/").status_code == 200
    studio.store.close()


def test_an_invitation_opens_an_account_whose_token_is_shown_once(studio, guest):
    invitation = studio.accounts.invite()
    for given, about in (
        ({"invitation": "inv_wrong", "name": "kim"}, "invitation"),
        ({"invitation": invitation, "name": "<b>"}, "name"),
        ({"invitation": invitation, "name": "ann"}, "name"),
    ):
        refused = guest.post("/join", data=given)
        assert refused.status_code in (404, 409, 422) and "<b>" not in refused.text
        assert re.search(f'id="{about}"[^>]*aria-invalid', refused.text) and 'role="alert"' in refused.text
    opened = guest.post("/join", data={"invitation": invitation, "name": " kim "})
    token = re.search("cal_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", opened.text)[0]
    assert studio.accounts.verify(token).name == guest.get("/me").json()["name"] == "kim"
    assert opened.headers["cache-control"] == "no-store" and token not in opened.headers["set-cookie"]
    again = guest.post("/join", data={"invitation": invitation, "name": "kay"}, headers={"Accept-Language": "zh"})
    assert again.status_code == 429 and "used up" not in again.text


def test_the_frame_of_the_page_and_the_log_in_are_in_the_language_of_the_browser(ann):
    words = Wording("zh").translate
    assert words("Log out") in ann.get("/page/zh/").text
    shown = ann.get("/login", headers={"Accept-Language": "zh"}).text
    assert '<html lang="zh">' in shown and words("Your token") in shown and words("Log in") != "Log in"
