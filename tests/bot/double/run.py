"""`python -m tests.bot.double.run ADDRESS bot …`: the command line, with Discord at this address.

With `python -X dev`, all that is logged goes to standard error.
"""

import logging
import sys

from calotype.cli import enter
from tests.bot.double.server import redirect

if __name__ == "__main__":
    if sys.flags.dev_mode:
        logging.basicConfig(level=logging.DEBUG)
        for name in ("discord", "aiohttp", "asyncio", "calotype"):
            logging.getLogger(name).propagate = True
    redirect(sys.argv.pop(1))
    enter()
