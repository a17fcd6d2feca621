"""``forebay up`` with everything real: Kafka, gateway, processor."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.shell import APP, BOUND, Shell, Up, environment
from tests.support.brokers import Broker, Kafka
from tests.support.ports import free_ports
from tests.support.processes import has_ended


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "greetings.py").write_text(APP)
    return tmp_path


@pytest.fixture
def ports() -> list[int]:
    """Three ports that nobody else uses now."""
    return free_ports(3)


@pytest.fixture
def arguments(kafka: Kafka, namespace: str, ports: list[int]) -> list[str]:
    """To run the app on the tests' own Kafka."""
    port, admin_port, _ = ports
    return [
        *("greetings", "--bootstrap-servers", kafka.bootstrap_servers, "--namespace", namespace),
        *("--port", str(port), "--admin-port", str(admin_port)),
    ]


def call(port: int, operation: str, **request: object) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=BOUND)
    connection.request("POST", f"/v1/{operation}", json.dumps(request), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def greet(port: int) -> str:
    status, answer = call(port, "greet", name="you")
    assert status == 200, answer
    return str(answer["text"])


def gone(processes: list[psutil.Process]) -> bool:
    return all(map(has_ended, processes))


def test_it_answers_says_where_and_stops_in_order(folder: Path, arguments: list[str], ports: list[int]) -> None:
    port, admin_port, _ = ports
    with Up(folder, *arguments) as up:
        up.until_ready()
        assert greet(port) == "hello you"
        for place in (
            f"API      http://127.0.0.1:{port}/v1/<operation>",
            f"health   http://127.0.0.1:{admin_port}/health/ready",
            f"metrics  http://127.0.0.1:{admin_port}/metrics",
            f'curl --json \'{{"name": "text"}}\' http://127.0.0.1:{port}/v1/greet',
        ):
            assert place in up.output
        assert "broker" not in {line.split("|")[0].strip() for line in up.output.splitlines()}
        started = up.descendants()
        assert up.stop() == 0
        assert gone(started)
        said = up.output
        assert (
            said.index("gateway-1   | ") < said.rindex("is stopping; requests held: 0") < said.rindex("is stopping\n")
        )
        assert said.endswith("forebay     | stopped\n")


def test_a_killed_processor_is_replaced(folder: Path, arguments: list[str], ports: list[int]) -> None:
    with Up(folder, *arguments) as up:
        up.until_ready()
        up.child("processor").send_signal(signal.SIGKILL)
        up.until(lambda: up.count("processor-1 was ended by SIGKILL; starting it again"))
        up.until(lambda: up.count(r"^processor-1 \| .* runs ") == 2)
        assert greet(ports[0]) == "hello you"
        assert up.stop(signal.SIGTERM) == 0


def test_a_killed_gateway_is_replaced(folder: Path, arguments: list[str], ports: list[int]) -> None:
    with Up(folder, *arguments) as up:
        up.until_ready()
        up.child("gateway").send_signal(signal.SIGKILL)
        up.until(lambda: up.count(r"^gateway-1   \| .* serves ") == 2)
        assert greet(ports[0]) == "hello you"


def test_several_gateways_and_processors_work_side_by_side(folder: Path, arguments: list[str]) -> None:
    with Up(folder, *arguments, "--gateways", "2", "--processors", "2") as up:
        up.until_ready()
        urls = [line.split("http://127.0.0.1:")[1] for line in up.output.splitlines() if "  API  " in line]
        ports = [int(url.split("/")[0]) for url in urls]
        assert len(set(ports)) == 2
        assert [greet(port) for port in ports] == ["hello you", "hello you"]
        assert up.stop() == 0


EVERY_TIER = """
import asyncio, logging, logging.config, os
from dataclasses import dataclass
from forebay import Forebay

logging.config.dictConfig({"version": 1, "disable_existing_loggers": True, "root": {"level": "CRITICAL"}})
app = Forebay("tiers")

@dataclass
class Nothing:
    pass

@app.operation(tier="interactive", deadline=20.0)
async def quick(request: Nothing) -> Nothing:
    return request

@app.operation(tier="standard", deadline=20.0)
async def usual(request: Nothing) -> Nothing:
    return request

@app.operation(tier="bulk", deadline=20.0)
async def long(request: Nothing) -> Nothing:
    return request

@app.operation(tier="bulk", deadline=120.0)
async def endless(request: Nothing) -> Nothing:
    open("endless", "w").close()
    await asyncio.sleep(120)
    return request

@app.operation(tier="bulk", deadline=12.0)
async def deadly(request: Nothing) -> Nothing:
    os._exit(7)
"""


def test_once_ready_calls_to_every_tier_are_answered_at_once_though_the_app_keeps_the_log_for_itself(
    folder: Path, arguments: list[str], ports: list[int]
) -> None:
    (folder / "tiers.py").write_text(EVERY_TIER)
    with Up(folder, "tiers", *arguments[1:]) as up:
        up.until_ready()
        began = time.monotonic()
        with ThreadPoolExecutor() as pool:
            answers = list(pool.map(lambda name: call(ports[0], name), ("quick", "usual", "long")))
        assert answers == [(200, {})] * 3
        assert time.monotonic() - began < 6.0, "no session timed out and no rebalance was waited for"


def test_a_job_that_ends_its_process_ends_neither_the_other_tiers_nor_forebay_up(
    folder: Path, arguments: list[str], ports: list[int]
) -> None:
    (folder / "tiers.py").write_text(EVERY_TIER)
    with Up(folder, "tiers", *arguments[1:]) as up, ThreadPoolExecutor() as pool:
        up.until_ready()
        deadly = pool.submit(call, ports[0], "deadly")
        up.until(lambda: up.count("processor-1 ended with exit code 7; starting it again"))
        status, answer = deadly.result(BOUND)
        assert status == 504, answer
        for operation in ("quick", "long"):
            up.until(lambda name=operation: call(ports[0], name) == (200, {}))  # type: ignore[misc] # it has a default
        assert up.stop() == 0


def test_a_second_signal_still_gives_each_held_caller_an_answer(
    folder: Path, arguments: list[str], ports: list[int]
) -> None:
    (folder / "tiers.py").write_text(EVERY_TIER)
    with Up(folder, "tiers", *arguments[1:]) as up, ThreadPoolExecutor() as pool:
        up.until_ready()
        held = pool.submit(call, ports[0], "endless")
        up.until((folder / "endless").exists)
        up.process.send_signal(signal.SIGINT)
        up.until(lambda: up.count("SIGINT: stopping; again to hurry"))
        up.process.send_signal(signal.SIGINT)
        status, answer = held.result(BOUND)
        assert (status, answer["type"]) == (503, "urn:forebay:problem:stopping")
        assert up.process.wait(BOUND) == 0
        assert not up.count("killing it"), up.output


def test_several_apps_run_side_by_side(folder: Path, arguments: list[str], ports: list[int]) -> None:
    (folder / "tiers.py").write_text(EVERY_TIER)
    with Up(folder, "tiers", *arguments) as up:
        up.until_ready()
        assert "operations of greetings: convert, greet\n" in up.output
        assert "operations of tiers: deadly, endless, long, quick, usual\n" in up.output
        assert greet(ports[0]) == "hello you"
        assert call(ports[0], "quick") == (200, {})
        assert up.count(r"^processor-greetings-1 \| .* runs greet, convert in 16 slots") == 1
        assert up.stop() == 0


def test_an_app_that_is_broken_while_it_runs_is_tried_until_it_is_mended(
    folder: Path, arguments: list[str], ports: list[int]
) -> None:
    with Up(folder, *arguments) as up:
        up.until_ready()
        (folder / "greetings.py").write_text("")
        up.child("processor").kill()
        up.until(lambda: up.count("processor-1 cannot start; starting it again in"))
        (folder / "greetings.py").write_text(APP)
        up.until(lambda: up.count(r"^processor-1 \| .* runs ") == 2)
        assert greet(ports[0]) == "hello you"


def test_a_cluster_that_is_not_there_yet_is_waited_for(
    own_broker: Callable[[], Broker], folder: Path, arguments: list[str], ports: list[int]
) -> None:
    broker = own_broker()
    broker.kill()
    arguments[arguments.index("--bootstrap-servers") + 1] = broker.bootstrap_servers
    with Up(folder, *arguments) as up:
        up.until(lambda: up.count(rf"^forebay     \| waiting for the cluster: .*{broker.bootstrap_servers}"))
        broker.start()
        up.until_ready()
        assert greet(ports[0]) == "hello you"
        assert up.count("waiting for the cluster") == 1
        assert up.stop() == 0


def test_it_can_be_stopped_while_it_waits_for_a_cluster(folder: Path, arguments: list[str]) -> None:
    arguments[arguments.index("--bootstrap-servers") + 1] = "127.0.0.1:1"
    with Up(folder, *arguments) as up:
        up.until(lambda: up.count("waiting for the cluster"))
        assert up.stop() == 0
        assert "processor" not in up.output


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("", "apps 'others' and 'greetings' are both named 'greetings'"),
        ('Forebay("others")', "operation 'convert' is declared by app 'others' and by app 'greetings'"),
    ],
)
def test_apps_that_cannot_run_side_by_side_are_refused(
    folder: Path, arguments: list[str], change: str, sentence: str
) -> None:
    (folder / "others.py").write_text(APP.replace('Forebay("greetings")', change) if change else APP)
    result = Shell(folder).forebay("up", "others", *arguments)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_nothing_outlives_it_even_when_it_is_killed(folder: Path, arguments: list[str]) -> None:
    with Up(folder, *arguments) as up:
        up.until_ready()
        started = up.descendants()
        assert len(started) >= 2
        up.process.kill()
        up.until(lambda: gone(started))


def test_with_no_cluster_given_it_brings_its_own_broker(folder: Path, ports: list[int]) -> None:
    port, admin_port, broker_port = ports
    numbers = ["--port", str(port), "--admin-port", str(admin_port), "--broker-port", str(broker_port)]
    with Up(folder, "greetings", *numbers) as up:
        up.until_ready()
        assert greet(port) == "hello you"
        started = up.descendants()
        assert up.stop() == 0
        assert gone(started)
        assert up.output.endswith("broker      | broker stopped\nforebay     | stopped\n")
        assert (folder / ".forebay").is_dir()


def test_when_nobody_reads_its_output_any_more_it_stops_everything(folder: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "forebay_cli", "up", *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        assert up.stderr is not None
        up.stdout.readline()
        started = psutil.Process(up.pid).children(recursive=True)
        up.stdout.close()
        assert up.wait(BOUND) == 1
        assert gone(started)
        assert up.stderr.read() == "forebay: the output cannot be written: Broken pipe\n"


@pytest.mark.parametrize(
    ("app", "sentence"),
    [
        ("nowhere", "app 'nowhere': there is no module 'nowhere' in "),
        ("greetings:nothing", "app 'greetings:nothing': 'nothing' in module 'greetings' is nothing, not a Forebay app"),
    ],
)
def test_an_app_that_cannot_be_loaded_ends_it_with_its_sentence_before_anything_starts(
    folder: Path, ports: list[int], app: str, sentence: str
) -> None:
    result = Shell(folder).forebay("up", app, "greetings", "--broker-port", str(ports[0]), FOREBAY_SLOT="3")
    assert result.returncode == 2
    warning, told = result.stderr.splitlines()
    assert sentence in told
    assert warning == "forebay: warning: FOREBAY_SLOT is no setting and is ignored; is FOREBAY_SLOTS meant?"
    assert result.stdout == ""
    assert not (folder / ".forebay").exists()


def test_a_port_that_is_taken_ends_it_with_a_sentence(folder: Path, arguments: list[str], ports: list[int]) -> None:
    with socket.create_server(("127.0.0.1", ports[0])):
        result = Shell(folder).forebay("up", *arguments)
    assert result.returncode == 2
    assert result.stderr == (
        f"forebay: gateway-1 cannot start: cannot listen on 127.0.0.1:{ports[0]}: Address already in use; "
        "choose another with --port or FOREBAY_HTTP_PORT\n"
    )


def test_a_brokers_port_that_is_taken_is_told_with_the_flag_of_this_command(folder: Path, ports: list[int]) -> None:
    with socket.create_server(("127.0.0.1", ports[0])):
        taken = f"port {ports[0]} is taken; choose another with"
        up = Shell(folder).forebay("up", "greetings", "--broker-port", str(ports[0]))
        assert up.stderr == f"forebay: broker cannot start: {taken} --broker-port or FOREBAY_BROKER_PORT\n"
        broker = Shell(folder).forebay("broker", "--port", str(ports[0]))
        assert broker.stderr == f"forebay: {taken} --port or FOREBAY_BROKER_PORT\n"
    assert (up.returncode, broker.returncode) == (2, 2)


def test_two_gateways_on_one_port_are_refused_before_anything_starts(folder: Path, ports: list[int]) -> None:
    result = Shell(folder).forebay("up", "greetings", "--port", str(ports[0]), "--admin-port", str(ports[0]))
    assert result.returncode == 2
    assert result.stdout == ""
    assert "http_port and admin_port are both" in result.stderr
