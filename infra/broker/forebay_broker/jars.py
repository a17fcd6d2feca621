"""Kafka's jars: which ones (the lock file), where they are kept, and that they are what they should be."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forebay.errors import BrokerStartError

LOCK_PATH = Path(__file__).parent / "kafka.lock.toml"

_DOWNLOADS_AT_ONCE = 4
_DOWNLOAD_TIMEOUT = 60
"""Seconds without a byte after which a download is given up."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked jar.

    Attributes:
        group, artifact, version: its Maven coordinates.
        sha256: hex digest of its bytes.
    """

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name, in the cache and in messages."""
        return f"{self.artifact}-{self.version}.jar"


def locked_jars() -> list[Jar]:
    """Read the lock file: every jar that the broker's class path has."""
    lock = tomllib.loads(LOCK_PATH.read_text(encoding="utf-8"))
    return [Jar(d["groupId"], d["artifactId"], d["version"], d["sha256"]) for d in lock["dependencies"]]


def default_cache_dir() -> Path:
    """Where jars are kept between runs: ``forebay`` in ``XDG_CACHE_HOME``, which is ``~/.cache`` unless set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forebay"


def fetch_jars(jars: Sequence[Jar], cache_dir: Path) -> list[Path]:
    """Return the jars' paths, each verified by SHA-256; those missing or damaged in the cache are downloaded once.

    Raises:
        BrokerStartError: the cache cannot be written, a jar cannot be downloaded, or what was downloaded is another.
    """
    paths = [cache_dir / "jars" / jar.name for jar in jars]
    wanted = [jar for jar, path in zip(jars, paths, strict=True) if not _intact(jar, path)]
    if wanted:
        _download(wanted, cache_dir / "jars")
    return paths


def _intact(jar: Jar, path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise BrokerStartError(f"the cached jar {path} cannot be read: {error.strerror}") from error


def _download(jars: Sequence[Jar], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Each run downloads into a folder of its own and moves only what it has verified: the cache never holds half
        # a jar, and two runs at once do not meet.
        scratch = tempfile.TemporaryDirectory(prefix=".download-", dir=folder)
    except OSError as error:
        raise BrokerStartError(f"Kafka's jars cannot be kept in {folder}: {error.strerror}") from error
    given_up = threading.Event()
    with scratch, _progress(len(jars)) as (received, done), ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:

        def count(size: int) -> None:
            if given_up.is_set():
                raise InterruptedError
            received(size)

        def fetch(jar: Jar) -> None:
            _download_one(jar, Path(scratch.name), count).replace(folder / jar.name)
            done()

        try:
            for _ in pool.map(fetch, jars):
                pass
        except BaseException:
            given_up.set()  # else the pool would wait for whole downloads before Ctrl-C or the error gets through
            pool.shutdown(cancel_futures=True)
            raise


def _download_one(jar: Jar, scratch: Path, received: Callable[[int], None]) -> Path:
    from jgo.maven import MavenContext, PythonResolver

    @contextmanager
    def report(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield received

    resolver = PythonResolver(progress_callback=report)
    maven = MavenContext(resolver=resolver, repo_cache=scratch, timeout=_DOWNLOAD_TIMEOUT)
    artifact = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    try:
        path = artifact.resolve()
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors; jgo's own are RuntimeErrors
        raise BrokerStartError(
            f"Kafka's {jar.name} could not be downloaded ({type(error).__name__}): the first start needs the network, "
            "later ones do not"
        ) from error
    if not _intact(jar, path):
        raise BrokerStartError(
            f"Kafka's {jar.name} was downloaded, but its SHA-256 is not the locked one: it is damaged or not the "
            "original, and is not used"
        )
    return path


@contextmanager
def _progress(jars: int) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """Show the download on stderr; yields what to call for bytes received and for a jar done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("Downloading Kafka"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("jars, {task.fields[megabytes]:.1f} MB"),
        TimeElapsedColumn(),
    )
    total = 0
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=jars, megabytes=0.0)

        def received(count: int) -> None:
            nonlocal total
            total += count
            progress.update(task, megabytes=total / 1e6)

        yield received, lambda: progress.advance(task)
