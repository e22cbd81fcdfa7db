"""Pictures that a request names by their address: fetched by https, from public addresses only, where that is allowed.

A name is looked up once, and the connection goes to an address that was found then, whatever the name means later.
"""

import functools
import ipaddress
import socket
import ssl

import anyio
import httpx

from calotype.errors import CalotypeError
from calotype.options import shown

SECONDS = 20.0  # from the look-up of the name to the last byte
HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "calotype"}
IPV6 = ipaddress.ip_network("2000::/3")  # the only public ones; not those that stand for an IPv4 address
NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20")))
FAULTS = (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError)


def is_address(text: str) -> bool:
    """Whether a text is an address of any scheme, rather than a picture in base64."""
    return text[:8].lower().startswith(("http:", "https:", "file:", "ftp:"))


async def fetch(address: str, option: str, limit: int) -> bytes:
    """The file at an address.

    Args:
        limit: bytes.
    Raises:
        CalotypeError: not https, no public address, a redirection, another error, or too large or too slow.
    """
    url = _url(address, option)
    try:
        with anyio.fail_after(SECONDS):
            hosts = await _public_hosts(url, option)
            for host in hosts[:-1]:
                try:
                    return await _fetch_from(host, url, option, limit)
                except httpx.ConnectError:
                    continue
            return await _fetch_from(hosts[-1], url, option, limit)
    except TimeoutError:
        raise CalotypeError(
            "{option} could not be fetched within {seconds:g} s", option=option, seconds=SECONDS
        ) from None
    except FAULTS as fault:
        reason = type(fault).__name__ if isinstance(fault, httpx.HTTPError) else "no connection"
        raise CalotypeError("{option} could not be fetched ({reason})", option=option, reason=reason) from None


def _url(address: str, option: str) -> httpx.URL:
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError):
        raise CalotypeError("{option} is not a valid address", option=option) from None
    if url.scheme != "https" or not url.host or url.userinfo:
        raise CalotypeError(
            "{option} is an address that is not fetched; only https addresses without a password are, not {value}",
            option=option,
            value=shown(f"{url.scheme}:"),
        )
    return url


async def _public_hosts(url: httpx.URL, option: str) -> list[str]:
    """The addresses of the host. Raises CalotypeError if there are none, or if one of them is not public."""
    try:
        found = await anyio.getaddrinfo(url.raw_host.decode("ascii"), url.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        found = []
    hosts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not hosts or not all(map(is_public, hosts)):
        raise CalotypeError("{option} names a host that has no public address", option=option)
    return hosts


def is_public(host: str) -> bool:
    """Whether an address belongs to the internet: to no computer of this network, and to no group of computers."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # with a zone, as fe80::1%eth0
        return False
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local:
        return False
    if any(address in network for network in NOT_PUBLIC if network.version == address.version):
        return False
    return address.version == 4 or address in IPV6


async def _fetch_from(host: str, url: httpx.URL, option: str, limit: int) -> bytes:
    """The file, by a connection to the address `host`, whose certificate is that of the name in `url`."""
    headers = HEADERS | {"Host": url.netloc.decode("ascii")}
    # without the proxies of the environment, which would look the name up again
    async with httpx.AsyncClient(verify=_tls(), trust_env=False, follow_redirects=False, timeout=SECONDS) as client:
        request = client.build_request("GET", url.copy_with(host=host), headers=headers)
        request.extensions["sni_hostname"] = url.raw_host.decode("ascii")
        response = await client.send(request, stream=True)
        try:
            if response.is_redirect:
                raise CalotypeError("{option} is a redirection, which is not followed; send the picture", option=option)
            if response.status_code != httpx.codes.OK:
                raise CalotypeError(
                    "{option} could not be fetched: its server answers {status}",
                    option=option,
                    status=response.status_code,
                )
            content = bytearray()
            async for block in response.aiter_raw():
                content += block
                if len(content) > limit:
                    raise CalotypeError(
                        "{option} is larger than {limit:,} bytes, the limit here", option=option, limit=limit
                    )
            return bytes(content)
        finally:
            await response.aclose()


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
