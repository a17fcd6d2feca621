"""The wheel outside the repository: in an environment of the lock, and in ones with what a single extra brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.house.lock import ROOT, closure, read_lock

SHARED = ["forebay_schemas", "forebay", "forebay_cli"]
HTTP_SERVERS = {"h11", "httptools", "starlette", "uvicorn"}

IMPORT_ALL = """
import importlib, pkgutil, sys
for package in map(importlib.import_module, sys.argv[1:]):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
            print(module.name)
"""

PARSE_SCHEMAS = """
import json
from importlib.resources import files
schemas = [f for f in files("forebay_schemas").iterdir() if f.name.endswith(".avsc")]
print(json.dumps({f.name: json.loads(f.read_text())["name"] for f in schemas}))
"""


class Environment:
    """A virtual environment without pip, which the pip of this environment fills."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _run(sys.executable, "-m", "venv", "--without-pip", str(path))
        (self.packages,) = path.glob("lib/python*/site-packages")

    def pip(self, *arguments: str) -> None:
        python = str(self.path / "bin" / "python")
        _run(sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", *arguments)

    def install(self, *arguments: str) -> None:
        self.pip("install", "--quiet", *arguments)

    def link(self, distributions: set[str]) -> None:
        """Makes the files of distributions of this environment importable in that one too."""
        for name in distributions:
            for file in metadata.distribution(name).files or []:
                if file.parts[0] != "..":
                    target = self.packages.joinpath(file)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.symlink_to(file.locate())

    def run(self, command: str, *arguments: str) -> str:
        return _run(str(self.path / "bin" / command), *arguments, cwd=self.path)


def _run(*command: str, cwd: Path = ROOT) -> str:
    # PYTHONPATH would lend the new environment what it lacks.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**environment, "COLUMNS": "200", "NO_COLOR": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "hatchling", "build", "--directory", str(directory))
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    packages = [ROOT / package for package in target["packages"]]
    files = {file.relative_to(package.parent) for package in packages for file in package.rglob("*") if file.is_file()}

    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert held == {file.as_posix() for file in files if "__pycache__" not in file.parts}
    assert {f"{package.name}/py.typed" for package in packages} <= held
    assert {"forebay_schemas/job.avsc", "forebay_schemas/released/job-1.avsc"} <= held


def test_the_source_distribution_builds_the_same_wheel(built: Path, wheel: Path, tmp_path: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(tmp_path, filter="data")
        else:  # Python before 3.11.4
            tar.extractall(tmp_path)  # noqa: S202 - it was made a moment ago, by this test
    (unpacked,) = tmp_path.iterdir()
    _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path), cwd=unpacked)

    (again,) = tmp_path.glob("*.whl")
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_runs_in_an_empty_environment_installed_from_the_lock(wheel: Path, tmp_path: Path) -> None:
    needed = closure("forebay[all]")
    everything = tmp_path / "everything.txt"
    everything.write_text("".join(pin.text for pin in read_lock() if pin.name in needed))
    environment = Environment(tmp_path / "environment")

    environment.install("--require-hashes", "--only-binary", ":all:", "--requirement", str(everything))
    environment.install("--no-deps", "--no-index", str(wheel))

    environment.pip("check")
    schemas = json.loads(environment.run("python", "-c", PARSE_SCHEMAS))
    assert schemas == {"job.avsc": "Job", "reply.avsc": "Reply", "operation.avsc": "Operation"}
    words = environment.run("forebay", "--help").split()
    assert {"up", "broker", "gateway", "processor", "topics", "operations"} <= set(words)
    assert "Usage: forebay broker" in environment.run("forebay", "broker", "--help")


@pytest.mark.parametrize("extra", ["gateway", "processor", "broker"])
def test_an_extra_brings_all_that_its_service_imports(wheel: Path, tmp_path: Path, extra: str) -> None:
    environment = Environment(tmp_path / "environment")
    environment.link(closure(f"forebay[{extra}]") - {"forebay"})
    environment.install("--no-deps", "--no-index", str(wheel))

    imported = environment.run("python", "-c", IMPORT_ALL, *SHARED, f"forebay_{extra}").split()
    assert [name for name in imported if name.startswith(f"forebay_{extra}.")]
    assert f"Usage: forebay {extra}" in environment.run("forebay", extra, "--help")


def test_a_processor_needs_no_http_server() -> None:
    assert closure("forebay[processor]") & HTTP_SERVERS == set()
    assert closure("forebay[gateway]") & HTTP_SERVERS == {"httptools"}
