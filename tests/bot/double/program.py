"""`calotype bot` as a process of its own, which can be killed."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from calotype.bot.settings import TOKEN as VARIABLE
from tests.bot.double.conftest import eventually
from tests.bot.double.server import Discord

ROOT = Path(__file__).parents[3]
START_SECONDS = 60.0


class Program:
    """The command line on a double.

    Args:
        options: of `calotype bot`.
        token: if it is another one than the double's.
        is_verbose: logs all that discord.py and aiohttp log.
    """

    def __init__(self, double: Discord, home: Path, *options: str, token: str = "", is_verbose: bool = False):
        self.double, self.output, self.errors = double, "", ""
        self._command = [sys.executable, *(["-X", "dev"] if is_verbose else []), "-m", "tests.bot.double.run"]
        self._command += [double.base, "bot", *options]
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), "CALOTYPE_HOME": str(home), "LANGUAGE": "en"}
        self._environ |= {VARIABLE: token or double.token}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task | None = None

    async def start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=ROOT, env=self._environ, stdout=pipe, stderr=pipe
        )
        self._reading = asyncio.create_task(self._process.communicate())

    async def connect(self) -> None:
        """Starts it, and waits until it is connected."""
        before = self.double.gateway.identified
        await self.start()
        await eventually(lambda: self.double.gateway.identified > before or self._reading.done(), START_SECONDS)
        if self._reading.done():
            raise AssertionError(f"it ended: {(await self._reading)[1].decode()}")

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Until it has ended. Returns its exit status."""
        output, errors = await asyncio.wait_for(self._reading, START_SECONDS)
        self.output += output.decode()
        self.errors += errors.decode()
        self.double.gateway.forget()
        return self._process.returncode

    async def run(self) -> int:
        """From its start to its end."""
        await self.start()
        return await self.wait()

    def kill_now(self) -> None:
        self._process.kill()

    async def kill(self) -> None:
        self.kill_now()
        await self.wait()

    async def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return await self.wait()
