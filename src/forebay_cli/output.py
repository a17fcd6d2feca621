"""What the commands write: tables, and the lines of several programs in one terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import cycle
from typing import TYPE_CHECKING, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console

_WIDE = 200
"""Columns of a table that goes to a file or a pipe, where there is no screen to fit."""

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")


class PrefixedLines:
    """Writes lines as ``gateway-1 | text``: names aligned, and coloured on a terminal (unless ``NO_COLOR`` is set).

    Args:
        names: of everybody who will write.
        stream: where to; default: standard output.
    """

    def __init__(self, names: Iterable[str], stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        coloured = self._stream.isatty() and not os.environ.get("NO_COLOR")
        distinct = list(dict.fromkeys(names))
        width = max(map(len, distinct))
        self._prefixes = {
            name: typer.style(f"{name:<{width}} |", fg=colour) if coloured else f"{name:<{width}} |"
            for name, colour in zip(distinct, cycle(_COLOURS), strict=False)
        }

    def write(self, name: str, line: str) -> None:
        """Write one line; raises `BrokenPipeError` when nobody reads any more."""
        self._stream.write(f"{self._prefixes[name]} {line}".rstrip() + "\n")
        self._stream.flush()


def console() -> Console:
    """Return a console on standard output whose tables are as wide as the screen, or as they need to be without one."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=_WIDE)
