"""Trouble that passes: said once when it begins and once when it ends, and shown meanwhile."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class Trouble:
    """Whether something that is done again and again works.

    Args:
        what: is done, for the log.

    Attributes:
        text: what is wrong at present; None while all is well.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.text: str | None = None

    def note(self, error: Exception | None) -> None:
        """Take note of how it went this time; None: well."""
        if error is not None and self.text is None:
            log.warning("%s: %s; it is tried again", self._what, error, extra={"about": self._what})
        elif error is None and self.text is not None:
            log.info("%s: it works again", self._what, extra={"about": self._what})
        self.text = None if error is None else str(error)
