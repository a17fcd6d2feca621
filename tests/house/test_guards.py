"""What `make check` runs, run on copies of the tree with one thing wrong in each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.house.lock import ROOT

SOURCES = ["schemas", "src", "services", "infra"]


@dataclass
class Tree:
    """A copy of the sources with the repository's own configuration and Makefile."""

    path: Path

    def write(self, file: str, source: str) -> None:
        (self.path / file).write_text(source)

    def guard(self, tool: str, *arguments: str) -> tuple[int, str]:
        """Runs the command of `make check` that uses `tool`, and gives its exit code and all that it printed."""
        commands = self._run("make", "--dry-run", "check").stdout.splitlines()
        (command,) = (line for line in commands if tool in line)
        done = self._run("sh", "-c", " ".join([command, *arguments]))
        return done.returncode, done.stdout

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        # The environment has an editable install of the repository: the copy has to come before it.
        roots = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["mypy_path"]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
            "PYTHONPATH": os.pathsep.join(str(self.path / root) for root in roots),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        return subprocess.run(
            command, cwd=self.path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    for name in ["pyproject.toml", "constraints.txt", "Makefile", ".gitignore"]:
        shutil.copy2(ROOT / name, tmp_path)
    for name in SOURCES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return Tree(tmp_path)


@pytest.mark.parametrize("tool", ["ruff format", "ruff check", "lint-imports"])
def test_the_tree_as_it_is_passes(tree: Tree, tool: str) -> None:
    assert tree.guard(tool)[0] == 0, tree.guard(tool)[1]


@pytest.mark.parametrize("tool", ["ruff format", "ruff check"])
def test_an_app_saved_beside_the_readme_is_nobodys_business(tree: Tree, tool: str) -> None:
    tree.write("greetings.py", "import os, sys\nx = {  'a':1 }\n")
    assert tree.guard(tool)[0] == 0, tree.guard(tool)[1]


def test_an_unused_import_is_refused(tree: Tree) -> None:
    tree.write("src/forebay/injected.py", '"""Injected."""\n\nimport json\n')

    code, output = tree.guard("ruff check")

    assert code != 0
    assert "src/forebay/injected.py" in output
    assert "`json` imported but unused" in output


def test_a_badly_formatted_file_is_refused(tree: Tree) -> None:
    tree.write("services/gateway/forebay_gateway/injected.py", '"""Injected."""\n\nANSWER = {  "a":1 }\n')

    code, output = tree.guard("ruff format")

    assert code != 0
    assert "services/gateway/forebay_gateway/injected.py" in output


def test_a_wrong_type_and_a_missing_one_are_refused(tree: Tree) -> None:
    # One package without dependencies is enough, and quick.
    as_it_is, _ = tree.guard("mypy", "schemas")
    injected = "schemas/forebay_schemas/injected.py"
    tree.write(injected, 'def wrong() -> int:\n    return "three"\ndef untyped(x):\n    return x\n')
    code, output = tree.guard("mypy", "schemas")

    assert as_it_is == 0
    assert code != 0
    assert f'{injected}:2: error: Incompatible return value type (got "str", expected "int")' in output
    assert f"{injected}:3: error: Function is missing a type annotation" in output


@pytest.mark.parametrize(
    ("file", "imported"),
    [
        pytest.param("services/gateway/forebay_gateway", "forebay_processor", id="a service imports another"),
        pytest.param("services/processor/forebay_processor", "forebay_gateway", id="another service, the other way"),
        pytest.param("services/processor/forebay_processor", "forebay_broker", id="a service imports the broker"),
        pytest.param("services/gateway/forebay_gateway", "forebay_cli", id="a service imports the command line"),
        pytest.param("src/forebay", "forebay_gateway", id="the library imports a service"),
        pytest.param("schemas/forebay_schemas", "forebay", id="the schemas import the library"),
        pytest.param("src/forebay", "aiokafka", id="Kafka outside forebay.kafka"),
        pytest.param("services/gateway/forebay_gateway", "aiokafka", id="Kafka in a service"),
        pytest.param("services/processor/forebay_processor", "httptools", id="HTTP in the processor"),
        pytest.param("src/forebay_cli", "uvicorn", id="HTTP in the command line"),
    ],
)
def test_an_import_across_the_layers_is_refused(tree: Tree, file: str, imported: str) -> None:
    tree.write(f"{file}/injected.py", f"def later() -> None:\n    import {imported}\n")

    code, output = tree.guard("lint-imports")

    assert code != 0
    assert f"{Path(file).name}.injected -> {imported} (l.2)" in output
