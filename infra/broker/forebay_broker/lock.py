"""Writes ``kafka.lock.toml`` anew: ``python -m forebay_broker.lock``, after changing `KAFKA_VERSION`.

jgo resolves Kafka's runtime dependencies, downloads every jar and records its coordinates and SHA-256. Only whoever
moves Forebay to another Kafka runs this; everybody else gets the jars that the committed lock file names.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from jgo.env import LockFile
from jgo.maven import MavenContext

from forebay_broker.jars import LOCK_PATH

KAFKA_VERSION = "4.3.1"

UNUSED = frozenset(
    {
        "commons-beanutils",  # with the next three: what commons-validator reads XML rules with
        "commons-collections",
        "commons-digester",
        "commons-logging",
        "jackson-dataformat-yaml",  # with snakeyaml: log4j configuration written in YAML
        "jspecify",  # annotations only
        "scala-reflect",  # macros, at compile time
        "snakeyaml",
    }
)
"""Runtime dependencies, as Kafka's jars declare them, that a broker never loads."""


def main() -> int:
    """Resolve, download, write; returns the exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        maven = MavenContext(repo_cache=Path(scratch), timeout=60)
        kafka = maven.create_dependency(f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}")
        resolved, transitive = maven.resolver.resolve([kafka])
        log4j = next(dependency for dependency in transitive if dependency.artifactId == "log4j-core")
        # Kafka's jars log through slf4j and name no binding; without this one the broker is mute.
        binding = maven.create_dependency(f"org.apache.logging.log4j:log4j-slf4j-impl:{log4j.version}")
        wanted = [d for d in (*resolved, *transitive, binding) if d.artifactId not in UNUSED]
        wanted.sort(key=lambda dependency: (dependency.groupId, dependency.artifactId))
        LockFile.from_resolved_dependencies(wanted, environment_name="kafka", min_java_version=17).save(LOCK_PATH)
    return 0


if __name__ == "__main__":
    sys.exit(main())
