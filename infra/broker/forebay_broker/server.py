"""The embedded broker: starts Kafka, waits until it answers, and ends it."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from forebay.errors import BrokerError, BrokerStartError, BrokerUnavailable
from forebay_broker.config import LOG4J, Membership, server_properties, server_settings
from forebay_broker.installation import Installation
from forebay_broker.jars import default_cache_dir
from forebay_broker.jvm import Jvm
from forebay_broker.ports import HOST, ReservedPort
from forebay_broker.readiness import START_TIMEOUT, await_answer
from forebay_broker.startable import Startable
from forebay_broker.storage import DataDir, new_cluster_id, refuse_other_cluster

STOP_TIMEOUT = 20.0
"""Seconds that Kafka may take to shut down before it is killed."""


_ENDS: Mapping[int | None, str] = {
    -signal.SIGKILL: "it was killed (SIGKILL), by somebody or by a system that had no memory left",
    128 + signal.SIGTERM: "it was told to end (SIGTERM)",
    128 + signal.SIGINT: "it was told to end (SIGINT)",
    128 + signal.SIGHUP: "it was told to end (SIGHUP)",
    3: "Java's memory was not enough: give it more with --heap",
}
"""How Kafka ends for reasons that its log does not tell."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What a started broker holds."""

    jvm: Jvm
    directory: DataDir


class EmbeddedBroker(Startable):
    """Apache Kafka, one node, on loopback, as a child process; a context manager that starts and stops it.

    It may be started again after it has ended, on the same port and with its data.

    Args:
        port: where it listens; 0 picks a free port, once for all starts. The controller takes a free port beside it.
        data_dir: its own directory: Kafka's data, configuration and ``broker.log``. Made if needed.
        heap: the most memory that Java gives to objects, as in ``-Xmx``; the process takes some 200 MB beside it.
        cache_dir: where jars are kept between runs; default: ``~/.cache/forebay``.
        settings: Kafka's own settings, in place of those that it would get.
        membership: the cluster that it is a node of (`EmbeddedCluster`); default: it is one by itself.
    """

    def __init__(
        self,
        port: int = 9092,
        data_dir: Path = Path(".forebay/broker"),
        *,
        heap: str = "512m",
        cache_dir: Path | None = None,
        settings: Mapping[str, object] | None = None,
        membership: Membership | None = None,
    ) -> None:
        self.port = port
        self.data_dir = data_dir.absolute()
        self.heap = heap
        self.cache_dir = (cache_dir or default_cache_dir()).absolute()
        self.started_in: float | None = None
        """Seconds from `start` to the first acknowledged produce, downloads and recordings apart."""
        self._settings = dict(settings or {})
        self._membership = membership
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
    def running(self) -> bool:
        """Whether it was started and has not ended; one that is paused is running."""
        return self._run is not None and self._run.jvm.running

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
        installation = prepare(self.cache_dir, self.heap)
        began = time.monotonic()
        self._start(installation, installation.archive.use())
        self.started_in = time.monotonic() - began

    def _start(self, installation: Installation, flags: Sequence[str]) -> None:
        try:
            self.launch(installation, flags)
            await_start([self], 1 if self._membership is None else -1)
        except BaseException:
            self.kill()
            raise

    def launch(self, installation: Installation, flags: Sequence[str]) -> None:
        """Start Kafka with further flags of Java's, and return at once; raises `BrokerStartError`."""
        if self._membership is None:
            refuse_other_cluster(self.data_dir, 1)
        with ExitStack() as reserved:
            port = reserved.enter_context(ReservedPort(self.port))
            self.port = port.number
            membership = self._membership or Membership(1, {1: reserved.enter_context(ReservedPort()).number})
            directory = DataDir(self.data_dir)
            try:
                (directory.path / "log4j2.properties").write_text(LOG4J)
                command = installation.command(self.heap, flags)
                if not directory.data.exists():
                    _format(directory, membership, [*command, "kafka.tools.StorageTool"])
                settings = server_settings(directory.data.name, self.port, membership) | self._settings
                (directory.path / "server.properties").write_text(server_properties(settings))
                # Kafka runs in its directory and names files from there: an absolute path may hold what its settings
                # cannot, such as a comma.
                command += ["kafka.Kafka", "server.properties"]
                jvm = Jvm(command, directory.path, directory.log, [directory.lock_fd])
                self._run = _Run(jvm, directory)
                jvm.start()
                directory.name_owner(jvm.pid)
            except BaseException as error:
                self.kill()
                directory.release()
                if isinstance(error, OSError):
                    where = error.filename or self.data_dir
                    raise BrokerStartError(f"Kafka cannot be started: {where}: {error.strerror}") from error
                raise

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
        self._running().jvm.pause()

    def resume(self) -> None:
        """Let a frozen Kafka go on (SIGCONT)."""
        self._running().jvm.signal(signal.SIGCONT)

    def wait(self) -> None:
        """Return never, and raise `BrokerError` with the reason should Kafka end by itself."""
        self._running().jvm.wait()
        why = self.why_it_ended()
        self._ended()
        raise BrokerError(f"Kafka ended by itself: {why}")

    def why_it_ended(self) -> str:
        """Return why Kafka ended, as far as it can be seen, and where to read more."""
        run = self._running()
        why = _ENDS.get(run.jvm.exit_code) or run.directory.why_it_ended()
        return f"{why} (see {self.log_path})" if self.log_path.exists() else why

    def _running(self) -> _Run:
        if not self._run:
            raise BrokerError("the broker was not started, or was stopped already")
        return self._run

    def _ended(self) -> None:
        if self._run:
            self._run.directory.release()
        self._run = None


def await_start(nodes: Sequence[EmbeddedBroker], replication: int) -> None:
    """Return once a produce through nodes that were launched is acknowledged; ``replication`` as in `await_answer`.

    Raises:
        BrokerStartError: one of them ended, or they keep silent.
    """

    def check() -> None:
        for node in nodes:
            if not node.running:
                raise BrokerStartError(f"Kafka did not start: {node.why_it_ended()}")

    try:
        await_answer([node.bootstrap_servers for node in nodes], replication, check)
    except BrokerUnavailable as error:
        raise BrokerStartError(f"Kafka runs, but {error}; its log ends: {nodes[0].why_it_ended()}") from error


def prepare(cache_dir: Path, heap: str) -> Installation:
    """Find what runs Kafka; the first time here, download it and record what it loads. Raises `BrokerStartError`."""
    installation = Installation.find(cache_dir)
    if not installation.archive.recorded:
        _record(installation, heap)
    return installation


def _record(installation: Installation, heap: str) -> None:
    """Run a broker once, in a directory of its own, to record what it loads.

    Only this one runs in Java's recording mode, which is slower and takes seconds to end.
    """
    from rich.console import Console

    archive = installation.archive
    folder = archive.path.parent
    with (
        # Without a recording Kafka starts all the same; what else is wrong, the start that follows will tell.
        suppress(BrokerStartError, OSError),
        Console(stderr=True).status("Preparing Kafka for quick starts, once for this Java"),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".recording-", dir=folder) as scratch:
            recording = Path(scratch) / archive.path.name
            rehearsal = EmbeddedBroker(0, Path(scratch) / "broker", heap=heap)
            rehearsal._start(installation, archive.record(recording))
            try:
                rehearsal.stop(START_TIMEOUT)
            finally:
                rehearsal.kill()
            archive.keep(recording)


def _format(directory: DataDir, membership: Membership, storage_tool: Sequence[str]) -> None:
    """Make Kafka's data, under another name until it is whole: an interrupted start leaves nothing half made."""
    unfinished = directory.path / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    properties = directory.path / "format.properties"
    # The ports are not kept in the data.
    properties.write_text(server_properties(server_settings(unfinished.name, 9092, membership)))
    cluster = membership.cluster_id or new_cluster_id()
    tool = Jvm(
        [*storage_tool, "format", "--cluster-id", cluster, "--config", properties.name],
        directory.path,
        directory.log,
        [directory.lock_fd],
    )
    try:
        tool.start()
        tool.wait()
    finally:
        tool.kill()
    if not (unfinished / "meta.properties").exists():
        raise BrokerStartError(f"Kafka could not format {directory.data}: {directory.why_it_ended()}")
    unfinished.rename(directory.data)
    properties.unlink()
