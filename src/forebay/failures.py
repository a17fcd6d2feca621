"""The kinds of problem with which Forebay itself fails a job; every other kind comes from a handler's `Reject`."""

from __future__ import annotations

HANDLER_FAILED = "handler-failed"
"""The handler raised something that is neither `Reject` nor `RetryAfter`."""
RETRY_LATER = "retry-later"
"""The handler raised `RetryAfter`; the reply's ``fb-not-before`` header says from when another run is worth it."""
UNREADABLE_JOB = "unreadable-job"
"""The job, or its payload, does not decode; it is kept among the dead letters."""
INVALID = "invalid"
"""The request fits the operation's schema, but not the Python type, which asks for more."""
UNUSABLE_RESULT = "unusable-result"
"""The handler returned something that its declared type cannot hold, or that is too large to send."""
DEADLINE_PASSED = "deadline-passed"
"""The deadline came before the handler was done, or before it was called."""
NO_PROCESSOR = "no-processor"
"""No processor was found until the deadline whose version of the app knows the operation."""

OWN = frozenset({HANDLER_FAILED, RETRY_LATER, UNREADABLE_JOB, INVALID, UNUSABLE_RESULT, DEADLINE_PASSED, NO_PROCESSOR})
