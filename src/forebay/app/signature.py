"""What can be told of a handler from its signature."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forebay.errors import AppError
from forebay.job import Job


@dataclass(frozen=True, slots=True)
class Signature:
    """What a handler takes and gives.

    Attributes:
        request: the type of its first parameter; None if that is not said.
        result: the type that it returns; None if that is not said.
        takes_job: whether it has a second parameter, for the `Job`.
        is_coroutine: whether it is an ``async def``.
    """

    request: Any
    result: Any
    takes_job: bool
    is_coroutine: bool


def read_signature(where: str, handler: Callable[..., Any]) -> Signature:
    """Look at a handler; ``where`` is the operation, as an error names it.

    Raises:
        AppError: it can never be called as a handler is.
    """
    if isinstance(handler, type) or not callable(handler):
        kind = "a class" if isinstance(handler, type) else f"of type {type(handler).__name__}"
        raise AppError(f"{where}: the handler is {kind}; it takes a function")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise AppError(f"{where}: the handler is a generator; it returns one result")
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
    except Exception as error:  # whatever evaluating the annotations of an app raises
        raise AppError(f"{where}: its types cannot be resolved: {error}") from error
    for parameter in parameters[1:]:
        hint = hints.get(parameter.name, Job)
        if Job not in (hint, *typing.get_args(hint)):
            raise AppError(f"{where}: the second parameter, '{parameter}', is for the Job")
    return Signature(
        request=hints.get(parameters[0].name),
        result=hints.get("return"),
        takes_job=len(parameters) == 2,
        is_coroutine=inspect.iscoroutinefunction(handler),
    )
