"""What is imported with what: a part that needs neither Kafka nor an app comes without them."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADED = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*(name for name in sys.argv[2:] if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("forebay.tracing", ["aiokafka", "forebay.kafka"]),
        ("forebay.messages", ["aiokafka", "forebay.kafka"]),
        ("forebay_schemas.headers", ["forebay"]),
    ],
)
def test_a_module_does_not_bring_what_it_does_not_need(module: str, without: list[str]) -> None:
    command = [sys.executable, "-c", LOADED, module, *without]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
