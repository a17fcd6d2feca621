"""What the commands have in common that run a service: the extra it needs, its log and its loop."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def needs_extra(command: str, extra: str) -> Iterator[None]:
    """Import a service inside this, so that a package which is not installed is told as the extra that brings it.

    Raises:
        ConfigurationError: a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0].startswith("forebay"):
            raise
        from forebay.errors import ConfigurationError

        raise ConfigurationError(
            f"forebay {command} needs the '{extra}' extra: pip install 'forebay[{extra}]' ({error.name} is missing)"
        ) from error


def run(service: Coroutine[Any, Any, None]) -> None:
    """Run a service until it ends, on uvloop where there is one, with its log on stderr."""
    import gc

    from forebay_cli.log import log_to_stderr

    log_to_stderr()
    # What the imports made stays to the end: the collector need not look at it again. What a request makes is freed by
    # reference counting, so looking for cycles every 700 allocations finds nothing and costs a few percent.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        import uvloop
    except ModuleNotFoundError:
        import asyncio

        asyncio.run(service)
    else:
        uvloop.run(service)
