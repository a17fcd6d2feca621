"""Declaring operations on an app."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from forebay.app.body import LEFT_TO_AVRO, Body
from forebay.app.derive import derive_schema
from forebay.app.media import JSON, MEDIA_RANGE, MEDIA_TYPE, OCTETS
from forebay.app.operation import ExecutionMode, Operation
from forebay.errors import AppError
from forebay.job import Job
from forebay.settings import TIERS

Handler = TypeVar("Handler", bound=Callable[..., Any])

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class Forebay:
    """An app: give it a name, declare operations on it, and name it to a processor.

    Args:
        name: letters, digits, ``_`` and ``-``.

    Raises:
        AppError: the name has other characters.
    """

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise AppError(f"app name {name!r}: it takes a lower-case letter, then up to 63 of a-z, 0-9, '_' and '-'")
        self.name = name
        self._operations: dict[str, Operation] = {}

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations declared so far, by name."""
        return dict(self._operations)

    def operation(
        self,
        *,
        name: str | None = None,
        tier: str = "standard",
        deadline: float = 30.0,
        cpu: bool = False,
        accepts: str | None = None,
        returns: str | None = None,
    ) -> Callable[[Handler], Handler]:
        """Declare a handler as an operation.

        An ``async def`` handler runs on the processor's loop, a plain ``def`` in a thread. The request and the result
        are dataclasses, from whose types the Avro schema is derived, or ``bytes`` as they come. A second parameter, if
        there is one, gets the `Job`.

        Args:
            name: name of the operation; default: the function's.
            tier: the lane of the queue: ``interactive``, ``standard`` or ``bulk``.
            deadline: seconds that a caller waits at the most.
            cpu: run the handler, a plain ``def``, in a process of its own, which is killed at the deadline: for work
                that
                keeps a core busy.
            accepts: media type of the request, for a handler that takes ``bytes``, or a range such as ``image/*``.
            returns: media type of the result, for a handler that gives ``bytes``.

        Raises:
            AppError: at declaration, if the operation cannot work; the message names it.
        """

        def declare(handler: Handler) -> Handler:
            operation = _declare(self.name, handler, name, tier, deadline, cpu, accepts, returns)
            if operation.name in self._operations:
                raise AppError(f"operation '{operation.name}' is declared twice in app '{self.name}'")
            self._operations[operation.name] = operation
            return handler

        return declare


def _declare(
    app: str,
    handler: Callable[..., Any],
    name: str | None,
    tier: str,
    deadline: float,
    cpu: bool,
    accepts: str | None,
    returns: str | None,
) -> Operation:
    name = name or str(getattr(handler, "__name__", type(handler).__name__))
    where = f"operation '{name}'"
    if not _NAME.fullmatch(name):
        raise AppError(f"{where}: a name takes a lower-case letter, then up to 63 of a-z, 0-9, '_' and '-'")
    if tier not in TIERS:
        raise AppError(f"{where}: tier {tier!r} is none of {', '.join(TIERS)}")
    if not isinstance(deadline, int | float) or not 0.001 <= deadline <= 86_400:
        raise AppError(f"{where}: deadline {deadline!r} is not between 0.001 and 86400 seconds")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise AppError(f"{where}: the handler is a generator; it returns one result")
    on_loop = inspect.iscoroutinefunction(handler)
    if cpu and on_loop:
        raise AppError(f"{where}: cpu=True runs the handler in a process, so it must be a plain def")
    parameters = list(inspect.signature(handler).parameters.values())
    if not 1 <= len(parameters) <= 2:
        raise AppError(
            f"{where}: the handler takes the request and, if it likes, the job; not {len(parameters)} parameters"
        )
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise AppError(f"{where}: the handler gets its arguments by position, which '{parameter}' does not take")
    try:
        hints = typing.get_type_hints(handler, include_extras=True)
    except NameError as error:
        raise AppError(f"{where}: its types cannot be resolved: {error}") from error
    for parameter in parameters[1:]:
        hint = hints.get(parameter.name, Job)
        if Job not in (hint, *typing.get_args(hint)):
            raise AppError(f"{where}: the second parameter, '{parameter}', is for the Job")
    return Operation(
        name=name,
        app=app,
        description=(inspect.getdoc(handler) or "").partition("\n\n")[0].replace("\n", " "),
        tier=tier,
        deadline=float(deadline),
        mode=ExecutionMode.IN_PROCESS if cpu else ExecutionMode.ON_LOOP if on_loop else ExecutionMode.IN_THREAD,
        handler=handler,
        takes_job=len(parameters) == 2,
        request=_body(where, "request", hints.get(parameters[0].name), accepts, "accepts", app),
        result=_body(where, "result", hints.get("return"), returns, "returns", app),
    )


def _body(where: str, side: str, hint: Any, media_type: str | None, option: str, app: str) -> Body:
    if hint is bytes:
        media_type = (media_type or OCTETS).lower() if option == "accepts" else media_type or OCTETS
        if not (MEDIA_RANGE if option == "accepts" else MEDIA_TYPE).fullmatch(media_type):
            takes = "a media type without parameters, or a range" if option == "accepts" else "a media type"
            raise AppError(f"{where}: {option}={media_type!r} is not {takes}")
        return Body(media_type, bytes, None)
    if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        shown = "missing" if hint is None else repr(hint)
        raise AppError(f"{where}: the type of its {side} is {shown}; it takes a dataclass or bytes")
    if media_type is not None:
        raise AppError(f"{where}: {option}={media_type!r} goes with bytes; a dataclass is always {JSON}")
    try:
        body = Body(JSON, hint, derive_schema(hint, app))
    except Exception as error:  # the library raises bare errors of many types for what it cannot derive
        raise AppError(f"{where}: no Avro schema can be derived from {hint.__name__}: {error}") from error
    try:
        msgspec.convert(None, hint, builtin_types=LEFT_TO_AVRO)
    except msgspec.ValidationError:
        return body  # None is no such thing, but what is one can be read
    except TypeError as error:
        raise AppError(f"{where}: {hint.__name__} cannot be read from Avro: {error}") from error
    return body
