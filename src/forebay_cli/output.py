"""What the commands write: tables, and the lines of several programs in one terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_UNKNOWN_WIDTH = 80
"""Columns of a terminal that does not say how many it has."""

_LAST_COLUMN = 24
"""Characters that a terminal must leave for the last column of a table, which is broken into lines."""

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


class Output(io.TextIOWrapper):
    """A stream that this process writes to, where a full disk is an error in a sentence.

    A reader that has gone away is no such error: it wants no more.
    """

    def write(self, text: str) -> int:
        """Write; raises `ForebayError` where nothing can be written, and `BrokenPipeError` where nobody reads."""
        with self._in_a_sentence():
            return super().write(text)

    def flush(self) -> None:
        """Write what is left; raises as `write`."""
        with self._in_a_sentence():
            super().flush()

    @contextmanager
    def _in_a_sentence(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            from forebay.errors import ForebayError

            # What is left in the buffer would fail once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            raise ForebayError(f"the output cannot be written: {error.strerror}") from error


def prepare_streams() -> None:
    """Have standard output and error take everything: what an encoding lacks is written as an escape.

    One that was closed by whoever started this process drops what it gets, and no file or connection takes its place.
    """
    null = os.open(os.devnull, os.O_RDWR)
    while null <= 2:  # it has taken the place of a closed one, and is to keep it
        null = os.open(os.devnull, os.O_RDWR)
    os.close(null)
    sys.stdout = _output(sys.stdout, 1)
    if sys.stderr is None:
        sys.stderr = _output(None, 2)


def _output(stream: TextIO | None, number: int) -> Output:
    """Return what takes the place of a stream, or of one that was closed."""
    if stream is None:
        return Output(io.FileIO(number, "wb", closefd=False), encoding="utf-8", write_through=True)
    terminal = stream.isatty()
    return Output(stream.buffer, encoding=stream.encoding, errors="backslashreplace", line_buffering=terminal)


def take_stdout() -> TextIO:
    """Keep standard output for the caller, who gets it: what others print, such as an app, goes to standard error."""
    sys.stdout.flush()
    ours = Output(os.fdopen(os.dup(1), "wb"), encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    return ours


def show_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], out: TextIO, colours: Mapping[str, str] | None = None
) -> None:
    """Write a table: for people on a terminal, as wide as that; else for programs.

    Programs get one line a row, its cells whole and separated by tabs, below one with the header. On a terminal that
    is too narrow for a table, where only cells of the last column may be broken, each row is a paragraph.

    Args:
        header: the name of each column.
        rows: a cell for each column, at least one row.
        out: where to.
        colours: the colour, on a terminal, of cells that are just this text.
    """
    listed = [[" ".join(cell.split()) for cell in row] for row in rows]
    if not out.isatty():
        for cells in (header, *listed):
            typer.echo("\t".join(cells), file=out)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, width=_columns(out))
    drawn = [[Text(cell, style=(colours or {}).get(cell, "")) for cell in cells] for cells in listed]
    widths = [max(map(len, column)) for column in zip(header, *listed, strict=True)]
    frame = 3 * len(widths) + 1
    if sum(widths[:-1]) + min(widths[-1], _LAST_COLUMN) + frame <= console.width:
        _draw_table(console, header, drawn)
    else:
        _draw_paragraphs(console, header, drawn)


def _columns(terminal: TextIO) -> int:
    """Return the width of a terminal: also of a dumb one, which Rich takes for 80 columns wide."""
    given = os.environ.get("COLUMNS", "")
    return (int(given) if given.isdigit() else os.get_terminal_size(terminal.fileno()).columns) or _UNKNOWN_WIDTH


def _draw_table(console: Console, header: Sequence[str], rows: Iterable[Sequence[Text]]) -> None:
    from rich.table import Table

    table = Table()
    for name in header[:-1]:
        table.add_column(name, no_wrap=True)
    table.add_column(header[-1])
    for cells in rows:
        table.add_row(*cells)
    console.print(table)


def _draw_paragraphs(console: Console, header: Sequence[str], rows: Iterable[Sequence[Text]]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    for first, *others in rows:
        console.print(first, style="bold", overflow="fold")
        for name, cell in zip(header[1:], others, strict=True):
            console.print(Padding(Text.assemble((f"{name}: ", "dim"), cell, overflow="fold"), (0, 0, 0, 2)))
