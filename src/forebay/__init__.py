"""Forebay: a synchronous REST API in front of asynchronous work on Kafka.

What an app needs is here; everything else is the services' business.
"""

from __future__ import annotations

from forebay.app import DecimalMeta, Forebay
from forebay.errors import Problem, Reject, RetryAfter
from forebay.job import Job

__all__ = ["DecimalMeta", "Forebay", "Job", "Problem", "Reject", "RetryAfter"]
