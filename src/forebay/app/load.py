"""Importing an app by its name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from forebay.app.declare import Forebay
from forebay.errors import AppError


def load_app(reference: str, app_dir: Path | None = None) -> Forebay:
    """Import an app.

    Args:
        reference: ``module:attribute``; the attribute is ``app`` if left out.
        app_dir: where to look first for the module; default: the current directory.

    Raises:
        AppError: there is no such module or attribute, it is no `Forebay`, or it declares nothing.
    """
    module_name, _, attribute = reference.partition(":")
    attribute = attribute or "app"
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise AppError(f"app '{reference}': '{module_name}' is not the name of a module; it takes module:attribute")
    directory = str((app_dir or Path.cwd()).resolve())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise AppError(f"app '{reference}' needs the module '{error.name}', which is not installed") from error
        raise AppError(f"app '{reference}': there is no module '{module_name}' in {directory} or installed") from None
    app = getattr(module, attribute, None)
    if not isinstance(app, Forebay):
        found = "nothing" if app is None else f"a {type(app).__name__}"
        raise AppError(f"app '{reference}': '{attribute}' in module '{module_name}' is {found}, not a Forebay app")
    if not app.operations:
        raise AppError(f"app '{reference}' declares no operations")
    return app
