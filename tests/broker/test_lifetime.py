"""The command and its JVM, from start to end, as processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.ports import free_ports
from tests.support.processes import has_ended

START = [sys.executable, "-m", "forebay_cli", "broker"]
PATIENCE = 60.0


class Command:
    """``forebay broker`` as a process, with its output in a file."""

    def __init__(self, folder: Path, *flags: str, start: list[str] = START) -> None:
        self.output = folder / "output"
        with self.output.open("wb") as output:
            arguments = [*start, "--port", str(free_ports(1)[0]), "--data-dir", str(folder / "data"), *flags]
            self.process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT)

    def text(self) -> str:
        return self.output.read_text()

    def until_ready(self) -> psutil.Process:
        """Return the JVM of a broker that answers."""
        [jvm] = self.until_all_ready()
        return jvm

    def until_all_ready(self) -> list[psutil.Process]:
        """Return the JVMs of a cluster that answers."""
        self.until_it_says("broker ready")
        parent = psutil.Process(self.process.pid)
        wait_for(lambda: jvms_of(parent) != [])
        return jvms_of(parent)

    def until_it_says(self, words: str) -> None:
        wait_for(lambda: words in self.text() or self.process.poll() is not None)
        assert words in self.text(), self.text()


def jvms_of(process: psutil.Process) -> list[psutil.Process]:
    jvms = []
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one that has just ended
            if "kafka.Kafka" in child.cmdline():
                jvms.append(child)
    return jvms


def jvms_in(folder: Path) -> list[psutil.Process]:
    """The JVMs that keep their data somewhere in a folder, whoever started them."""
    return [
        process
        for process in psutil.process_iter(["name", "cwd"])
        if process.info["name"] == "java" and (process.info["cwd"] or "").startswith(str(folder))
    ]


def wait_for(condition: Callable[[], bool], timeout: float = PATIENCE) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    commands: list[Command] = []

    def start(*flags: str, start: list[str] = START) -> Command:
        commands.append(Command(tmp_path, *flags, start=start))
        return commands[-1]

    yield start
    for command in commands:
        command.process.kill()
        command.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(run: Callable[..., Command], tmp_path: Path, number: signal.Signals) -> None:
    command = run()
    jvm = command.until_ready()
    assert re.search(r"broker ready at 127\.0\.0\.1:\d+: first acknowledged produce after \d+\.\d s", command.text())
    command.process.send_signal(number)
    assert command.process.wait(PATIENCE) == 0
    assert has_ended(jvm)
    assert (tmp_path / "data/broker/data/.kafka_cleanshutdown").exists()
    assert "Traceback" not in command.text()


def test_a_signal_while_it_starts_leaves_no_jvm(run: Callable[..., Command]) -> None:
    command = run()
    parent = psutil.Process(command.process.pid)
    wait_for(lambda: jvms_of(parent) != [])
    [jvm] = jvms_of(parent)
    command.process.send_signal(signal.SIGTERM)
    assert command.process.wait(PATIENCE) == 0
    assert has_ended(jvm)
    assert "Traceback" not in command.text()


STOPPED_IN_CODE_FROM_A_STRING = """
import os, signal
from forebay_cli import broker
broker._run = lambda *_: exec("os.kill(os.getpid(), signal.SIGTERM); [number for number in range(10**6)]")
broker.broker()
"""


def test_a_signal_while_code_from_a_string_runs_ends_it_in_order() -> None:
    """Python would end by SIGINT after a `KeyboardInterrupt` there, caught or not; importing makes many dataclasses."""
    done = subprocess.run([sys.executable, "-c", STOPPED_IN_CODE_FROM_A_STRING], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "broker stopped\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the kernel to end a child with its parent")
def test_killing_the_command_takes_the_jvm_with_it(run: Callable[..., Command]) -> None:
    command = run()
    jvm = command.until_ready()
    command.process.kill()
    wait_for(lambda: has_ended(jvm))


def test_it_ends_with_the_process_that_started_it(run: Callable[..., Command]) -> None:
    in_between = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    command = run("--exit-with-parent", start=[sys.executable, "-c", in_between, *START])
    jvm = command.until_ready()
    broker = jvm.parent()
    assert broker is not None
    assert broker.pid != command.process.pid
    command.process.kill()
    wait_for(lambda: has_ended(broker) and has_ended(jvm))
    assert "broker stopped" in command.text()


def test_a_kafka_that_dies_is_reported(run: Callable[..., Command]) -> None:
    command = run()
    os.kill(command.until_ready().pid, signal.SIGKILL)
    assert command.process.wait(PATIENCE) == 1
    assert "forebay: Kafka ended by itself: it was killed (SIGKILL)" in command.text()


def test_a_paused_kafka_still_stops(run: Callable[..., Command]) -> None:
    command = run()
    jvm = command.until_ready()
    jvm.suspend()
    command.process.terminate()
    assert command.process.wait(PATIENCE) == 0
    assert has_ended(jvm)


def test_a_node_of_several_that_dies_is_started_again(run: Callable[..., Command], tmp_path: Path) -> None:
    command = run("--nodes", "3")
    jvms = command.until_all_ready()
    assert len(jvms) == 3
    [(address, pid)] = re.findall(r"node 2 at (\S+) is process (\d+)", command.text())
    os.kill(int(pid), signal.SIGKILL)
    command.until_it_says(f"node 2 at {address} is back after")
    assert f"node 2 at {address} ended by itself and is started again: it was killed (SIGKILL)" in command.text()
    command.process.kill()
    if sys.platform == "linux":
        wait_for(lambda: not jvms_in(tmp_path))


def test_several_nodes_stop_in_order_and_are_not_taken_for_one(run: Callable[..., Command], tmp_path: Path) -> None:
    command = run("--nodes", "3")
    jvms = command.until_all_ready()
    command.process.send_signal(signal.SIGTERM)
    assert command.process.wait(PATIENCE) == 0
    assert all(map(has_ended, jvms))
    assert len(list(tmp_path.glob("data/broker/node-*/data/.kafka_cleanshutdown"))) == 3
    alone = run()
    assert alone.process.wait(PATIENCE) == 2
    assert "holds a cluster of 3: start it with --nodes 3" in alone.text()


def test_an_even_number_of_nodes_is_refused(run: Callable[..., Command]) -> None:
    command = run("--nodes", "2")
    assert command.process.wait(PATIENCE) == 2
    assert "2 is even" in command.text()
