"""The ``forebay`` command.

The services and most of the library are imported inside the commands: ``forebay --help`` must be quick, and an image of
one service holds the packages of no other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from forebay_cli import exit_codes
from forebay_cli.broker import broker
from forebay_cli.gateway import gateway
from forebay_cli.lifetime import end_in_spite_of_threads
from forebay_cli.operations import operations
from forebay_cli.output import prepare_streams
from forebay_cli.processor import processor
from forebay_cli.topics import topics
from forebay_cli.up import up

app = typer.Typer(
    name="forebay",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (up, broker, gateway, processor, topics, operations):
    app.command()(command)


def main() -> None:
    """Run the command line; an error of Forebay's is one line on stderr.

    `forebay_cli.exit_codes` says what it ends with; a command without an end in order that Ctrl-C ends, with 130.
    """
    prepare_streams()
    code = exit_codes.DONE
    try:
        app(prog_name="forebay")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else exit_codes.DONE
    except Exception as error:
        code = _report(error)
    end_in_spite_of_threads(code)
    sys.exit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"forebay {version('forebay')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # noqa: ARG001 - its callback has done everything
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Put a synchronous REST API in front of asynchronous work on Kafka."""
    import logging

    # The Kafka client logs what it raises as well; where a command keeps no log, a person would be told twice.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())


def _report(error: Exception) -> int:
    from forebay.errors import ForebayError

    failures = list(_leaves(error))
    if not all(isinstance(failure, ForebayError) for failure in failures):
        raise error
    for sentence in dict.fromkeys(_sentence(failure) for failure in failures):
        typer.echo(f"forebay: {sentence}", err=True)
    return exit_codes.of(failures)


def _sentence(failure: Exception) -> str:
    from forebay_cli.options import advice

    sentence, setting = " ".join(str(failure).split()), getattr(failure, "setting", None)
    return sentence if setting is None else f"{sentence}; choose another with {advice(setting)}"


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
