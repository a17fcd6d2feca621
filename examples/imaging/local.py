"""``forebay up imaging:app`` as a child of the demo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

APP_DIR = Path(__file__).resolve().parents[1]
"""The folder that the package ``imaging`` lies in."""

STOP_SECONDS = 90.0
"""How long the platform may take to stop in order. The bounds of its parts sum to less, by default."""

HURRY_SECONDS = 15.0
"""How long it may take once it was asked twice."""


class PlatformEnded(Exception):
    """``forebay up`` ended when it should not have, or not when it should; the text says what it wrote."""


class Platform:
    """A running ``forebay up``, with its output in a file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self.log = log

    def last_lines(self, count: int) -> list[str]:
        """Read the end of what it has written so far."""
        return self.log.read_text("utf-8", errors="replace").splitlines()[-count:]

    @property
    def doing(self) -> str:
        """What ``forebay up`` says that it is doing."""
        said = [line.partition(" | ")[2] for line in self.last_lines(1000) if line.startswith("forebay ")]
        return said[-1] if said else "starting"

    async def until_ended(self) -> None:
        """Wait for it to end by itself, which it should not.

        Raises:
            PlatformEnded: it did.
        """
        status = await self._process.wait()
        how = f"exited with status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
        tail = "\n".join(f"  {line}" for line in self.last_lines(12))
        raise PlatformEnded(f"'forebay up' {how}. The end of {self.log}:\n{tail}")

    async def alongside(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do some work for which the platform has to be there.

        Raises:
            PlatformEnded: it ended before the work was done.
        """
        working, ending = asyncio.ensure_future(work), asyncio.ensure_future(self.until_ended())
        try:
            await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done() and not (working.done() and working.exception() is None):
                await ending
            return await working
        finally:
            working.cancel()
            ending.cancel()
            await asyncio.gather(working, ending, return_exceptions=True)

    async def stop(self) -> None:
        """Ask it to stop in order, and wait. If this is cancelled, it is asked to hurry.

        Raises:
            PlatformEnded: it did not stop in time and was killed.
        """
        try:
            await self._terminate(STOP_SECONDS)
        except asyncio.CancelledError:
            await self._terminate(HURRY_SECONDS)
            raise

    async def _terminate(self, seconds: float) -> None:
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise PlatformEnded(
                f"'forebay up' did not stop within {seconds:g} s and was killed; see {self.log}"
            ) from None


@contextlib.asynccontextmanager
async def forebay_up(log: Path) -> AsyncIterator[Platform]:
    """Start ``forebay up imaging:app``, with this environment and its output in ``log``, and stop it in the end."""
    command = ["-m", "forebay_cli", "up", "imaging:app", "--app-dir", str(APP_DIR)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        # A session of its own, so that Ctrl-C reaches the demo alone and there is one who stops things in order.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    platform = Platform(process, log)
    try:
        yield platform
    finally:
        await platform.stop()
