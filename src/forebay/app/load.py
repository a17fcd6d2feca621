"""Importing an app by its name."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

from forebay.app.declare import Forebay
from forebay.errors import AppError, ForebayError

_LIBRARY = str(Path(__file__).resolve().parent.parent)
_MOST_FRAMES = 3


def load_app(reference: str, app_dir: Path | None = None) -> Forebay:
    """Import an app.

    Args:
        reference: ``module:attribute``; the attribute is ``app`` if left out.
        app_dir: where to look first for the module; default: the current directory.

    Raises:
        AppError: there is no such module or attribute, it cannot be imported, it is no `Forebay`, or it declares
            nothing. The message names the lines of the app.
    """
    module_name, _, attribute = reference.partition(":")
    attribute = attribute or "app"
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise AppError(f"app '{reference}': '{module_name}' is not the name of a module; it takes module:attribute")
    directory = str((app_dir or Path.cwd()).resolve())
    if own := _with_pythons_name(module_name, directory):
        raise AppError(
            f"app '{reference}': {own} has the name of a module of Python's own, which others import; rename it"
        )
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        module = importlib.import_module(module_name)
        app = getattr(module, attribute, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise anything, SystemExit as well
        raise AppError(f"app '{reference}'{_why(error, module_name, directory)}") from error
    if not isinstance(app, Forebay):
        raise AppError(f"app '{reference}': '{attribute}' in module '{module_name}' {_what_instead(module, app)}")
    if not app.operations:
        raise AppError(f"app '{reference}' declares no operations")
    return app


def _with_pythons_name(module_name: str, directory: str) -> Path | None:
    """Return the file or folder of a module whose name a module of Python's own has; None where there is none."""
    name = module_name.partition(".")[0]
    if name not in sys.stdlib_module_names:
        return None
    return next((path for path in (Path(directory, f"{name}.py"), Path(directory, name)) if path.exists()), None)


def _why(error: BaseException, module_name: str, directory: str) -> str:
    """Say in half a sentence why a module cannot be imported, and where in it."""
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        if module_name == error.name or module_name.startswith(f"{error.name}."):
            return f": there is no module '{module_name}' in {directory} or installed"
        return f" needs the module '{error.name}', which is not installed{_lines(error, directory)}"
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{_relative(error.filename, directory)}:{error.lineno}"
        code = f": {error.text.strip()}" if error.text else ""
        return f" cannot be imported: {error.msg} ({place}{code})"
    if isinstance(error, ForebayError):
        return f" cannot be imported: {error}{_lines(error, directory)}"
    if isinstance(error, SystemExit):
        return f" cannot be imported: it ends the process with exit({error.code!r}){_lines(error, directory)}"
    text = " ".join(str(error).split())
    return f" cannot be imported: {type(error).__name__}{': ' * bool(text)}{text}{_lines(error, directory)}"


def _lines(error: BaseException, directory: str) -> str:
    """Name the lines of the app that led to an error, the innermost first."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_foreign(frame.filename)]
    own = [frame for frame in frames if Path(frame.filename).resolve().is_relative_to(directory)] or frames
    shown = [f"{_relative(frame.filename, directory)}:{frame.lineno}" for frame in reversed(own[-_MOST_FRAMES:])]
    return f" ({', from '.join(shown)})" if shown else ""


def _is_foreign(filename: str) -> bool:
    return filename.startswith(("<", _LIBRARY)) or filename == importlib.__file__ or "site-packages" in filename


def _relative(filename: str, directory: str) -> str:
    path = Path(filename)
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else filename


def _what_instead(module: ModuleType, found: object) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Forebay)]
    instead = f"; there is {' and '.join(repr(name) for name in names)}" if names else ""
    if found is None:
        return f"is nothing, not a Forebay app{instead}"
    return f"is of type {type(found).__name__}, not a Forebay app{instead}"
