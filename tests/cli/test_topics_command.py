"""``forebay topics`` and ``forebay operations`` against a real Kafka."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from forebay.kafka import Admin
from forebay.settings import load_settings
from tests.cli.shell import APP, BOUND, Shell, environment
from tests.support.brokers import Kafka


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def cluster(kafka: Kafka, namespace: str) -> list[str]:
    return ["--bootstrap-servers", kafka.bootstrap_servers, "--namespace", namespace]


def states(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    _, *rows = [line.split("\t") for line in result.stdout.splitlines()]
    return {name: state for name, state, *_ in rows}


TOPICS = [
    "catalog",
    *(f"jobs.greetings.{tier}" for tier in ("interactive", "standard", "bulk")),
    *(f"retries.greetings.{delay}" for delay in ("200ms", "1s", "5s", "30s", "5m")),
    "dead.greetings",
]


@pytest.fixture
def greetings(shell: Shell) -> list[str]:
    """The app of that name, as an option."""
    (shell.folder / "greetings.py").write_text(APP)
    return ["--app", "greetings"]


def test_missing_topics_are_shown_then_created_then_fine(
    shell: Shell, cluster: list[str], namespace: str, greetings: list[str]
) -> None:
    before = shell.forebay("topics", *greetings, *cluster)
    assert before.returncode == 1
    assert states(before) == dict.fromkeys([f"{namespace}{name}" for name in TOPICS], "missing")
    assert "forebay topics --apply" in before.stderr
    applied = shell.forebay("topics", "--apply", *greetings, *cluster)
    assert (applied.returncode, applied.stderr) == (0, "")
    after = shell.forebay("topics", *greetings, *cluster)
    assert after.returncode == 0
    assert states(after) == dict.fromkeys([f"{namespace}{name}" for name in TOPICS], "ok")


def test_without_an_app_there_is_only_the_catalog(shell: Shell, cluster: list[str], namespace: str) -> None:
    applied = shell.forebay("topics", "--apply", *cluster)
    assert (applied.returncode, states(applied)) == (0, {f"{namespace}catalog": "ok"})


def test_an_app_that_cannot_be_loaded_is_one_sentence(shell: Shell, cluster: list[str]) -> None:
    result = shell.forebay("topics", "--app", "nowhere", *cluster)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("forebay: app 'nowhere': there is no module 'nowhere' in ")


def test_several_may_apply_at_once(shell: Shell, cluster: list[str], greetings: list[str]) -> None:
    command = [sys.executable, "-m", "forebay_cli", "topics", "--apply", *greetings, *cluster]
    racers = [
        subprocess.Popen(command, cwd=shell.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(3)
    ]
    said = [racer.communicate(timeout=BOUND)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0], said


def test_a_topic_in_another_shape_is_reported_and_left_as_it_is(
    shell: Shell, cluster: list[str], kafka: Kafka, namespace: str, greetings: list[str]
) -> None:
    settings = load_settings(bootstrap_servers=kafka.bootstrap_servers, namespace=namespace)

    async def create() -> None:
        async with Admin.connect(settings) as admin:
            await admin.create(f"{namespace}jobs.greetings.bulk", 3, -1, {"cleanup.policy": "compact"})

    asyncio.run(create())
    result = shell.forebay("topics", "--apply", *greetings, *cluster)
    assert result.returncode == 1
    assert states(result)[f"{namespace}jobs.greetings.bulk"] == "mismatch"
    assert "3 (should be 12)" in result.stdout
    assert f"{namespace}jobs.greetings.bulk has 3 partitions, needs 12\n" in result.stderr
    assert f"{namespace}jobs.greetings.bulk cleanup.policy is compact, must be delete\n" in result.stderr


def test_without_a_catalog_there_are_no_operations(shell: Shell, cluster: list[str]) -> None:
    result = shell.forebay("operations", *cluster)
    assert (result.returncode, result.stdout, result.stderr) == (
        0,
        "",
        "No processor has announced an operation yet.\n",
    )


def test_what_a_processor_announces_is_listed_as_its_app_declares_it(
    shell: Shell, cluster: list[str], namespace: str, greetings: list[str]
) -> None:
    command = [sys.executable, "-m", "forebay_cli", "processor", "greetings", *cluster]
    with subprocess.Popen(
        command, cwd=shell.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as processor:
        try:
            assert processor.stdout is not None
            assert any(" runs " in line for line in processor.stdout)
        finally:
            processor.terminate()
        processor.communicate(timeout=BOUND)
        assert processor.returncode == 0
    listed = json.loads(shell.forebay("operations", "--json", *cluster).stdout)
    declared = json.loads(shell.forebay("operations", "--json", *greetings).stdout)
    assert [operation["name"] for operation in listed] == ["convert", "greet"]
    assert listed == declared
    assert states(shell.forebay("topics", *cluster)) == dict.fromkeys([f"{namespace}{name}" for name in TOPICS], "ok")
