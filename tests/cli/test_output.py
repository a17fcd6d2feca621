from __future__ import annotations

import io

import pytest

from forebay_cli.output import PrefixedLines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_names_are_aligned() -> None:
    out = io.StringIO()
    lines = PrefixedLines(["forebay", "gateway-1"], out)
    lines.write("forebay", "ready")
    lines.write("gateway-1", "serves")
    assert out.getvalue() == "forebay   | ready\ngateway-1 | serves\n"


def test_on_a_terminal_each_name_has_its_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    lines = PrefixedLines(["a", "b"], out)
    lines.write("a", "one")
    lines.write("b", "two")
    first, second = out.getvalue().splitlines()
    assert first.startswith("\x1b[36ma |")
    assert second.startswith("\x1b[33mb |")


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    PrefixedLines(["a"], out).write("a", "one")
    assert out.getvalue() == "a | one\n"


def test_more_names_than_colours_is_fine() -> None:
    out = io.StringIO()
    names = [f"processor-{number}" for number in range(1, 31)]
    lines = PrefixedLines(names, out)
    for name in names:
        lines.write(name, "x")
    assert len(out.getvalue().splitlines()) == 30
