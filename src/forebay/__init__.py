"""Forebay: a synchronous REST API in front of asynchronous work on Kafka.

What an app needs is here; everything else is the services' business.
"""

from __future__ import annotations

from forebay.app import Forebay
from forebay.errors import Problem, Reject, RetryAfter
from forebay.job import Job

__all__ = ["Forebay", "Job", "Problem", "Reject", "RetryAfter"]
