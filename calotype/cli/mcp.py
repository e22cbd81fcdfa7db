"""`calotype mcp`: the service for a language model on this computer."""

import contextlib
from typing import Any

from calotype.cli.flags import flag, flags, given_options, set_signature
from calotype.cli.serve import PACKAGES, set_up_log, worker_process
from calotype.cli.worker import check_packages
from calotype.settings import Settings, gathered
from calotype.worker.worker_options import WorkerOptions


def mcp(**values: Any) -> int:
    """Serve tools for language models over the Model Context Protocol (MCP), on standard input and output.

    The program that starts it, such as a desktop assistant, can generate, redraw, restore and enlarge pictures. Its
    jobs are those of the only user of `calotype serve`, which offers the same tools over HTTP at /mcp.
    """
    settings = Settings.gather(given_options(Settings, values))
    options = gathered(WorkerOptions, given_options(WorkerOptions, values))
    check_packages(*PACKAGES)
    import anyio

    from calotype.api.mcp import serve_stdio
    from calotype.api.service import Service
    from calotype.api.settings import ServiceSettings
    from calotype.worker.supervisor import ProcessSetup

    set_up_log(quiet=True)
    with contextlib.closing(ProcessSetup(settings, options, "").open_store()) as store:
        service = Service(store, settings, ServiceSettings())
        worker = contextlib.nullcontext() if values["no_worker"] else worker_process(settings, options)
        anyio.run(serve_stdio, service, worker)
    return 0


set_signature(
    mcp,
    *flags(WorkerOptions, Settings),
    flag("no_worker", "start no worker; that of `calotype serve`, or workers of their own run the jobs", panel="Jobs"),
)
