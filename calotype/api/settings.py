"""Settings of the service, besides those of the process (`calotype.settings`). Imports no server."""

import ipaddress
from dataclasses import dataclass

from calotype.errors import CalotypeError
from calotype.options import option, shown

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """Address, storage and limits of the service."""

    TITLE = "Service"

    host: str = option(
        "127.0.0.1", "address to listen on; all but 127.0.0.1 and ::1 need accounts", env="CALOTYPE_HOST"
    )
    port: int = option(7860, "port to listen on; 0 chooses a free one", min=0, max=65_535, env="CALOTYPE_PORT")
    allow_host: tuple[str, ...] = option(
        (), "further host name under which browsers reach the service, such as studio.example.org"
    )
    trust_proxy: tuple[str, ...] = option(
        (),
        "address or network of a reverse proxy, such as 127.0.0.1 or 10.0.0.0/8: the header X-Forwarded-For of its "
        "requests says who makes them",
    )
    max_upload: int = option(256, "largest upload in MiB", min=1, max=1 << 20, env="CALOTYPE_MAX_UPLOAD")
    worker_token: str = option(
        "",
        "token of workers on other computers, 32 random characters or more; empty: only workers of this computer",
        env="CALOTYPE_WORKER_TOKEN",
    )
    image_urls: bool = option(
        False, "fetch pictures that a request names by an https address, from public addresses of the internet only"
    )
    import_folder: tuple[str, ...] = option(
        (), "folder of A1111, Forge or ComfyUI whose models the owner can put on the list from the page"
    )
    log_prompts: bool = option(False, "also log the options of jobs, prompts included")

    def __post_init__(self) -> None:
        for text in self.trust_proxy:
            try:
                ipaddress.ip_network(text)
            except ValueError:
                raise CalotypeError(
                    "{option} takes an address or a network, such as 10.0.0.0/8, not {value}",
                    option="trust_proxy",
                    value=shown(text),
                ) from None

    @property
    def is_local(self) -> bool:
        """Whether only programs of this computer reach the service."""
        if self.trust_proxy:  # which others use
            return False
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
