"""What the commands have in common that run a service, or ask the cluster something."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Answer = TypeVar("Answer")


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
    """Run a service until it ends, on uvloop where there is one."""
    try:
        import uvloop
    except ModuleNotFoundError:
        import asyncio

        asyncio.run(service)
    else:
        uvloop.run(service)


def ask(question: Coroutine[Any, Any, Answer]) -> Answer:
    """Ask the cluster something from a command that is not a service, and return the answer."""
    import asyncio
    import logging

    # The client logs what it raises as well; here that would tell a person everything twice.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    return asyncio.run(question)
