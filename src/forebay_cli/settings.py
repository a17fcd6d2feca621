"""How the commands read their settings: as the library does, and with a warning about a misspelt one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from forebay_cli.lifetime import PARENT_VARIABLE

if TYPE_CHECKING:
    from forebay.settings import Settings


def read_settings(config: Path | None = None, **flags: Any) -> Settings:
    """Read the settings as `forebay.settings.load_settings` does, and warn on stderr of variables that are none.

    Raises:
        ConfigurationError: as there.
    """
    from forebay.settings import load_settings, unknown_variables

    if PARENT_VARIABLE not in os.environ:  # else the supervisor has said it
        for name, near in unknown_variables(os.environ).items():
            meant = f"; is {near} meant?" if near else ""
            typer.echo(f"forebay: warning: {name} is no setting and is ignored{meant}", err=True)
    return load_settings(config, **flags)
