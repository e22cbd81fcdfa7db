"""Services behind a reverse proxy: who makes a request, and who cannot pretend to be somebody else."""

import pytest
from fastapi.testclient import TestClient

from calotype.api.app import create_app
from calotype.api.settings import ServiceSettings
from calotype.errors import CalotypeError
from tests.api.conftest import ADDRESS

PROXY, SECOND = "10.0.0.2", "10.9.8.7"
WRONG = {"Authorization": f"Bearer cal_{'0' * 16}_{'a' * 43}"}


@pytest.fixture
def service(store, home, accounts):
    return create_app(store, home, ServiceSettings(trust_proxy=(PROXY, "10.9.0.0/16", "fd00::/8")), accounts=accounts)


def address(app, peer, *forwarded):
    """The address that the service sees of a request from `peer` with these headers X-Forwarded-For."""
    found = []
    app.state.service.accounts.verify = lambda token: found.append(token)  # answers None: refused
    app.state.service.failures.take = lambda key: found.append(key)
    client = TestClient(app, base_url=ADDRESS, client=(peer, 5000))
    client.get("/me", headers=[*WRONG.items(), *(("X-Forwarded-For", value) for value in forwarded)])
    return found[-1]


@pytest.mark.parametrize(
    "peer, forwarded, expected",
    [
        (PROXY, ["203.0.113.9"], "203.0.113.9"),
        (PROXY, ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),  # the first entry is the client's own invention
        (PROXY, ["198.51.100.1", "203.0.113.9"], "203.0.113.9"),  # a header that the proxy has added
        (PROXY, [f"198.51.100.1, 203.0.113.9, {SECOND}"], "203.0.113.9"),  # two proxies
        (PROXY, ["203.0.113.9:61234"], "203.0.113.9"),
        (PROXY, ["::ffff:203.0.113.9"], "203.0.113.9"),
        (PROXY, ["[2001:db8:1:2:3::4]:61234"], "2001:db8:1:2::/64"),
        ("fd00::1", ["203.0.113.9"], "203.0.113.9"),
        (PROXY, [], PROXY),
        (PROXY, [""], PROXY),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # whoever is no proxy says nothing
        ("203.0.113.9", [PROXY], "203.0.113.9"),
        ("2001:db8:1:2::ffff", ["198.51.100.1"], "2001:db8:1:2::/64"),
        ("10.0.0.3", ["198.51.100.1"], "10.0.0.3"),
    ],
)
def test_only_a_trusted_proxy_says_who_makes_a_request(service, peer, forwarded, expected):
    assert address(service, peer, *forwarded) == expected


def test_wrong_tokens_of_one_person_lock_nobody_else_out(service, accounts):
    accounts.add("ann")
    token = accounts.add_token("ann")
    client = TestClient(service, base_url=ADDRESS, client=(PROXY, 5000))
    for n in range(25):  # pretending to be somebody else each time
        refused = client.get("/me", headers=WRONG | {"X-Forwarded-For": f"198.51.100.{n}, 203.0.113.66"})
    assert refused.status_code == 429
    right = {"Authorization": f"Bearer {token}"}
    assert client.get("/me", headers=right | {"X-Forwarded-For": "203.0.113.7"}).status_code == 200
    assert client.get("/me", headers=right | {"X-Forwarded-For": "203.0.113.66"}).status_code == 429


def test_no_proxy_is_trusted_unless_it_is_named(store, home, accounts):
    accounts.add("ann")
    app = create_app(store, home, ServiceSettings(), accounts=accounts)
    assert address(app, "127.0.0.1", "198.51.100.1") == "127.0.0.1"


@pytest.mark.parametrize("text", ["*", "", "proxy", "10.0.0.0/99", "10.0.0.1/8"])
def test_a_proxy_is_an_address_or_a_network(text):
    with pytest.raises(CalotypeError) as fault:
        ServiceSettings(trust_proxy=(text,))
    assert fault.value.option == "trust_proxy"


def test_a_service_behind_a_proxy_needs_accounts(store, home):
    with pytest.raises(CalotypeError, match="needs accounts"):
        create_app(store, home, ServiceSettings(trust_proxy=("127.0.0.1",)))
