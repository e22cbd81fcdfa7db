"""Settings of the service, besides those of the process (`calotype.settings`). Imports no server."""

import ipaddress
from dataclasses import dataclass

from calotype.options import option

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
    max_upload: int = option(256, "largest upload in MiB", min=1, max=1 << 20, env="CALOTYPE_MAX_UPLOAD")
    worker_token: str = option(
        "",
        "token of workers on other computers, 32 random characters or more; empty: only workers of this computer",
        env="CALOTYPE_WORKER_TOKEN",
    )
    log_prompts: bool = option(False, "also log the options of jobs, prompts included")

    @property
    def is_local(self) -> bool:
        """Whether only programs of this computer reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
