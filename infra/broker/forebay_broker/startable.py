"""What a broker and a cluster have in common: as a context manager each runs for the length of the block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Startable(ABC):
    """Can be started and stopped, and is a context manager that does both."""

    @abstractmethod
    def start(self) -> None:
        """Start, and return once it works."""

    @abstractmethod
    def stop(self) -> None:
        """Stop in order; also where it has not started."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
