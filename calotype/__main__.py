"""`calotype` and `python -m calotype`."""

import signal


def enter() -> None:
    """Runs the command line. An interrupt while its modules are imported ends the process at once, and quietly."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # and not ignored, as of what runs in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from calotype import cli

    signal.signal(signal.SIGINT, handler)
    cli.enter()


if __name__ == "__main__":
    enter()
