"""What a run found: tables for the terminal, a JSON file, a chart."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pygal
from pygal.style import Style
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.codec import CodecFigures
from benchmarks.figures import (
    Sample,
    Spread,
    Verdict,
    errors,
    p50,
    p99,
    rate,
    ratio,
    select,
    spread,
    verdicts,
)
from benchmarks.run import Outcome, Plan

PACKAGES = ("aiokafka", "fastavro", "httptools", "starlette", "uvicorn", "uvloop")
_SCRIPT = re.compile(rb"<script.*?</script>", re.DOTALL)  # pygal's tooltips, which need its script from the network
WIDE = 120
"""Columns from which on a median and its spread stand on one line."""
BUSY = 0.1
"""Cores used by others from which on the report says so."""
NAIVE = "naive"
ECHO = "echo"
FOREBAY = "forebay"


@dataclass(frozen=True)
class Row:
    """One contender at one number of clients, over the rounds.

    Attributes:
        rate: right answers a second.
        p50, p99: milliseconds.
        to_naive, to_echo, to_forebay: the rounds' ratios of the rate; nothing where that contender did not run.
        cpu_us: µs of CPU for one answer, by process: medians over the rounds.
        errors: how often each thing went wrong.
    """

    contender: str
    clients: int
    rounds: int
    rate: Spread
    p50: Spread
    p99: Spread
    to_naive: Spread | None
    to_echo: Spread | None
    to_forebay: Spread | None
    cpu_us: dict[str, float]
    errors: dict[str, int]


def rows(samples: Sequence[Sample]) -> list[Row]:
    """Return what the samples say, by clients and contender, in the order of their first windows."""
    found = []
    for clients in dict.fromkeys(sample.clients for sample in samples):
        for contender in dict.fromkeys(sample.contender for sample in samples):
            chosen = select(samples, contender, clients)
            if not chosen:
                continue
            windows = [sample.window for sample in chosen]
            found.append(
                Row(
                    contender=contender,
                    clients=clients,
                    rounds=len(chosen),
                    rate=spread(map(rate, windows)),
                    p50=spread(map(p50, windows)),
                    p99=spread(map(p99, windows)),
                    to_naive=ratio(samples, contender, NAIVE, clients, rate),
                    to_echo=ratio(samples, contender, ECHO, clients, rate),
                    to_forebay=ratio(samples, contender, FOREBAY, clients, rate),
                    cpu_us=_cpu(chosen),
                    errors=errors(chosen),
                )
            )
    return found


def _cpu(samples: Iterable[Sample]) -> dict[str, float]:
    by_process: dict[str, list[float]] = {}
    for sample in samples:
        for process, seconds in sample.cpu.items():
            if sample.window.handled:
                by_process.setdefault(process, []).append(seconds / sample.window.handled * 1e6)
    return {process: spread(values).median for process, values in by_process.items()}


def show(console: Console, plan: Plan, outcome: Outcome, codec: CodecFigures | None) -> list[Verdict]:
    """Print everything; returns the verdicts."""
    found = rows(outcome.samples)
    if found:
        console.print(_rates(plan, found, _one_line if console.width >= WIDE else _two_lines))
        console.print(_costs(found))
    wrong = [row for row in found if row.errors]
    for row in wrong:
        text = ", ".join(f"{what} ({times} times)" for what, times in row.errors.items())
        console.print(f"errors of {row.contender} at {row.clients}: {text}", style="bold red", highlight=False)
    if outcome.idle:
        idle = ", ".join(f"{name} {share:.1%}" for name, share in outcome.idle.items() if share >= 0.0005)
        console.print(f"CPU while idle, of one core: {idle or 'none'}", highlight=False)
        if outcome.others > BUSY:
            text = f"other processes used {outcome.others:.1f} cores meanwhile: the rates are lower than they could be"
            console.print(text, style="bold red", highlight=False)
    for name, number in outcome.spans.items():
        style = None if number else "bold red"
        console.print(f"spans exported by {name}: {number:,}", style=style, highlight=False)
    if codec is not None:
        console.print(
            f"codec, {codec.size} bytes: encode {codec.encode.median:.1f} µs, decode {codec.decode.median:.1f} µs, "
            f"together {codec.both.median:.1f} µs ({codec.both.low:.1f}-{codec.both.high:.1f}); "
            f"json dumps and loads {codec.json.median:.1f} µs",
            highlight=False,
        )
    judged = verdicts(outcome.samples, codec.both if codec else None)
    if judged:
        console.print(_verdicts(judged))
    return judged


def _rates(plan: Plan, found: Sequence[Row], shown: Callable[[Spread | None], str]) -> Table:
    rounds = max(row.rounds for row in found)
    table = _table(f"{rounds} round{'s' if rounds > 1 else ''} of {plan.seconds:g} s: median (least-greatest)")
    table.add_column("clients", justify="right", no_wrap=True)
    table.add_column("contender", no_wrap=True)
    for heading in ("answers/s", "p50 ms", "p99 ms", "x naive", "x echo", "x forebay"):
        table.add_column(heading, justify="right", no_wrap=True)
    _add_by_clients(
        table,
        found,
        lambda row: map(shown, (row.rate, row.p50, row.p99, row.to_naive, row.to_echo, row.to_forebay)),
        lambda row: "red" if row.errors else "bold" if row.contender == "forebay" else None,
    )
    return table


def _add_by_clients(
    table: Table,
    rows: Sequence[Row],
    cells: Callable[[Row], Iterable[str]],
    style: Callable[[Row], str | None] = lambda _: None,
) -> None:
    """Add a line for each row, after the contender its cells, in a section for each number of clients."""
    previous = None
    for row in rows:
        if previous not in (None, row.clients):
            table.add_section()
        clients = str(row.clients) if row.clients != previous else ""
        table.add_row(clients, row.contender, *cells(row), style=style(row))
        previous = row.clients


def _costs(found: Sequence[Row]) -> Table:
    table = _table("CPU for one answer, µs, by process")
    table.add_column("clients", justify="right")
    table.add_column("contender")
    table.add_column("processes")
    table.add_column("in all", justify="right")
    _add_by_clients(
        table,
        found,
        lambda row: (
            ", ".join(f"{process} {cost:,.0f}" for process, cost in row.cpu_us.items()),
            f"{sum(row.cpu_us.values()):,.0f}",
        ),
    )
    return table


def _verdicts(judged: Sequence[Verdict]) -> Table:
    table = _table("Targets")
    table.add_column("target")
    table.add_column("found", justify="right", no_wrap=True)
    table.add_column("verdict")
    for verdict in judged:
        said = "met" if verdict.met else "not valid: errors" if verdict.errors else "missed"
        table.add_row(verdict.text, _one_line(verdict.found), Text(said, "green" if verdict.met else "bold red"))
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)


def _one_line(value: Spread | None) -> str:
    return f"{_short(value.median)} ({_short(value.low)}-{_short(value.high)})" if value else "-"


def _two_lines(value: Spread | None) -> str:
    return f"{_short(value.median)}\n{_short(value.low)}-{_short(value.high)}" if value else "-"


def _short(value: float) -> str:
    """Write no more digits than a swing of some per cent leaves a meaning to."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def write(
    directory: Path, plan: Plan, outcome: Outcome, codec: CodecFigures | None, judged: Sequence[Verdict]
) -> list[Path]:
    """Write ``results.json``, and ``chart.svg`` where there are rates; returns the files."""
    found = rows(outcome.samples)
    results: dict[str, Any] = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
        },
        "plan": {
            "rounds": plan.rounds,
            "warmup_seconds": plan.warmup,
            "seconds": plan.seconds,
            "clients": plan.clients,
        },
        "rows": [asdict(row) for row in found],
        "windows": outcome.samples,
        "idle_cores": outcome.idle,
        "cores_of_others": outcome.others,
        "spans": outcome.spans,
        "codec_us": codec,
        "verdicts": judged,
    }
    file = directory / "results.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    if not found:
        return [file]
    picture = directory / "chart.svg"
    picture.write_bytes(chart(found, f"Answers a second on {len(os.sched_getaffinity(0))} cores"))
    return [file, picture]


def chart(found: Sequence[Row], title: str) -> bytes:
    """Draw the rates as an SVG: the medians as bars, the spreads as whiskers."""
    clients = list(dict.fromkeys(row.clients for row in found))
    bars = pygal.Bar(
        title=title,
        x_labels=[f"{number} client{'s' if number > 1 else ''}" for number in clients],
        legend_at_bottom=True,
        print_values=True,
        print_values_position="top",
        range=(0, 1.1 * max(row.rate.high for row in found)),
        js=[],
        style=Style(
            background="white",
            plot_background="white",
            font_family="sans-serif",
            value_font_size=10,
            ci_colors=("#333333",),
        ),
        value_formatter=lambda value: f"{value:,.0f}",
    )
    by_place = {(row.contender, row.clients): row for row in found}
    for contender in dict.fromkeys(row.contender for row in found):
        values = []
        for number in clients:
            row = by_place.get((contender, number))
            values.append(
                {"value": row.rate.median, "ci": {"low": row.rate.low, "high": row.rate.high}} if row else None
            )
        bars.add(contender, values)
    return _SCRIPT.sub(b"", bars.render())
