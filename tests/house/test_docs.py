"""What the documentation says about names and defaults is what the code has."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from pydantic.fields import FieldInfo

import forebay_schemas.headers as header_names
from forebay import failures, topics
from forebay.settings import TIERS, Settings, load_settings
from forebay_cli import exit_codes
from forebay_cli.main import app as cli
from forebay_gateway import problems
from forebay_gateway.admin import LIVE, METRICS, READY
from forebay_gateway.http.head import SINGLETONS
from forebay_gateway.metrics import STAGES
from forebay_gateway.metrics import Metrics as GatewayMetrics
from forebay_processor.metrics import Metrics as ProcessorMetrics
from forebay_processor.schedule import Scheduler, reserves

ROOT = Path(__file__).parents[2]
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = [
    README,
    CONTRIBUTING,
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "examples" / "imaging" / "README.md",
]

_ROW = re.compile(r"^\| `(\w+)` \| (.+?) \|", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
_MODULE = re.compile(r"```python\n# (\w+)\.py\n(.*?)```", re.DOTALL)
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_COMMAND = re.compile(r"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?forebay ([a-z]+)(.*)$", re.MULTILINE)
_VARIABLE = re.compile(r"\bFOREBAY_[A-Z_]+")
_PLACE = re.compile(r"^([\w./-]+/) ", re.MULTILINE)


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


def test_the_bounds_of_a_stop_are_documented() -> None:
    settings, text = load_settings(shutdown_notice=1, shutdown_grace=20, drain=300), page("operating.md")
    [gateway, processor] = re.findall(r"`(?:shutdown_grace|drain)` \+ (\d+) s", text)
    [unit] = re.findall(r"TimeoutStopSec=(\d+)", text)

    assert settings.gateway_stop_bound == 1 + 20 + int(gateway)
    assert settings.processor_stop_bound == 300 + int(processor)
    assert load_settings().processor_stop_bound == int(unit)


def test_the_slots_of_each_tier_are_documented() -> None:
    slots = load_settings().slots
    kept = reserves(slots, TIERS)
    shared = slots - sum(kept.values())
    [numbers] = re.findall(
        r"the processor's (\d+) slots.*?(\d+) are kept for `interactive`, (\d+) for `standard` and (\d+) for `bulk`.*?"
        r"\bother (\d+)\b",
        page("writing-apps.md"),
        re.DOTALL,
    )

    assert [int(number) for number in numbers] == [slots, *kept.values(), shared]


def test_every_command_is_documented() -> None:
    text = "\n".join(path.read_text("utf-8") for path in PAGES)
    commands = typer.main.get_group(cli).commands

    assert [name for name in commands if f"forebay {name}" not in text] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_and_flag_that_is_shown_exists(path: Path) -> None:
    commands = typer.main.get_group(cli).commands
    for name, rest in _COMMAND.findall(path.read_text("utf-8")):
        assert name in commands, name
        flags = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(_FLAG.findall(rest.partition("#")[0])) <= flags, f"forebay {name}{rest}"


def test_the_flags_of_settings_exist() -> None:
    flags = {
        option
        for command in typer.main.get_group(cli).commands.values()
        for parameter in command.params
        for option in parameter.opts
    }

    assert set(_FLAG.findall(page("settings.md"))) <= flags


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_variable_that_is_shown_is_a_setting(path: Path) -> None:
    shown = set(_VARIABLE.findall(path.read_text("utf-8"))) - {"FOREBAY_", "FOREBAY_SERVICE_HOST"}

    assert {name.removeprefix("FOREBAY_").lower() for name in shown} <= set(Settings.model_fields)


def test_every_metric_is_documented() -> None:
    processor = ProcessorMetrics("app")
    processor.watch(Scheduler(16, reserves(16, TIERS), backlog=1, backlog_bytes=1))
    families = [*GatewayMetrics().registry.collect(), *processor.registry.collect()]
    metrics = {family.name + ("_total" if family.type == "counter" else "") for family in families}

    assert set(re.findall(r"^\| `(forebay_\w+)` \|", page("operating.md"), re.MULTILINE)) == metrics


def test_every_route_of_the_admin_port_is_documented() -> None:
    assert [route for route in (LIVE, READY, METRICS) if f"| `{route}`" not in page("operating.md")] == []


def test_every_exit_code_is_documented() -> None:
    codes = {code for name, code in vars(exit_codes).items() if name.isupper()}
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page("operating.md"), re.MULTILINE)}

    assert documented == codes | {130}


def test_every_topic_is_documented() -> None:
    settings = load_settings(instance="INSTANCE")
    table = page("wire.md").partition("## Topics")[2].partition("## Values")[0]
    documented: dict[str, str] = {}
    for row in re.findall(r"^\| (`forebay\..*?) \|.*?\|.*?\| (\d+).*? \|", table, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", row[0])
        documented |= dict.fromkeys([first, *(first.rpartition(".")[0] + other for other in others)], row[1])
    specs = [*topics.of_gateway(settings), *topics.of_app(settings, "<app>")]

    assert documented == {spec.name.replace("INSTANCE", "<instance>"): str(spec.partitions) for spec in specs}


def test_every_stage_is_documented() -> None:
    assert [stage for stage in STAGES if f"| `{stage}` |" not in README.read_text("utf-8")] == []


def test_every_kind_of_failure_is_documented() -> None:
    assert [kind for kind in failures.OWN if f"| `{kind}` |" not in page("http.md")] == []


def test_every_problem_of_the_gateway_is_documented_with_its_status() -> None:
    made = set(re.findall(r"HttpProblem\(\s*(\d+),\s*\"([a-z-]+)\"", inspect.getsource(problems)))
    documented = set(re.findall(r"^\| (\d+) \| `([a-z-]+)`", page("http.md"), re.MULTILINE))

    assert len(made) > 15
    assert made - documented == {("404", "not-found")}
    assert "404 `not-found`" in page("http.md")


def test_every_field_that_may_come_once_is_documented() -> None:
    names = {name.decode().title() for name in SINGLETONS}

    assert [name for name in names if f"`{name}`" not in page("http.md")] == []


def test_every_header_is_documented() -> None:
    names = [name for key, name in vars(header_names).items() if key.isupper()]

    assert [name for name in names if f"`{name}`" not in page("wire.md")] == []


def test_the_parts_of_aiokafka_that_are_used_are_listed() -> None:
    section = CONTRIBUTING.read_text("utf-8").partition("All uses of aiokafka")[2].partition("\n\n**")[0]
    packages = ("schemas", "src", "services", "infra")
    sources = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    uses = [
        (path, part)
        for path in sources
        for part in re.findall(r"^\s*(?:from|import) aiokafka\.(\w+)", path.read_text("utf-8"), re.MULTILINE)
    ]

    assert {path.parent.relative_to(ROOT).as_posix() for path, _ in uses} == {"src/forebay/kafka/wire"}
    assert [part for _, part in uses if not re.search(rf"`{part}\b", section)] == []


@pytest.mark.parametrize("path", [README, CONTRIBUTING], ids=lambda path: path.name)
def test_every_place_that_is_named_exists(path: Path) -> None:
    text = path.read_text("utf-8").partition("## Where things live")[2].partition("\n## ")[0]
    places = [*_PLACE.findall(text), *re.findall(r"`([a-z_]+/[\w./-]*)`", text)]

    assert len(places) > 5
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_every_page_is_found_from_the_readme() -> None:
    linked = {(README.parent / target).resolve() for target, _ in _LINK.findall(README.read_text("utf-8")) if target}

    assert [path.name for path in PAGES[1:-1] if path not in linked] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
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
