"""The processes that CPU work runs in."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from forebay import failures
from forebay.app import load_app
from forebay.job import Job
from forebay_processor.run.pool import Pool, in_process

ONLY_IN_THE_PARENT = """
import multiprocessing
from forebay import Forebay

app = Forebay("shy")

if multiprocessing.parent_process() is not None:
    raise RuntimeError("not here")

@app.operation(cpu=True)
def compute(data: bytes) -> bytes:
    return data
"""


async def test_an_app_that_does_not_load_in_a_process_fails_each_call_and_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "shy_app.py").write_text(ONLY_IN_THE_PARENT)
    operation = load_app("shy_app", tmp_path).operations["compute"]
    job = Job(id="gw-1", key="k", tenant="t", attempt=1, deadline_ms=int(time.time() * 1000) + 60_000, is_replay=False)
    pool = Pool("shy_app", tmp_path, 1)
    try:
        for _ in range(2):
            result = await asyncio.wait_for(in_process(pool, operation, b"x", None, job), 60)
            assert result.failure is not None
            assert result.failure.problem.type == failures.HANDLER_FAILED
            assert result.failure.problem.detail == "its process could not load the app"
    finally:
        pool.stop()
    said = capfd.readouterr().err
    assert "app 'shy_app' cannot be imported: RuntimeError: not here (shy_app.py:8)" in said
    assert "Traceback" not in said
