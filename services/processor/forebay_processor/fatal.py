"""What ends the process: an error for which the lease of a job cannot end."""

from __future__ import annotations

import asyncio
import logging

log = logging.getLogger(__name__)


class Fatal:
    """Where such an error is reported.

    Args:
        stop: is set then.

    Attributes:
        error: the first that was reported.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self.error: BaseException | None = None

    def report(self, error: BaseException) -> None:
        """Have the processor end with this error."""
        if self.error is None:
            log.error("this processor ends, and others take over its partitions: %s", error or type(error).__name__)
            self.error = error
            self._stop.set()
