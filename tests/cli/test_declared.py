"""What apps declare, found out before anything is started."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from forebay.errors import AppError
from forebay_cli.declared import declared_by
from tests.cli.shell import APP

HOLDS_THE_OUTPUT = f"""
import subprocess
subprocess.Popen([{sys.executable!r}, "-c", "import time; time.sleep(600)"])
"""


def ignore(_line: str) -> None:
    pass


async def test_a_process_that_the_app_starts_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HOLDS_THE_OUTPUT + APP)
    began = time.monotonic()
    [app] = await declared_by(["mine"], tmp_path, ignore)
    assert [operation["name"] for operation in app.operations] == ["convert", "greet"]
    assert time.monotonic() - began < 60


async def test_an_app_that_ends_the_process_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import os\nos._exit(0)")
    with pytest.raises(
        AppError, match=r"^app 'mine' fails: it ends the process with exit code 0 while it is imported$"
    ):
        await declared_by(["mine"], tmp_path, ignore)


async def test_what_an_app_writes_before_it_fails_is_passed_on_and_its_variables_are_not_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_SLOT", "3")
    (tmp_path / "mine.py").write_text("print('about to fail')\n1 / 0")
    lines: list[str] = []
    with pytest.raises(AppError, match="ZeroDivisionError"):
        await declared_by(["mine"], tmp_path, lines.append)
    assert lines == ["about to fail"]


async def test_loading_can_be_cancelled(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import time\ntime.sleep(600)")
    loading = asyncio.create_task(declared_by(["mine"], tmp_path, ignore))
    await asyncio.sleep(0)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
