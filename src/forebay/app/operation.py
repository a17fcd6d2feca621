"""An operation, as an app declares it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from forebay.app.body import Body
from forebay.job import Job


class ExecutionMode(StrEnum):
    """Where a handler runs."""

    ON_LOOP = "async"
    IN_THREAD = "thread"
    IN_PROCESS = "process"


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
