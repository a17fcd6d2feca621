"""What runs Kafka on this machine: its jars, a Java, and the command that starts one with the other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from forebay_broker.archive import Archive
from forebay_broker.jars import fetch_jars, locked_jars
from forebay_broker.java import Java, find_java

_JVM_FLAGS = (
    "-XX:+UseSerialGC",
    # The quick compiler alone: on two cores the optimising one costs more than it brings for minutes. Measured: 60,000
    # sends a second at 9 µs of broker CPU each, against 40,000 at 24.
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    # Java's own remarks on its archives would be quoted as the reason when Kafka fails.
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
)


@dataclass(frozen=True, slots=True)
class Installation:
    """Kafka's jars, verified, with the Java to run them.

    Attributes:
        java: it was seen to answer.
        jars: the class path.
        archive: the recording of the classes that they load, which may not exist yet.
    """

    java: Java
    jars: Sequence[Path]
    archive: Archive

    @classmethod
    def find(cls, cache_dir: Path) -> Self:
        """Find Java, and the jars in the cache; those that are not there are downloaded.

        Raises:
            BrokerStartError: there is no Java that will do, or a jar cannot be had.
        """
        java = find_java()
        jars = fetch_jars(locked_jars(), cache_dir)
        return cls(java, jars, Archive.of(java, jars, cache_dir))

    def command(self, heap: str, flags: Sequence[str]) -> list[str]:
        """Return how Java is started in a directory that holds ``log4j2.properties``, up to the class to run."""
        return [
            str(self.java.path),
            f"-Xmx{heap}",
            *_JVM_FLAGS,
            *flags,
            "-Dlog4j2.configurationFile=log4j2.properties",
            "-cp",
            os.pathsep.join(map(str, self.jars)),
        ]
