"""What the documentation says about names and defaults is what the code has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from pydantic.fields import FieldInfo

import forebay_schemas.headers as header_names
from forebay import failures
from forebay.settings import Settings
from forebay_cli.main import app as cli
from forebay_gateway.metrics import STAGES, Metrics

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_ROW = re.compile(r"^\| `(\w+)` \| (.+?) \|", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
_MODULE = re.compile(r"```python\n# (\w+)\.py\n(.*?)```", re.DOTALL)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def default_of(field: FieldInfo) -> str:
    """The default as the table has it."""
    if field.validate_default:
        return "the host's name and `http_port`"
    match field.default:
        case None:
            return "none"
        case "":
            return "empty"
        case float():
            return f"`{field.default:g}`"
    return f"`{field.default}`"


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_setting_is_documented_with_its_default() -> None:
    documented = dict(_ROW.findall(page("settings.md")))

    assert documented == {name: default_of(field) for name, field in Settings.model_fields.items()}


def test_every_command_is_documented() -> None:
    text = "\n".join(path.read_text("utf-8") for path in PAGES)
    commands = typer.main.get_group(cli).commands

    assert [name for name in commands if f"forebay {name}" not in text] == []


def test_every_metric_is_documented() -> None:
    metrics = [family.name + ("_total" if family.type == "counter" else "") for family in Metrics().registry.collect()]

    assert [name for name in metrics if f"| `{name}` |" not in page("operating.md")] == []


def test_every_stage_is_documented() -> None:
    assert [stage for stage in STAGES if f"| `{stage}` |" not in PAGES[0].read_text("utf-8")] == []


def test_every_kind_of_failure_is_documented() -> None:
    assert [kind for kind in failures.OWN if f"| `{kind}` |" not in page("http.md")] == []


def test_every_header_is_documented() -> None:
    names = [name for key, name in vars(header_names).items() if key.isupper()]

    assert [name for name in names if f"`{name}`" not in page("wire.md")] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target, anchor in _LINK.findall(path.read_text("utf-8")):
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", ROOT / "docs" / "tutorial.md", ROOT / "docs" / "writing-apps.md"],
    ids=lambda path: path.name,
)
def test_the_apps_shown_can_be_loaded(path: Path, tmp_path: Path) -> None:
    modules = _MODULE.findall(path.read_text("utf-8"))
    assert modules
    for name, text in modules:
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
        command = [sys.executable, "-m", "forebay_cli", "operations", "--app", name, "--app-dir", str(tmp_path)]
        listing = subprocess.run(command, capture_output=True, text=True, check=False)
        assert listing.returncode == 0, listing.stderr
