"""What the commands have in common that run a service: the extra it needs, its log and its loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

REPEAT_AFTER = 10.0
"""Seconds after which the Kafka client may say the same again."""

_REMEMBERED = 100


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

    _log_to_stderr()
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


def _log_to_stderr() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("aiokafka", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # A fresh cluster makes its coordinator when the first group asks for it, which the client reports as errors.
    logging.getLogger("aiokafka.consumer.group_coordinator").addFilter(
        lambda record: "GroupCoordinatorNotAvailableError" not in record.getMessage()
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(_thin_out())


def _thin_out() -> Callable[[Any], bool]:
    """Return a log filter that passes on what the Kafka client repeats once in a while.

    While the broker is away it says so many times a second, which would bury everything else.
    """
    last: dict[str, float] = {}

    def passes(record: Any) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        message = record.getMessage()
        if record.created - last.get(message, 0.0) < REPEAT_AFTER:
            return False
        if len(last) >= _REMEMBERED:
            last.clear()
        last[message] = record.created
        return True

    return passes
