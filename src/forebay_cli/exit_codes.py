"""The exit codes of every command, as `docs/operating.md` lists them."""

from __future__ import annotations

from collections.abc import Sequence

DONE = 0
"""It is done, or was ended by SIGTERM, SIGINT or SIGHUP in order."""

FAILED = 1
"""It did not work."""

USAGE = 2
"""A setting, a flag, an app, an access right or a topic has to be changed first: the same again would fail again."""

UNAVAILABLE = 75
"""The cluster does not answer: the same again may work later (``EX_TEMPFAIL`` of ``sysexits.h``)."""


def of(failures: Sequence[Exception]) -> int:
    """Return the exit code of a command that ended with these errors, at least one."""
    from forebay import errors

    mistakes = (
        errors.ConfigurationError,
        errors.AccessRefused,
        errors.AuthorizationFailed,
        errors.GroupRefused,
        errors.TopicMismatch,
        errors.BrokerStartError,
    )
    if any(isinstance(each, mistakes) for each in failures):
        return USAGE
    if all(isinstance(each, errors.ForebayError) and each.retriable for each in failures):
        return UNAVAILABLE
    return FAILED
