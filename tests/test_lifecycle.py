from __future__ import annotations

import socket
from pathlib import Path

import pytest

from forebay.lifecycle import notify


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
