"""Declaring operations on an app."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Never, TypeVar

import msgspec

from forebay.app.body import READ_BY_AVRO, Body
from forebay.app.derive import derive_schema
from forebay.app.media import JSON, MEDIA_RANGE, MEDIA_TYPE, OCTETS
from forebay.app.operation import ExecutionMode, Operation
from forebay.app.refusals import Underivable
from forebay.app.signature import read_signature
from forebay.errors import AppError
from forebay.settings import TIERS
from forebay_schemas.names import NAME, RESERVED

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Forebay:
    """An app: give it a name, declare operations on it, and name it to a processor.

    Args:
        name: letters, digits, ``_`` and ``-``.

    Raises:
        AppError: the name has other characters.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise AppError(f"app name {name!r}: it takes a lower-case letter, then up to 63 of a-z, 0-9, '_' and '-'")
        self.name = name
        self._operations: dict[str, Operation] = {}

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations declared so far, by name."""
        return dict(self._operations)

    def operation(
        self,
        *misplaced: Never,
        name: str | None = None,
        tier: str = "standard",
        deadline: float = 30.0,
        cpu: bool = False,
        accepts: str | None = None,
        returns: str | None = None,
        **unknown: Never,
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
                that keeps a core busy.
            accepts: media type of the request, for a handler that takes ``bytes``, or a range such as ``image/*``.
            returns: media type of the result, for a handler that gives ``bytes``.
            misplaced: nothing; whatever is given by position is refused.
            unknown: nothing; an argument of any other name is refused.

        Raises:
            AppError: at declaration, if the operation cannot work; the message names it.
        """
        _check_arguments(self.operation, misplaced, unknown)
        options = _Options(name, tier, deadline, cpu, accepts, returns)

        def declare(handler: Handler) -> Handler:
            operation = _declare(self.name, handler, options)
            if operation.name in self._operations:
                raise AppError(f"operation '{operation.name}' is declared twice in app '{self.name}'")
            self._operations[operation.name] = operation
            return handler

        return declare


def _check_arguments(method: Callable[..., Any], misplaced: tuple[Any, ...], unknown: dict[str, Any]) -> None:
    """Say how the decorator is written, where it was given something else than its arguments by name."""
    if misplaced and callable(misplaced[0]):
        shown = getattr(misplaced[0], "__name__", type(misplaced[0]).__name__)
        raise AppError(f"operation '{shown}': write @app.operation() above it, with parentheses")
    known = [name for name in inspect.signature(method).parameters if name not in ("misplaced", "unknown")]
    if misplaced:
        raise AppError(f"@app.operation({misplaced[0]!r}): give its arguments by name: {', '.join(known)}")
    for name in unknown:
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"it takes {', '.join(known)}"
        raise AppError(f"@app.operation({name}=…): there is no argument '{name}'; {hint}")


@dataclass(frozen=True, slots=True)
class _Options:
    """What the decorator was given."""

    name: str | None
    tier: str
    deadline: float
    cpu: bool
    accepts: str | None
    returns: str | None


def _declare(app: str, handler: Callable[..., Any], options: _Options) -> Operation:
    name = options.name or getattr(handler, "__name__", type(handler).__name__)
    where = f"operation '{name}'"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise AppError(f"{where}: a name takes a lower-case letter, then up to 63 of a-z, 0-9, '_' and '-'")
    if name in RESERVED:
        raise AppError(f"{where}: /v1/{name} is Forebay's own; give it another name, as in @app.operation(name=…)")
    if options.tier not in TIERS:
        raise AppError(f"{where}: tier {options.tier!r} is none of {', '.join(TIERS)}")
    is_number = isinstance(options.deadline, int | float) and not isinstance(options.deadline, bool)
    if not is_number or not 0.001 <= options.deadline <= 86_400:
        raise AppError(f"{where}: deadline {options.deadline!r} is not between 0.001 and 86400 seconds")
    if not isinstance(options.cpu, bool):
        raise AppError(f"{where}: cpu={options.cpu!r} is neither True nor False")
    signature = read_signature(where, handler)
    mode = ExecutionMode.ON_LOOP if signature.is_coroutine else ExecutionMode.IN_THREAD
    if options.cpu:
        if signature.is_coroutine:
            raise AppError(f"{where}: cpu=True runs the handler in a process, so it must be a plain def")
        mode = ExecutionMode.IN_PROCESS
    return Operation(
        name=name,
        app=app,
        description=(inspect.getdoc(handler) or "").partition("\n\n")[0].replace("\n", " "),
        tier=options.tier,
        deadline=float(options.deadline),
        mode=mode,
        handler=handler,
        takes_job=signature.takes_job,
        request=_body(where, "request", signature.request, options.accepts, "accepts", app),
        result=_body(where, "result", signature.result, options.returns, "returns", app),
    )


def _body(where: str, side: str, hint: Any, media_type: str | None, option: str, app: str) -> Body:
    if media_type is not None and not isinstance(media_type, str):
        raise AppError(f"{where}: {option}={media_type!r} is not text")
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
        schema, to_avro = derive_schema(hint, app)
    except Underivable as error:
        raise AppError(f"{where}: {error}") from error
    except RecursionError:
        raise AppError(
            f"{where}: {hint.__name__} has an alias in it that holds itself; declare a dataclass, which may"
        ) from None
    try:
        msgspec.convert(None, hint, builtin_types=READ_BY_AVRO)
    except msgspec.ValidationError:
        pass  # None is no such thing, but what is one can be read
    except Exception as error:  # whatever msgspec says of a type that it does not take
        raise AppError(f"{where}: {hint.__name__} cannot be read from Avro: {error}") from error
    return Body(JSON, hint, schema, to_avro)
