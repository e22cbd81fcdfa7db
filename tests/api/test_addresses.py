"""Pictures by their addresses: from a TLS server on this computer, under a name that a test's resolver knows."""

import base64
import datetime
import http.server
import io
import ssl
import threading
import time

import anyio
import pytest
from PIL import Image

from calotype.api import addresses
from calotype.api.service import MAX_FETCHES, Service
from calotype.api.settings import ServiceSettings
from calotype.errors import CalotypeError
from tests.api.conftest import client_of, png, working

x509 = pytest.importorskip("cryptography.x509")
NAME = "pictures.example"


def certificate(name, folder):
    """A certificate of a name, signed by itself, and its key."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, issuer = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]),
    )
    now = datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder().subject_name(issuer).issuer_name(issuer).public_key(key.public_key())
    built = (
        built.serial_number(1)
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
    )
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = built.sign(key, hashes.SHA256())
    path = folder / f"{name}.pem"
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(serialization.Encoding.PEM, *plain)
    )
    return path


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Host"], self.headers["Accept-Encoding"]))
        if self.path == "/moved.png":
            self.send_response(302)
            self.send_header("Location", "/a.png")
            self.end_headers()
        elif self.path == "/missing.png":
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            self._send()

    def _send(self):
        parts = {"/slow.png": 1000, "/large.png": 1000}.get(self.path, 1)
        try:
            for _ in range(parts):
                self.wfile.write(png() if parts == 1 else bytes(1 << 12))
                time.sleep(0.05 if self.path == "/slow.png" else 0)
        except OSError:  # the client has had enough
            pass

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    path, names = certificate(NAME, tmp_path_factory.mktemp("tls")), []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.sni_callback = lambda _, name, __: names.append(name)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    listening.names, listening.path = names, path
    listening.asked = []
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield listening
    listening.shutdown()
    thread.join()


@pytest.fixture
def resolver(server, monkeypatch):
    """What the name means: looked up once a request; only the addresses that tests add are public."""
    found, looked_up = {NAME: ["127.0.0.1"], "other.example": ["127.0.0.1"]}, []

    async def getaddrinfo(host, port, **_):
        looked_up.append(host)
        return [(2, 1, 6, "", (address, port)) for address in found[host]]

    server.asked.clear()
    server.names.clear()
    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    is_public = addresses.is_public
    monkeypatch.setattr(addresses, "is_public", lambda host: host == "127.0.0.1" or is_public(host))
    monkeypatch.setattr(addresses, "_tls", lambda: ssl.create_default_context(cafile=str(server.path)))
    server.found, server.looked_up = found, looked_up
    return found


def fetched(server, path, name=NAME, limit=1 << 20):
    address = f"https://{name}:{server.server_port}{path}"
    return anyio.run(addresses.fetch, address, "image", limit)


def test_a_picture_comes_from_the_address_that_was_looked_up(server, resolver):
    assert fetched(server, "/a.png") == png()
    assert server.asked == [("/a.png", f"{NAME}:{server.server_port}", "identity")]
    assert server.names == [NAME] and server.looked_up == [NAME], "one look-up; the certificate is that of the name"


@pytest.mark.parametrize(
    "path, words",
    [
        ("/moved.png", "image is a redirection, which is not followed"),
        ("/missing.png", "its server answers 404"),
        ("/large.png", "image is larger than 10,000 bytes, the limit here"),
        ("/slow.png", "image could not be fetched within 0.3 s"),
    ],
)
def test_what_is_not_fetched_is_said(server, resolver, monkeypatch, path, words):
    monkeypatch.setattr(addresses, "SECONDS", 0.3 if path == "/slow.png" else 20)
    started = time.monotonic()
    with pytest.raises(CalotypeError, match=words):
        fetched(server, path, limit=10_000 if path == "/large.png" else 1 << 30)
    assert time.monotonic() - started < 3 and [asked[0] for asked in server.asked] == [path]


def test_the_certificate_is_that_of_the_name(server, resolver):
    with pytest.raises(CalotypeError, match="could not be fetched"):
        fetched(server, "/a.png", name="other.example")
    assert not server.asked


@pytest.mark.parametrize(
    "found",
    [
        *([], ["10.0.0.1"], ["169.254.169.254"], ["100.64.0.1"], ["0.0.0.0"], ["224.0.0.1"], ["192.88.99.1"]),
        *(["::1"], ["fe80::1"], ["fe80::1%eth0"], ["fc00::1"], ["ff02::1"], ["::ffff:127.0.0.1"], ["::127.0.0.1"]),
        *(["64:ff9b::7f00:1"], ["64:ff9b::a00:1"], ["2002:7f00:1::1"], ["2001:0:1::1"], ["::ffff:8.8.8.8"]),
        ["127.0.0.1", "10.0.0.1"],  # one of both is not public; 127.0.0.1 is in this test
    ],
)
def test_only_public_addresses_are_asked(server, resolver, found):
    resolver[NAME] = found
    with pytest.raises(CalotypeError, match="image names a host that has no public address"):
        fetched(server, "/a.png")
    assert not server.asked


def test_public_addresses():
    assert all(map(addresses.is_public, ("1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2001:4860:4860::8888")))
    assert not any(map(addresses.is_public, ("127.0.0.1", "", "localhost")))


@pytest.mark.parametrize(
    "address",
    ["http://a.example/a.png", "https://ann:secret@a.example/a.png", "https://", "https:///a.png", "ftp://a/b"],
)
def test_other_addresses_are_refused_before_a_look_up(resolver, server, address):
    with pytest.raises(CalotypeError) as fault:
        anyio.run(addresses.fetch, address, "image", 1)
    assert fault.value.option == "image" and "secret" not in str(fault.value) and not server.looked_up


def test_numbers_that_mean_this_computer_are_refused():
    for host in ("127.1", "2130706433", "0x7f.1", "[::1]", "localhost", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"):
        with pytest.raises(CalotypeError, match=r"no public address|not a valid address"):
            anyio.run(addresses.fetch, f"https://{host}:9/a.png", "image", 1)


def test_the_second_address_is_tried_where_the_first_refuses(server, resolver, monkeypatch):
    monkeypatch.setattr(addresses, "is_public", lambda host: True)
    resolver[NAME] = ["127.0.0.2", "127.0.0.1"]  # the server listens on the second one only
    assert fetched(server, "/a.png") == png() and server.looked_up == [NAME]


def test_requests_name_pictures_where_it_is_switched_on(server, resolver, shared_app, store, home):
    address = f"https://{NAME}:{server.server_port}/a.png"
    client = client_of(shared_app)
    for is_on in (False, True):
        shared_app.state.service = Service(store, home, ServiceSettings(image_urls=is_on))
        with working(store, png()):
            answers = [
                client.post("/sdapi/v1/png-info", json={"image": address}),
                client.post("/sdapi/v1/extra-single-image", json={"image": address, "upscaler_1": "Lanczos"}),
                client.post("/sdapi/v1/img2img", json={"prompt": "fox", "init_images": [address], "mask": address}),
            ]
        assert [answer.status_code for answer in answers] == [200 if is_on else 422] * 3, answers[-1].text
        assert len(server.asked) == (4 if is_on else 0)
    [drawn] = [job for job in store.find() if job.kind == "imagine"]
    sent = store.files.upload(drawn.files["init"].partition("/")[0]).read_bytes()
    assert Image.open(io.BytesIO(sent)).getpixel((0, 0)) == (200, 30, 40)
    plain = base64.b64encode(png()).decode()
    assert client.post("/sdapi/v1/png-info", json={"image": plain}).status_code == 200


def test_slow_addresses_do_not_hold_the_whole_service(server, resolver, shared_app, store, home, monkeypatch):
    monkeypatch.setattr(addresses, "SECONDS", 2.0)
    shared_app.state.service = Service(store, home, ServiceSettings(image_urls=True))
    body = {"image": f"https://{NAME}:{server.server_port}/slow.png"}
    client, answers = client_of(shared_app), []

    def ask():
        answers.append(client.post("/sdapi/v1/png-info", json=body))

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    assert client.get("/jobs").status_code == 200 and time.monotonic() - started < 1.5
    for thread in threads:
        thread.join()
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [422] * MAX_FETCHES + [429] * (40 - MAX_FETCHES)
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "8 pictures are being fetched" in refused.json()["detail"] and refused.headers["Retry-After"]
    assert shared_app.state.service.fetches.count == 0
