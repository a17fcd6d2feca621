from __future__ import annotations

import re
import tomllib
from itertools import product

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.lock import LOCK, ROOT, closure, read_lock

PIN = re.compile(r"[a-z0-9-]+==[0-9a-z.]+( ; [a-z_]+ [<>=!]+ '[\w.]+'( (and|or) [a-z_]+ [<>=!]+ '[\w.]+')*)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def test_the_lock_holds_names_versions_and_hashes_and_nothing_else() -> None:
    # No options and no comments: so no address of an index and no path of the machine that wrote it.
    strange = [line for line in LOCK.read_text().splitlines() if not PIN.fullmatch(line) and not HASH.fullmatch(line)]

    assert strange == []


def test_every_pin_has_a_hash() -> None:
    assert [pin.name for pin in read_lock() if "--hash=sha256:" not in pin.text] == []


@pytest.mark.parametrize(("python", "platform"), [*product(["3.11", "3.12", "3.13"], ["linux", "darwin"])])
def test_the_lock_pins_every_declared_dependency_within_its_bounds(python: str, platform: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform}
    pins = {pin.name: pin.version for pin in read_lock() if pin.applies(environment)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [
        Requirement(line)
        for lines in [project["dependencies"], *project["optional-dependencies"].values()]
        for line in lines
        if not line.startswith(project["name"] + "[")
    ]

    wanted = [need for need in declared if need.marker is None or need.marker.evaluate(environment)]
    unmet = [str(need) for need in wanted if pins.get(canonicalize_name(need.name), "") not in need.specifier]

    assert unmet == [], "run `make lock`"


def test_the_lock_pins_all_that_the_declared_dependencies_bring() -> None:
    pinned = {pin.name for pin in read_lock() if pin.applies({})}

    assert closure("forebay[dev]") - pinned == {"forebay"}, "run `make lock`"
