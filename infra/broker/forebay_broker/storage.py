"""The broker's data directory: one broker at a time, and the log that tells why it ended."""

from __future__ import annotations

import base64
import errno
import fcntl
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import IO

from forebay.errors import BrokerStartError

_LOG_LIMIT = 4 * 1024 * 1024
"""Bytes from which on the log is put aside at the next start."""

_EMPTY_WORDS = (
    "\tat ",  # stack frames
    "WARNING: ",  # Java's remarks on what its later releases will lack
    "Error: A fatal exception has occurred",  # what Java says as it goes
    "Error: Could not create the Java Virtual Machine",
)
"""How lines begin that never tell why Kafka ended."""

_NO_SPACE = os.strerror(errno.ENOSPC)


def new_cluster_id() -> str:
    """Make up a name that no other cluster has."""
    return base64.urlsafe_b64encode(b"\x00" + uuid.uuid4().bytes[1:]).decode().rstrip("=")  # never begins with '-'


def cluster_id_in(data: Path) -> str | None:
    """Return the id of the cluster that Kafka's data belongs to, or None where there is no such data."""
    try:
        properties = (data / "meta.properties").read_text()
    except FileNotFoundError:
        return None
    found = re.search(r"^cluster\.id=(\S+)$", properties, re.MULTILINE)
    return found[1] if found else None


def refuse_other_cluster(path: Path, nodes: int) -> None:
    """Make sure that a directory holds nothing, or the data of a cluster of so many nodes.

    Raises:
        BrokerStartError: it holds another; one that started with some of its nodes could not know what it has lost.
    """
    found = 1 if (path / "data").exists() else len(list(path.glob("node-*/data")))
    if found not in (0, nodes):
        raise BrokerStartError(
            f"the data directory {path} holds a cluster of {found}: start it with --nodes {found}",
            setting="data_dir",
        )


class DataDir:
    """A directory claimed for one broker.

    The claim is a lock on a file that the JVM inherits: it lasts as long as either process, so data that an orphan
    still writes is never opened twice.

    Raises:
        BrokerStartError: it is in use, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / "data"
        self.log_path = path / "broker.log"
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / "broker.lock").open("a+b", buffering=0)  # closing it never has something left to write
        except OSError as error:
            raise BrokerStartError(
                f"the data directory {path} cannot be used: {error.strerror}", setting="data_dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self.log_path.exists() and self.log_path.stat().st_size > _LOG_LIMIT:
                self.log_path.replace(path / "broker.log.1")
            self.log: IO[bytes] = self.log_path.open("a+b")
        except BlockingIOError:
            self._lock.seek(0)
            owner = self._lock.read().decode().strip() or "unknown"
            self._lock.close()
            raise BrokerStartError(
                f"the data directory {path} is in use by another broker (process {owner}): stop that one",
                setting="data_dir",
            ) from None
        except OSError as error:
            self._lock.close()
            raise BrokerStartError(
                f"the data directory {path} cannot be used: {error.strerror}", setting="data_dir"
            ) from error
        self._log_start = self.log_path.stat().st_size

    @property
    def lock_fd(self) -> int:
        """The file descriptor to hand to the JVM."""
        return self._lock.fileno()

    def name_owner(self, pid: int) -> None:
        """Write down who has the directory, for the message to the next one."""
        self._lock.truncate(0)
        self._lock.write(f"{pid}\n".encode())

    def release(self) -> None:
        """Give up the claim, as far as this process is concerned."""
        self.log.close()
        self._lock.close()

    def why_it_ended(self) -> str:
        """Return why Kafka ended: what became of the directory, else the line of this start's log that says it best."""
        if not os.fstat(self._lock.fileno()).st_nlink:  # Kafka may have made a directory of that name again
            return f"its data directory {self.path} was removed"
        # through the open file: another may have that name by now
        size = os.fstat(self.log.fileno()).st_size - self._log_start
        text = os.pread(self.log.fileno(), size, self._log_start).decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(_EMPTY_WORDS)]
        # a disk that is full takes no log either
        if _NO_SPACE in text or (not lines and not shutil.disk_usage(self.path).free):
            return f"there is no space left on the disk of {self.path}"
        for pattern in (r"Caused by: (?:[\w.$]+: )?(.+)", r"(?:[\w.$]+(?:Exception|Error)): (.+)", r"(.*\bERROR\b.*)"):
            found = [match[1] for line in lines if (match := re.match(pattern, line))]
            if found:
                return found[-1]
        return lines[-1] if lines else "it logged nothing"
