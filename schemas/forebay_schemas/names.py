"""The names of apps and operations: both are part of topics, groups and URLs."""

from __future__ import annotations

import re

NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
"""A lower-case letter, then up to 63 of a-z, 0-9, ``_`` and ``-``."""
RESERVED = ("jobs",)
"""Paths beneath ``/v1/`` that are no operation's."""
