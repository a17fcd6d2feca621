"""``python -m benchmarks``: the command line of the benchmarks."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from benchmarks import codec, report
from benchmarks.children import BenchmarkError
from benchmarks.contenders import Contender, echo, forebay, naive, raw
from benchmarks.run import Outcome, Plan, run
from forebay.errors import ForebayError

CONTENDERS = {
    contender.name: contender for contender in (echo.CONTENDER, raw.HOP, raw.TRIP, naive.CONTENDER, forebay.CONTENDER)
}
CODEC = "codec"
CHOICES = ", ".join((*CONTENDERS, CODEC))

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class _TimeLeft(ProgressColumn):
    """What is left of the planned seconds: the windows last as long as they are planned to."""

    def render(self, task: Task) -> Text:
        if not task.total:
            return Text()
        left = max(0, round(task.total - task.completed))
        return Text(f"{left // 60}:{left % 60:02} left", style="progress.remaining")


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def main(
    only: Annotated[str, typer.Option(metavar="NAME,…", help=f"What to measure, of: {CHOICES}.")] = CHOICES,
    clients: Annotated[str, typer.Option(metavar="N,…", help="How many clients at a time.")] = "1,64,256",
    rounds: Annotated[int, typer.Option(min=1, help="How often the contenders take turns.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.2, help="Length of one window.")] = 3.0,
    warmup: Annotated[float, typer.Option(min=0.0, help="Seconds before each window that do not count.")] = 0.7,
    beside: Annotated[
        str, typer.Option(metavar="DIR,…", help="Other checkouts of Forebay, to be measured in the same run.")
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Two rounds of one second: to see that it works.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when a target is missed.")] = False,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where results.json, chart.svg and logs/ go.")] = Path(
        ".forebay/bench"
    ),
) -> None:
    """Measure Forebay side by side with what people use instead, on this machine, in one run.

    The contenders take turns, round by round, because the machine's speed changes from one minute to the next; medians
    and spreads are reported, and ratios are taken within each round. Kafka is started for the run, or is the one that
    FOREBAY_BOOTSTRAP_SERVERS names.
    """
    chosen = _names(only)
    plan = Plan(
        contenders=(*(CONTENDERS[name] for name in chosen if name in CONTENDERS), *_checkouts(beside)),
        clients=_numbers(clients),
        rounds=2 if quick else rounds,
        warmup=0.3 if quick else warmup,
        seconds=1.0 if quick else seconds,
    )
    console = Console()
    if not console.is_terminal:
        console.width = report.WIDE  # a file has no width of its own
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # while the broker starts it logs each vain attempt
    signal.signal(signal.SIGTERM, _interrupt)
    output.mkdir(parents=True, exist_ok=True)
    outcome = Outcome()
    figures = None
    stopped: BaseException | None = None
    try:
        if CODEC in chosen:
            figures = codec.measure()
        if plan.contenders:
            _run(plan, output, outcome, console)
    except (BenchmarkError, ForebayError, KeyboardInterrupt) as error:
        stopped = error
    judged = report.show(console, plan, outcome, figures)
    if outcome.samples or figures:
        files = report.write(output, plan, outcome, figures, judged)
        console.print("written: " + ", ".join(str(file) for file in files), highlight=False, soft_wrap=True)
    if stopped is not None:
        if isinstance(stopped, KeyboardInterrupt):
            console.print("interrupted: the figures above are of the part that ran", style="bold red")
            sys.exit(130)
        console.print(f"benchmarks: {stopped}", style="bold red", highlight=False, soft_wrap=True)
        sys.exit(1)
    if check and not all(verdict.met for verdict in judged):
        sys.exit(1)


def _run(plan: Plan, output: Path, outcome: Outcome, console: Console) -> None:
    columns = (SpinnerColumn(), BarColumn(), _TimeLeft(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=plan.total_seconds)
        run(
            plan,
            output,
            outcome,
            note=lambda text: progress.update(task, description=text),
            advance=lambda passed: progress.advance(task, passed),
        )


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is signal's
    raise KeyboardInterrupt


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in CONTENDERS and name != CODEC]
    if unknown or not names:
        raise typer.BadParameter(f"{', '.join(unknown) or 'nothing'} is none of: {CHOICES}", param_hint="--only")
    return list(dict.fromkeys(names))


def _checkouts(text: str) -> list[Contender]:
    try:
        return [forebay.of_checkout(Path(folder.strip())) for folder in text.split(",") if folder.strip()]
    except BenchmarkError as error:
        raise typer.BadParameter(str(error), param_hint="--beside") from None


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter(f"{text!r} is not a list of numbers from 1 on", param_hint="--clients")
    return numbers


if __name__ == "__main__":
    app()
