"""The supervisor with real processes, each a few lines of Python."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from forebay.errors import ConfigurationError, ForebayError
from forebay_cli import child
from forebay_cli.child import Program
from forebay_cli.restart import RestartPolicy
from forebay_cli.supervisor import Pace, Plan, Supervisor
from tests.support.processes import is_alive

BOUND = 30.0
READY = """
import os, socket
def ready(**more):
    news = "\\n".join(name + "=" + value for name, value in (dict(READY="1") | more).items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(news.encode(), os.environ["NOTIFY_SOCKET"].replace("@", "\\0"))
"""
"""Defines what a program calls to say that it is ready."""
UP_WHEN_READY = READY + "import time\nready()\nprint('up', flush=True)\ntime.sleep(600)"
FOREVER = READY + "import time\nprint('up', flush=True)\nready()\ntime.sleep(600)"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FOREVER
SAYS_HOW_IT_ENDS = (
    READY
    + """
import signal, sys, time
def end(*_):
    time.sleep({delay})
    print("ended", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
ready()
time.sleep(600)
"""
)


@dataclass
class Lines:
    """Collects what a supervisor says."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def say(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def of(self, name: str) -> list[str]:
        """What a program has said; of the supervisor all but what it starts first."""
        return [line for whose, line in self.lines if whose == name and not line.startswith("starting ")]


def program(name: str, code: str, stop_within: float = BOUND, hurry_within: float = 1.0, limit: int = 3) -> Program:
    policy = RestartPolicy(limit=limit, first_delay=0.01, longest_delay=0.05)
    return Program(name, [sys.executable, "-c", code], stop_within, hurry_within, policy)


def plan(*processors: Program, gateways: tuple[Program, ...] = (), broker: Program | None = None) -> Plan:
    return Plan(broker, processors, gateways)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND):
        while not condition():  # noqa: ASYNC110 - it may be about processes, which set no event
            await asyncio.sleep(0.02)


async def nothing() -> None:
    pass


@asynccontextmanager
async def running(what: Plan, lines: Lines) -> AsyncIterator[Supervisor]:
    """Run a plan for the length of the block, then stop it and wait."""
    supervisor = Supervisor(what, lines.say)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(supervisor.run(nothing, nothing))
        try:
            yield supervisor
        finally:
            supervisor.stop()


Children = Callable[[], list[psutil.Process]]


@pytest.fixture
def children() -> Children:
    """The processes that were started since the test began: a broker of the whole run may be there, too."""
    others = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in others]


async def test_lines_of_both_streams_are_passed_on_with_the_name_of_the_program() -> None:
    lines = Lines()
    code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\nprint('no end', end='', flush=True)\n" + FOREVER
    async with running(plan(program("p", code)), lines):
        await until(lambda: len(lines.of("p")) >= 3)
    assert lines.of("p") == ["out", "err", "no endup"]


async def test_a_line_of_any_length_and_any_bytes_is_passed_on() -> None:
    lines = Lines()
    code = "import sys\nsys.stdout.buffer.write(b'x' * 300_000 + b'\\n\\xff\\n')\nprint('done', flush=True)\n" + FOREVER
    async with running(plan(program("p", code)), lines):
        await until(lambda: "done" in lines.of("p"))
    *long, odd = lines.of("p")[: lines.of("p").index("done")]
    assert "".join(long) == "x" * 300_000
    assert odd == "\N{REPLACEMENT CHARACTER}"


async def test_a_program_that_was_killed_is_started_again(children: Children) -> None:
    lines = Lines()
    async with running(plan(program("p", UP_WHEN_READY)), lines):
        await until(lambda: lines.of("p") == ["up"])
        (first,) = children()
        first.send_signal(signal.SIGKILL)
        await until(lambda: lines.of("p") == ["up", "up"])
        await until(lambda: "p is ready again" in lines.of("forebay"))
    assert lines.of("forebay") == ["p was ended by SIGKILL; starting it again in 0.01 s", "p is ready again"]


async def test_what_a_dead_program_had_started_is_killed_before_it_is_started_again(
    tmp_path: Path, children: Children
) -> None:
    note = tmp_path / "grandchild"
    code = f"""
import pathlib, subprocess, sys, time
note = pathlib.Path({str(note)!r})
if not note.exists():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note.write_text(str(child.pid))
print("up", flush=True)
time.sleep(600)
"""
    lines = Lines()
    async with running(plan(program("p", code)), lines):
        await until(lambda: lines.of("p") == ["up"])
        (first,) = children()
        first.send_signal(signal.SIGKILL)
        await until(lambda: lines.of("p") == ["up", "up"])
        assert not is_alive(int(note.read_text()))


async def test_a_program_that_ends_again_and_again_is_given_up_and_the_others_are_stopped(children: Children) -> None:
    lines = Lines()
    dies = "print('forebay: nobody answers', flush=True)\nraise SystemExit(1)"
    with pytest.raises(ForebayError) as raised:
        await Supervisor(plan(program("p", dies), program("q", FOREVER)), lines.say).run(nothing, nothing)
    assert not isinstance(raised.value, ConfigurationError)
    assert str(raised.value) == ("p ended with exit code 1 before it was ready, 3 times in a row: nobody answers")
    assert children() == []


async def test_a_program_that_was_ready_once_is_started_again_for_ever_whatever_it_ends_with(tmp_path: Path) -> None:
    note = tmp_path / "starts"
    code = f"""{READY}
import pathlib, sys
note = pathlib.Path({str(note)!r})
starts = len(note.read_text()) if note.exists() else 0
note.write_text("x" * (starts + 1))
if not starts:
    ready()
print("forebay: the app is broken", flush=True)
raise SystemExit(2 if starts else 1)
"""
    lines = Lines()
    async with running(plan(program("p", code, limit=2), program("q", FOREVER)), lines):
        await until(lambda: note.exists() and len(note.read_text()) >= 6)
    assert lines.of("forebay")[:2] == [
        "p ended with exit code 1; starting it again in 0.01 s",
        "p cannot start; starting it again in 0.02 s",
    ]
    assert lines.of("q") == ["up"]


async def test_a_program_that_the_cluster_does_not_answer_is_never_given_up() -> None:
    lines = Lines()
    dies = "print('forebay: nobody answers', flush=True)\nraise SystemExit(75)"
    async with running(plan(program("p", dies, limit=2)), lines):
        await until(lambda: len(lines.of("p")) >= 5)
    assert {line.partition(";")[0] for line in lines.of("forebay")} == {"p ended with exit code 75"}


async def test_a_warning_is_not_taken_for_the_cause_of_an_end() -> None:
    code = "print('forebay: warning: FOREBAY_SLOT is no setting', flush=True)\nraise SystemExit(2)"
    with pytest.raises(ConfigurationError, match=r"^p cannot start: see its last lines above$"):
        await Supervisor(plan(program("p", code)), Lines().say).run(nothing, nothing)


async def test_a_users_mistake_is_not_tried_again_and_its_sentence_is_shown() -> None:
    lines = Lines()
    dies = "print('forebay: there is no such app', flush=True)\nraise SystemExit(2)"
    with pytest.raises(ConfigurationError, match=r"^p cannot start: there is no such app$"):
        await Supervisor(plan(program("p", dies)), lines.say).run(nothing, nothing)
    assert lines.of("p") == ["forebay: there is no such app"]


async def test_they_stop_in_order_and_each_step_waits_for_the_one_before(children: Children) -> None:
    lines = Lines()
    slow, quick = SAYS_HOW_IT_ENDS.format(delay=0.3), SAYS_HOW_IT_ENDS.format(delay=0)
    what = plan(program("p", slow), gateways=(program("g", slow),), broker=program("b", quick))
    async with running(what, lines):
        await until(lambda: [line for _, line in lines.lines].count("up") == 3)
    assert [name for name, line in lines.lines if line == "ended"] == ["g", "p", "b"]
    assert children() == []


async def test_a_stubborn_program_is_killed_after_its_bound(children: Children) -> None:
    lines = Lines()
    async with running(plan(program("p", STUBBORN, stop_within=0.2)), lines):
        await until(lambda: lines.of("p") == ["up"])
    assert lines.of("forebay") == ["p has not ended within 0.2 s; killing it"]
    assert children() == []


async def test_asked_twice_to_stop_it_hurries() -> None:
    lines = Lines()
    what = plan(program("p", STUBBORN, hurry_within=0.2), gateways=(program("g", STUBBORN, hurry_within=0.3),))
    supervisor = Supervisor(what, lines.say)
    running_it = asyncio.create_task(supervisor.run(nothing, nothing))
    await until(lambda: lines.of("p") == lines.of("g") == ["up"])
    assert [supervisor.stop(), supervisor.stop()] == [Pace.IN_ORDER, Pace.HURRIED]
    await running_it
    killed = ["g has not ended within 0.3 s; killing it", "p has not ended within 0.2 s; killing it"]
    assert lines.of("forebay") == killed


async def test_a_program_that_hurries_is_told_by_a_second_sigterm_and_gets_time_to_answer() -> None:
    lines = Lines()
    code = f"""{READY}
import signal, sys, time
asked = []
def end(*_):
    asked.append(1)
    print("asked", flush=True)
    if len(asked) == 2:
        time.sleep(0.5)
        print("everybody has an answer", flush=True)
        sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
ready()
while True:
    time.sleep(600)
"""
    supervisor = Supervisor(plan(gateways=(program("g", code, hurry_within=BOUND),)), lines.say)
    running_it = asyncio.create_task(supervisor.run(nothing, nothing))
    await until(lambda: lines.of("g") == ["up"])
    supervisor.stop()
    await until(lambda: lines.of("g") == ["up", "asked"])
    supervisor.stop()
    await running_it
    assert lines.of("g") == ["up", "asked", "asked", "everybody has an answer"]
    assert lines.of("forebay") == []


async def test_asked_three_times_to_stop_it_kills(children: Children) -> None:
    lines = Lines()
    what = plan(program("p", STUBBORN, hurry_within=BOUND), gateways=(program("g", STUBBORN, hurry_within=BOUND),))
    supervisor = Supervisor(what, lines.say)
    running_it = asyncio.create_task(supervisor.run(nothing, nothing))
    await until(lambda: lines.of("p") == lines.of("g") == ["up"])
    assert [supervisor.stop() for _ in range(3)] == [Pace.IN_ORDER, Pace.HURRIED, Pace.KILLED]
    async with asyncio.timeout(BOUND / 2):
        await running_it
    assert children() == []


async def test_nothing_else_starts_before_the_broker_is_ready() -> None:
    lines = Lines()
    broker = program("b", "import time\ntime.sleep(0.3)\nprint('the broker is ready')\n" + FOREVER)
    async with running(plan(program("p", FOREVER), broker=broker), lines):
        await until(lambda: lines.of("p"))
    assert lines.lines[:5] == [
        ("forebay", "starting b"),
        ("b", "the broker is ready"),
        ("b", "up"),
        ("forebay", "starting p"),
        ("p", "up"),
    ]


UNREADY = READY + "import time\nprint('up', flush=True)\n{}\ntime.sleep(600)"


async def test_ready_is_reported_once_every_program_is(tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    waits = f"import pathlib\nwhile not pathlib.Path({str(switch)!r}).exists(): time.sleep(0.01)\nready()"
    ready = asyncio.Event()

    async def when_ready() -> None:
        ready.set()

    lines = Lines()
    supervisor = Supervisor(plan(program("p", FOREVER), program("q", UNREADY.format(waits))), lines.say)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(supervisor.run(nothing, when_ready))
        await until(lambda: lines.of("p") and lines.of("q"))
        assert not ready.is_set()
        switch.touch()
        async with asyncio.timeout(BOUND):
            await ready.wait()
        supervisor.stop()


async def test_a_program_that_dies_while_another_starts_is_waited_for_once_more(tmp_path: Path) -> None:
    switch, note = tmp_path / "switch", tmp_path / "note"
    waits = f"import pathlib\nwhile not pathlib.Path({str(switch)!r}).exists(): time.sleep(0.01)\nready()"
    dies_once = f"""{READY}
import pathlib, time
note = pathlib.Path({str(note)!r})
if not note.exists():
    note.touch()
    ready()
    print("ready", flush=True)
    raise SystemExit(1)
pathlib.Path({str(switch)!r}).touch()
time.sleep(0.3)
print("ready again", flush=True)
ready()
time.sleep(600)
"""
    said: list[list[str]] = []
    lines = Lines()

    async def when_ready() -> None:
        said.append(lines.of("p"))

    supervisor = Supervisor(plan(program("p", dies_once), program("q", UNREADY.format(waits))), lines.say)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(supervisor.run(nothing, when_ready))
        await until(lambda: said)
        supervisor.stop()
    assert said == [["ready", "ready again"]]


async def test_what_is_waited_for_is_said_with_what_it_is_doing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "REMIND_AFTER", 0.1)
    lines = Lines()
    async with running(plan(program("p", UNREADY.format("ready(READY='0', STATUS='joining')"))), lines):
        await until(lambda: any("(joining)" in line for line in lines.of("forebay")))
    assert lines.of("forebay")[-1].startswith("waiting for p (joining); ")


async def test_it_can_be_stopped_while_something_is_not_ready_yet(children: Children) -> None:
    lines = Lines()
    broker = program("b", UNREADY.format("pass"))
    async with running(plan(program("p", FOREVER), broker=broker), lines):
        await until(lambda: lines.of("b") == ["up"])
    assert lines.of("p") == []
    assert children() == []


async def test_nothing_starts_before_what_comes_before(children: Children) -> None:
    lines = Lines()
    refused = ForebayError("the cluster lets nobody in")

    async def refuse() -> None:
        raise refused

    with pytest.raises(ForebayError) as raised:
        await Supervisor(plan(program("p", FOREVER)), lines.say).run(refuse, nothing)
    assert raised.value is refused
    assert lines.lines == []
    assert children() == []


async def test_a_program_that_cannot_be_run_is_named() -> None:
    nowhere = Program("p", ["/nowhere/forebay"], BOUND, BOUND)
    with pytest.raises(ForebayError, match=r"^p cannot be run: No such file or directory$"):
        await Supervisor(plan(nowhere), Lines().say).run(nothing, nothing)


async def test_it_can_be_stopped_before_anything_has_started(children: Children) -> None:
    async with running(plan(program("p", FOREVER)), Lines()):
        pass
    assert children() == []


async def test_a_failure_from_outside_stops_everything_and_is_raised() -> None:
    lines = Lines()
    supervisor = Supervisor(plan(program("p", SAYS_HOW_IT_ENDS.format(delay=0))), lines.say)
    running_it = asyncio.create_task(supervisor.run(nothing, nothing))
    await until(lambda: lines.of("p") == ["up"])
    supervisor.fail(ForebayError("the app is broken"))
    with pytest.raises(ForebayError, match="the app is broken"):
        await running_it
    assert lines.of("p") == ["up", "ended"]


SUPERVISES = """
import asyncio, sys
from forebay_cli.child import Program
from forebay_cli.supervisor import Plan, Supervisor

child = "from forebay_cli.lifetime import end_with_parent\\nend_with_parent(grace=0.2)\\n" + sys.argv[1]
programs = [Program(name, [sys.executable, "-c", child], 30, 30) for name in "pq"]

async def nothing():
    pass

def say(name, line):
    if name in "pq":
        print(name, line, flush=True)

asyncio.run(Supervisor(Plan(None, programs, []), say).run(nothing, nothing))
"""


@pytest.mark.parametrize("code", [FOREVER, STUBBORN, "import time\nprint('up', flush=True)\nwhile True: pass"])
def test_children_end_with_a_supervisor_that_was_killed(code: str) -> None:
    with subprocess.Popen([sys.executable, "-c", SUPERVISES, code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert {supervisor.stdout.readline(), supervisor.stdout.readline()} == {"p up\n", "q up\n"}
        pids = [child.pid for child in psutil.Process(supervisor.pid).children()]
        assert len(pids) == 2
        supervisor.kill()
    wait_until_gone(pids)


def test_a_child_whose_supervisor_died_during_its_start_ends_too() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    code = "from forebay_cli.lifetime import end_with_parent\nend_with_parent(grace=0.2)\n" + FOREVER
    with subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"FOREBAY_PARENT_PID": str(gone.pid)}
    ) as orphan:
        assert orphan.wait(BOUND) != 0


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + BOUND
    while left := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)
