"""The embedded broker: starts Kafka, waits until it answers, and ends it."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from forebay.errors import BrokerError, BrokerStartError, BrokerUnavailable
from forebay_broker.archive import Archive
from forebay_broker.config import LOG4J, server_properties, server_settings
from forebay_broker.jars import default_cache_dir, fetch_jars, locked_jars
from forebay_broker.java import Java, find_java
from forebay_broker.jvm import Jvm
from forebay_broker.ports import HOST, ReservedPort
from forebay_broker.storage import DataDir

START_TIMEOUT = 60.0
"""Seconds that Kafka may take to acknowledge its first produce; a very slow machine needs tens."""

STOP_TIMEOUT = 20.0
"""Seconds that Kafka may take to shut down before it is killed."""

_JVM_FLAGS = (
    "-XX:+UseSerialGC",
    # The quick compiler alone: on two cores the optimising one costs more than it brings for minutes. Measured: 60,000
    # sends a second at 9 µs of broker CPU each, against 40,000 at 24.
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    # Java's own remarks on its archives would be the last words quoted when Kafka fails.
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
)


@dataclass(frozen=True, slots=True)
class _Run:
    """What a started broker holds."""

    jvm: Jvm
    directory: DataDir


class EmbeddedBroker:
    """Apache Kafka, one node, on loopback, as a child process; a context manager that starts and stops it.

    It may be started again after it has ended, on the same port and with its data.

    Args:
        port: where it listens; 0 picks a free port, once for all starts. The controller takes a free port beside it.
        data_dir: its own directory: Kafka's data, configuration and ``broker.log``. Made if needed.
        heap: the most memory that Java gives to objects, as in ``-Xmx``; the process takes some 200 MB beside it.
        cache_dir: where jars are kept between runs; default: ``~/.cache/forebay``.
    """

    def __init__(
        self,
        port: int = 9092,
        data_dir: Path = Path(".forebay/broker"),
        *,
        heap: str = "512m",
        cache_dir: Path | None = None,
    ) -> None:
        self.port = port
        self.data_dir = data_dir.absolute()
        self.heap = heap
        self.cache_dir = (cache_dir or default_cache_dir()).absolute()
        self.started_in: float | None = None
        """Seconds from `start` to the first acknowledged produce, downloads and recordings apart."""
        self._run: _Run | None = None

    @property
    def bootstrap_servers(self) -> str:
        """``host:port``, as clients take it."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the JVM; raises `BrokerError` when it was not started."""
        return self._running().jvm.pid

    @property
    def log_path(self) -> Path:
        """Where Kafka's warnings and errors go."""
        return self.data_dir / "broker.log"

    def start(self) -> None:
        """Start Kafka and return once it has acknowledged a produce; it blocks, for a download if need be.

        Raises:
            BrokerStartError: it did not start; the message is one sentence that says why and what to do.
        """
        if self._run:
            raise BrokerStartError(f"the broker at {self.bootstrap_servers} was started already")
        began = time.monotonic()
        java = find_java()
        jars = fetch_jars(locked_jars(), self.cache_dir)
        archive = Archive.of(java, jars, self.cache_dir)
        if not archive.recorded:
            self._record(archive, java, jars)
            began = time.monotonic()
        self._start(java, jars, archive.use())
        self.started_in = time.monotonic() - began

    def _record(self, archive: Archive, java: Java, jars: Sequence[Path]) -> None:
        """Run a broker once, in a directory of its own, to record what it loads.

        Only this one runs in Java's recording mode, which is slower and takes seconds to end.
        """
        from rich.console import Console

        folder = archive.path.parent
        with (
            # Without a recording Kafka starts all the same; what else is wrong, the start that follows will tell.
            suppress(BrokerStartError, OSError),
            Console(stderr=True).status("Preparing Kafka for quick starts, once for this Java"),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".recording-", dir=folder) as scratch:
                recording = Path(scratch) / archive.path.name
                rehearsal = EmbeddedBroker(0, Path(scratch) / "broker", heap=self.heap, cache_dir=self.cache_dir)
                rehearsal._start(java, jars, archive.record(recording))
                try:
                    rehearsal.stop(START_TIMEOUT)
                finally:
                    rehearsal.kill()
                archive.keep(recording)

    def _start(self, java: Java, jars: Sequence[Path], flags: Sequence[str]) -> None:
        with ExitStack() as reserved:
            port = reserved.enter_context(ReservedPort(self.port))
            controller_port = reserved.enter_context(ReservedPort())
            self.port = port.number
            directory = DataDir(self.data_dir)
            try:
                command = self._command(java, jars, flags)
                if not directory.data.exists():
                    _format(directory, [*command, "kafka.tools.StorageTool"])
                settings = server_settings(directory.data.name, self.port, controller_port.number)
                (directory.path / "server.properties").write_text(server_properties(settings))
                command += ["kafka.Kafka", "server.properties"]
                jvm = Jvm(command, directory.path, directory.log, [directory.lock_fd])
                self._run = _Run(jvm, directory)
                directory.name_owner(jvm.pid)
                self._await_answer(self._run)
            except BaseException:
                self.kill()
                directory.release()
                raise

    def _command(self, java: Java, jars: Sequence[Path], flags: Sequence[str]) -> list[str]:
        (self.data_dir / "log4j2.properties").write_text(LOG4J)
        # Kafka runs in its directory and names files from there: an absolute path may hold what its settings cannot,
        # such as a comma.
        return [
            str(java.path),
            f"-Xmx{self.heap}",
            *_JVM_FLAGS,
            *flags,
            "-Dlog4j2.configurationFile=log4j2.properties",
            "-cp",
            os.pathsep.join(map(str, jars)),
        ]

    def _await_answer(self, run: _Run) -> None:
        # A thread of its own, because the caller's may be running an event loop already.
        pool = ThreadPoolExecutor(1)
        try:
            pool.submit(asyncio.run, _answered(run, self.bootstrap_servers)).result()
        except BaseException:
            run.jvm.kill()
            raise
        finally:
            pool.shutdown()

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Shut Kafka down in order; after ``timeout`` seconds kill it. Calling it again does nothing."""
        if self._run:
            self._run.jvm.stop(timeout)
        self._ended()

    def kill(self) -> None:
        """End Kafka with SIGKILL, as a crash would; what it acknowledged is kept. Calling it again does nothing."""
        if self._run:
            self._run.jvm.kill()
        self._ended()

    def pause(self) -> None:
        """Freeze Kafka (SIGSTOP): it keeps its connections and answers nobody, until `resume`."""
        self._running().jvm.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen Kafka go on (SIGCONT)."""
        self._running().jvm.signal(signal.SIGCONT)

    def wait(self) -> None:
        """Return never, and raise `BrokerError` with Kafka's last words should it end by itself."""
        run = self._running()
        run.jvm.wait()
        words = run.directory.last_words()
        self._ended()
        raise BrokerError(f"Kafka ended by itself: {words} (see {self.log_path})")

    def _running(self) -> _Run:
        if not self._run:
            raise BrokerError("the broker was not started, or was stopped already")
        return self._run

    def _ended(self) -> None:
        if self._run:
            self._run.directory.release()
        self._run = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _format(directory: DataDir, storage_tool: Sequence[str]) -> None:
    """Make Kafka's data, under another name until it is whole: an interrupted start leaves nothing half made."""
    unfinished = directory.path / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    properties = directory.path / "format.properties"
    # The ports are not kept in the data.
    properties.write_text(server_properties(server_settings(unfinished.name, 9092, 9093)))
    cluster = base64.urlsafe_b64encode(b"\x00" + uuid.uuid4().bytes[1:]).decode().rstrip("=")  # never begins with '-'
    tool = Jvm(
        [*storage_tool, "format", "--cluster-id", cluster, "--config", properties.name],
        directory.path,
        directory.log,
        [directory.lock_fd],
    )
    try:
        tool.wait()
    finally:
        tool.kill()
    if not (unfinished / "meta.properties").exists():
        raise BrokerStartError(f"Kafka could not format {directory.data}: {directory.last_words()}")
    unfinished.rename(directory.data)
    properties.unlink()


async def _answered(run: _Run, bootstrap_servers: str) -> None:
    """Return once a produce is acknowledged; raise `BrokerStartError` when Kafka ends or keeps silent."""
    log = run.directory
    probing = asyncio.create_task(_probe(bootstrap_servers))
    try:
        while not probing.done():
            if not run.jvm.running:
                raise BrokerStartError(f"Kafka did not start: {log.last_words()} (see {log.log_path})")
            await asyncio.wait([probing], timeout=0.05)
        probing.result()
    except BrokerUnavailable as error:
        raise BrokerStartError(
            f"Kafka runs, but {error}; its log ends: {log.last_words()} (see {log.log_path})"
        ) from error
    finally:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)


async def _probe(bootstrap_servers: str) -> None:
    # Imported while Java is starting, which takes longer.
    from forebay.kafka import probe
    from forebay.settings import load_settings

    host, _, port = bootstrap_servers.partition(":")
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            break
    settings = load_settings(bootstrap_servers=bootstrap_servers, security_protocol="PLAINTEXT", replication_factor=1)
    await probe(settings, max(1.0, deadline - time.monotonic()))
