"""A recording of Java's loaded classes, which halves the time that Kafka takes to start.

Java 25 calls it an AOT cache, Java 17 to 24 a CDS archive; both are written when a recording process ends and silently
ignored when the Java or the jars are not the recorded ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forebay_broker.java import Java

_FIRST_WITH_AOT_CACHE = 25


@dataclass(frozen=True, slots=True)
class Archive:
    """The recording for one Java and one set of jars; it may not exist yet.

    Attributes:
        path: where it is; an empty file says that this Java cannot make one.
        aot: whether it is an AOT cache.
    """

    path: Path
    aot: bool

    @classmethod
    def of(cls, java: Java, jars: Sequence[Path], cache_dir: Path) -> Archive:
        """Name the recording for this Java and these jars; other jars, or the same ones fetched anew, have another."""
        seen = [java.identity, str(java.path)]
        seen += [f"{jar} {jar.stat().st_mtime_ns}" for jar in jars]
        digest = hashlib.sha256("\n".join(seen).encode()).hexdigest()[:16]
        aot = java.major >= _FIRST_WITH_AOT_CACHE
        return cls(cache_dir / "classes" / f"java{java.major}-{digest}.{'aot' if aot else 'jsa'}", aot)

    @property
    def recorded(self) -> bool:
        """Whether the recording was made, or found to be impossible."""
        return self.path.exists()

    def use(self) -> list[str]:
        """Return the flags that start Java with the recording, where there is one."""
        if not self.recorded or not self.path.stat().st_size:
            return []
        return [f"-XX:{'AOTCache' if self.aot else 'SharedArchiveFile'}={self.path}"]

    def record(self, target: Path) -> list[str]:
        """Return the flags that make Java write a recording to ``target`` when it ends."""
        return [f"-XX:{'AOTCacheOutput' if self.aot else 'ArchiveClassesAtExit'}={target}"]

    def keep(self, recording: Path) -> None:
        """Move a recording into its place; where Java wrote none, note that."""
        recording.touch()
        recording.replace(self.path)
