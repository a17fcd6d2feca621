"""Reads `constraints.txt` and follows requirements through the metadata of what is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "constraints.txt"


@dataclass(frozen=True)
class Pin:
    """One entry of the lock: its version, the environments it is for, and its lines as they stand in the file."""

    name: str
    version: Version
    marker: Marker | None
    text: str

    def applies(self, environment: dict[str, str]) -> bool:
        """Whether the entry is for `environment`, a set of marker variables that override those of this interpreter."""
        return self.marker is None or self.marker.evaluate(environment)


def read_lock() -> list[Pin]:
    """All entries of the lock, in the order of the file."""
    entries: list[str] = []
    for line in LOCK.read_text().splitlines(keepends=True):
        if line.startswith(" "):
            entries[-1] += line
        else:
            entries.append(line)
    return [_parse(entry) for entry in entries]


def _parse(entry: str) -> Pin:
    requirement = Requirement(entry.split("\\")[0])
    (specifier,) = requirement.specifier
    return Pin(canonicalize_name(requirement.name), Version(specifier.version), requirement.marker, entry)


def closure(requirement: str) -> set[str]:
    """Names of all distributions that `requirement` (such as `forebay[processor]`) brings, itself included."""
    pending, followed, names = [Requirement(requirement)], set[tuple[str, str]](), set[str]()
    while pending:
        wanted = pending.pop()
        name = canonicalize_name(wanted.name)
        names.add(name)
        for extra in ["", *wanted.extras]:
            if (name, extra) in followed:
                continue
            followed.add((name, extra))
            needs = [Requirement(line) for line in metadata.requires(name) or []]
            pending += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return names
