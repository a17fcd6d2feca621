"""An app: a set of operations with their handlers.

The Avro schema of each operation is derived from the types of its handler, so that what is declared is what is checked.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import sys
import types
import typing
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast
from uuid import UUID

import msgspec
import py_avro_schema
from fastavro.read import LOGICAL_READERS

from forebay.codec import Schema
from forebay.errors import AppError
from forebay.job import Job
from forebay.settings import TIERS

Handler = TypeVar("Handler", bound=Callable[..., Any])

JSON = "application/json"
OCTETS = "application/octet-stream"

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_WORD = r"[a-z0-9!#$&^_.+-]+"
_MEDIA_RANGE = re.compile(rf"{_WORD}/(?:{_WORD}|\*)|\*/\*")
_MEDIA_TYPE = re.compile(rf"{_WORD}/{_WORD}(?: *;[ -~]+)?", re.IGNORECASE)
_LEFT_TO_AVRO = (bytes, bytearray, datetime, date, time, Decimal, UUID)
_SCHEMA_OPTIONS = py_avro_schema.Option.MILLISECONDS | py_avro_schema.Option.NO_AUTO_NAMESPACE


class ExecutionMode(StrEnum):
    """Where a handler runs."""

    ON_LOOP = "async"
    IN_THREAD = "thread"
    IN_PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Body:
    """One side of an operation, its request or its result.

    Attributes:
        media_type: of the body over HTTP.
        python_type: what the handler takes or gives: a dataclass, or ``bytes``.
        schema: of the Avro body; None for opaque bytes.
    """

    media_type: str
    python_type: type
    schema: Schema | None

    def decode(self, payload: bytes, writer: Schema | None = None) -> Any:
        """Make the handler's argument of a payload; raises `UnreadableBody` if it does not fit."""
        if self.schema is None:
            return payload
        return msgspec.convert(
            self.schema.decode_body(payload, writer=writer), self.python_type, builtin_types=_LEFT_TO_AVRO
        )

    def encode(self, value: Any) -> bytes:
        """Make a payload of the handler's result.

        Raises:
            TypeError, ValueError: it is not of the declared type.
        """
        if not isinstance(value, self.python_type):
            raise TypeError(
                f"the handler returned {type(value).__name__}, not the declared {self.python_type.__name__}"
            )
        if self.schema is None:
            return cast(bytes, value)
        return self.schema.encode_body(msgspec.to_builtins(value, builtin_types=_LEFT_TO_AVRO))


@dataclass(frozen=True, slots=True)
class Operation:
    """A named kind of work.

    Attributes:
        name: its name, and its place in the URL.
        app: name of the app that declares it.
        description: first paragraph of the handler's docstring.
        tier: the lane that its jobs take.
        deadline: seconds that a caller waits at the most.
        mode: where the handler runs.
        handler: the function itself.
        takes_job: whether it has a second parameter, for the `Job`.
        request: what it takes.
        result: what it gives.
    """

    name: str
    app: str
    description: str
    tier: str
    deadline: float
    mode: ExecutionMode
    handler: Callable[..., Any]
    takes_job: bool
    request: Body
    result: Body

    def call(self, request: Any, job: Job) -> Any:
        """Call the handler; for one that runs on the loop this gives an awaitable."""
        return self.handler(request, job) if self.takes_job else self.handler(request)


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
        if not (_MEDIA_RANGE if option == "accepts" else _MEDIA_TYPE).fullmatch(media_type):
            takes = "a media type without parameters, or a range" if option == "accepts" else "a media type"
            raise AppError(f"{where}: {option}={media_type!r} is not {takes}")
        return Body(media_type, bytes, None)
    if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        shown = "missing" if hint is None else repr(hint)
        raise AppError(f"{where}: the type of its {side} is {shown}; it takes a dataclass or bytes")
    if media_type is not None:
        raise AppError(f"{where}: {option}={media_type!r} goes with bytes; a dataclass is always {JSON}")
    try:
        body = Body(JSON, hint, _derive_schema(hint, app))
    except Exception as error:  # the library raises bare errors of many types for what it cannot derive
        raise AppError(f"{where}: no Avro schema can be derived from {hint.__name__}: {error}") from error
    try:
        msgspec.convert(None, hint, builtin_types=_LEFT_TO_AVRO)
    except msgspec.ValidationError:
        return body  # None is no such thing, but what is one can be read
    except TypeError as error:
        raise AppError(f"{where}: {hint.__name__} cannot be read from Avro: {error}") from error
    return body


def _resolve_annotations(dataclass_type: type, inside: frozenset[type] = frozenset()) -> None:
    """Replace the annotations of a dataclass that are strings, as all are under ``from __future__ import annotations``.

    py-avro-schema takes fields as they are declared. It knows a recursive type by a reference that *is* a string, so
    those to the class itself, or to one that it is a part of, are left as strings.
    """
    inside |= {dataclass_type}
    hints = typing.get_type_hints(dataclass_type, include_extras=True)
    for field in dataclasses.fields(dataclass_type):
        field.type = _refer(hints[field.name], inside)


def _refer(hint: Any, inside: frozenset[type]) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if hint in inside:
            return hint.__name__
        _resolve_annotations(hint, inside)
        return hint
    if typing.get_origin(hint) is Literal:
        return hint
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and arguments[-1] is not Ellipsis:
        raise TypeError(f"{hint} is several values of a type each, which takes a dataclass")
    if typing.get_origin(hint) is Annotated:
        referred_to = _refer(arguments[0], inside)
        return hint if referred_to is arguments[0] else Annotated[(referred_to, *arguments[1:])]
    referred = tuple(_refer(argument, inside) for argument in arguments)
    if all(new is old for new, old in zip(referred, arguments, strict=True)):
        return hint
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return typing.Union[referred]  # noqa: UP007 - a string cannot stand at either side of |
    return typing.get_origin(hint)[referred]


def _derive_schema(dataclass_type: type, app: str) -> Schema:
    _resolve_annotations(dataclass_type)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it cannot check the default of a recursive field, and says so
        text = py_avro_schema.generate(dataclass_type, namespace=app.replace("-", "_"), options=_SCHEMA_OPTIONS)
    schema = _tidy(json.loads(text))
    for unreadable in _unreadable_types(schema):
        raise TypeError(f"there is no way to read or write {unreadable}")
    return Schema(json.dumps(schema))


def _unreadable_types(schema: Any) -> Iterator[str]:
    """Find what Avro can name, but fastavro does not turn into Python and back."""
    if isinstance(schema, list):
        for entry in schema:
            yield from _unreadable_types(entry)
    elif isinstance(schema, dict):
        if "logicalType" in schema and f"{schema['type']}-{schema['logicalType']}" not in LOGICAL_READERS:
            yield f"the logical type '{schema['logicalType']}' of {schema.get('name', schema['type'])}"
        for key in ("type", "items", "values", "fields"):
            yield from _unreadable_types(schema.get(key))


def _tidy(schema: Any) -> Any:
    """Mend what py-avro-schema 3.8 leaves untidy, in a schema or a part of one.

    A ``doc`` that Python made up goes; a null default has ``null`` as its union's first branch, also in recursion;
    and the bytes of a decimal default are Avro's (U+0000 to U+00FF), not a backslash and hexadecimal digits.
    """
    if isinstance(schema, list):
        return [_tidy(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {key: _tidy(value) for key, value in schema.items()}
    if tidy.get("doc", "").startswith((f"{tidy.get('name')}(", "Create a collection of name/value pairs")):
        del tidy["doc"]
    kind, default = tidy.get("type"), tidy.get("default")
    if "default" in tidy and default is None and isinstance(kind, list):
        tidy["type"] = ["null", *(branch for branch in kind if branch != "null")]
    branch = kind[0] if isinstance(kind, list) else kind
    if isinstance(branch, dict) and branch.get("logicalType") == "decimal" and isinstance(default, str):
        tidy["default"] = bytes.fromhex(default.removeprefix("\\u")).decode("latin-1")
    return tidy


def load_app(reference: str, app_dir: Path | None = None) -> Forebay:
    """Import an app.

    Args:
        reference: ``module:attribute``; the attribute is ``app`` if left out.
        app_dir: where to look first for the module; default: the current directory.

    Raises:
        AppError: there is no such module or attribute, it is no `Forebay`, or it declares nothing.
    """
    module_name, _, attribute = reference.partition(":")
    attribute = attribute or "app"
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise AppError(f"app '{reference}': '{module_name}' is not the name of a module; it takes module:attribute")
    directory = str((app_dir or Path.cwd()).resolve())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise AppError(f"app '{reference}' needs the module '{error.name}', which is not installed") from error
        raise AppError(f"app '{reference}': there is no module '{module_name}' in {directory} or installed") from None
    app = getattr(module, attribute, None)
    if not isinstance(app, Forebay):
        found = "nothing" if app is None else f"a {type(app).__name__}"
        raise AppError(f"app '{reference}': '{attribute}' in module '{module_name}' is {found}, not a Forebay app")
    if not app.operations:
        raise AppError(f"app '{reference}' declares no operations")
    return app
