"""Where the ``forebay`` command begins: Ctrl-C during its imports ends it as Ctrl-C does later, without a traceback."""

from __future__ import annotations

import sys

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ends at once."""


def main() -> None:
    """Run the command line."""
    try:
        from forebay_cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
