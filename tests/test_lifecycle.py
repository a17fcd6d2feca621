"""Services begin and end in order: a manager is told of it, and tasks have an owner."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from forebay.lifecycle import OwnedTasks, notify


def test_news_goes_to_the_socket_that_the_manager_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path holds about a hundred bytes, and this one's may be longer
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("notify")
        monkeypatch.setenv("NOTIFY_SOCKET", str(Path("/proc/self/cwd/notify")))
        notify(READY="1", STATUS="serves\nhttp://127.0.0.1:8080")
        assert manager.recv(4096) == b"READY=1\nSTATUS=serves http://127.0.0.1:8080"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody-listens", "vsock:2:1234", "/" + "x" * 200])
def test_without_a_manager_news_goes_nowhere(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify(READY="1")


@pytest.fixture
def failures() -> list[BaseException]:
    return []


@pytest.fixture
def tasks(failures: list[BaseException]) -> OwnedTasks:
    return OwnedTasks(failures.append)


async def test_a_task_is_owned_until_it_ends(tasks: OwnedTasks) -> None:
    go = asyncio.Event()

    async def waits() -> None:
        await go.wait()

    tasks.start(waits())
    assert len(tasks) == 1
    assert not await tasks.wait(0)
    go.set()
    assert await tasks.wait(5)
    assert len(tasks) == 0


async def test_a_failure_reaches_the_owner_once(tasks: OwnedTasks, failures: list[BaseException]) -> None:
    async def fails() -> None:
        raise ValueError("no")

    tasks.start(fails())
    await tasks.wait(5)
    await asyncio.sleep(0)
    assert [str(failure) for failure in failures] == ["no"]


async def test_cancelling_ends_every_task_and_is_no_failure(tasks: OwnedTasks, failures: list[BaseException]) -> None:
    for _ in range(3):
        tasks.start(asyncio.sleep(60))
    await tasks.cancel()
    await asyncio.sleep(0)
    assert len(tasks) == 0
    assert failures == []
    assert await tasks.wait(0), "nothing is left to wait for"
