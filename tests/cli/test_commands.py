"""The command line as a person meets it: help, mistakes and their sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.shell import APP, BOUND, Shell, environment

COMMANDS = ["up", "broker", "gateway", "processor", "topics", "operations"]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def refused(result: subprocess.CompletedProcess[str], sentence: str, code: int = 2) -> None:
    assert (result.returncode, result.stdout, result.stderr) == (code, "", f"forebay: {sentence}\n")


def test_the_console_script_is_there() -> None:
    script = Path(sys.executable).with_name("forebay")
    result = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == f"forebay {version('forebay')}\n"


def test_help_names_the_commands(shell: Shell) -> None:
    result = shell.forebay("--help")
    assert result.returncode == 0
    assert "Usage: forebay [OPTIONS] COMMAND" in result.stdout
    for command in COMMANDS:
        assert f"│ {command} " in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(shell: Shell, command: str) -> None:
    result = shell.forebay(command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"Usage: forebay {command}" in result.stdout
    assert "--config" in result.stdout
    assert "--exit-with-parent" not in result.stdout


def test_help_imports_neither_the_library_nor_a_service(shell: Shell) -> None:
    code = """
import sys
sys.argv = ["forebay", "--help"]
from forebay_cli.main import main
try:
    main()
finally:
    heavy = ("forebay", "forebay_gateway", "forebay_processor", "forebay_broker", "aiokafka", "pydantic")
    print([name for name in heavy if name in sys.modules], file=sys.stderr)
"""
    assert shell.python("-c", code).stderr == "[]\n"


def test_an_unknown_command_is_named(shell: Shell) -> None:
    result = shell.forebay("bogus")
    assert result.returncode == 2
    assert "No such command 'bogus'" in result.stderr


def test_a_flag_that_is_no_number_is_named(shell: Shell) -> None:
    result = shell.forebay("gateway", "--port", "eighty")
    assert result.returncode == 2
    assert "--port" in result.stderr
    assert "integer" in result.stderr


def test_up_without_an_app_says_what_is_missing(shell: Shell) -> None:
    result = shell.forebay("up")
    assert result.returncode == 2
    assert "Missing argument 'MODULE:ATTR'" in result.stderr


def test_a_flag_out_of_range_is_one_sentence(shell: Shell) -> None:
    refused(
        shell.forebay("gateway", "--port", "99999"), "setting http_port = 99999: should be less than or equal to 65535"
    )


def test_ports_beyond_the_last_are_one_sentence(shell: Shell) -> None:
    refused(
        shell.forebay("broker", "--port", "65534", "--nodes", "3"), "3 nodes from port 65534 on would need port 65536"
    )


def test_a_flag_wins_over_its_variable(shell: Shell) -> None:
    result = shell.forebay("gateway", "--port", "99999", FOREBAY_HTTP_PORT="80")
    assert "http_port = 99999" in result.stderr


def test_a_misspelt_variable_is_warned_of_with_the_nearest_name(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text(APP)
    result = shell.forebay("operations", "--app", "mine", FOREBAY_SLOT="3", FOREBAY_SERVICE_HOST="10.0.0.1")
    assert result.returncode == 0
    assert result.stderr == "forebay: warning: FOREBAY_SLOT is no setting and is ignored; is FOREBAY_SLOTS meant?\n"


def test_a_settings_file_that_is_not_there_is_one_sentence(shell: Shell) -> None:
    refused(shell.forebay("topics", "--config", "nix.toml"), "there is no file nix.toml to read settings from")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("slots = 0\n", "setting slots = 0"), ("sluts = 1\n", "no setting 'sluts'"), ("slots = = 1\n", "cannot be read")],
)
def test_a_mistake_in_the_settings_file_is_one_sentence(shell: Shell, text: str, sentence: str) -> None:
    (shell.folder / "forebay.toml").write_text(text)
    result = shell.forebay("processor", "app:app")
    assert result.returncode == 2
    assert result.stderr.startswith("forebay: ")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "extra", "package"),
    [("gateway", "gateway", "httptools"), ("processor", "processor", "pebble")],
)
def test_a_missing_extra_is_named(shell: Shell, command: str, extra: str, package: str) -> None:
    arguments = [command, "app:app"] if command == "processor" else [command]
    code = f"""
import sys
sys.modules[{package!r}] = None
sys.argv = ["forebay", *{arguments!r}]
from forebay_cli.main import main
main()
"""
    result = shell.python("-c", code)
    assert result.returncode == 2
    assert f"forebay {command} needs the '{extra}' extra: pip install 'forebay[{extra}]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_app_that_is_not_there_is_one_sentence(shell: Shell) -> None:
    result = shell.forebay("processor", "nowhere:app")
    assert result.returncode == 2
    assert result.stderr.startswith("forebay: app 'nowhere:app': there is no module 'nowhere'")
    assert result.stderr.count("\n") == 1


def test_an_attribute_that_is_no_app_is_one_sentence(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text("app = 1\n")
    refused(shell.forebay("processor", "mine"), "app 'mine': 'app' in module 'mine' is of type int, not a Forebay app")


BROKEN = "app 'mine' cannot be imported: ZeroDivisionError: division by zero (mine.py:1)"


@pytest.mark.parametrize(
    "command", [["operations", "--app", "mine"], ["processor", "mine"], ["topics", "--app", "mine"]]
)
def test_an_error_in_the_apps_own_code_is_one_sentence_that_says_where(shell: Shell, command: list[str]) -> None:
    (shell.folder / "mine.py").write_text("1 / 0\n")
    refused(shell.forebay(*command), BROKEN)


def test_an_error_in_the_apps_own_code_ends_forebay_up_with_its_sentence(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text("1 / 0\n")
    result = shell.forebay("up", "mine", "--bootstrap-servers", "127.0.0.1:1")
    assert (result.returncode, result.stderr) == (2, f"forebay: {BROKEN}\n")


@pytest.mark.parametrize("setting", ["ssl_cafile", "ssl_certfile"])
def test_a_certificate_that_is_none_is_one_sentence(shell: Shell, setting: str) -> None:
    (shell.folder / "mine.pem").write_text("no certificate")
    variables = {"FOREBAY_SECURITY_PROTOCOL": "SSL", f"FOREBAY_{setting.upper()}": "mine.pem"}
    result = shell.forebay("topics", **variables)
    assert result.returncode == 2
    assert result.stderr.startswith(f"forebay: settings {setting} = 'mine.pem': they cannot be used for TLS: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["topics", "operations"])
def test_a_cluster_that_does_not_answer_is_one_sentence(shell: Shell, command: str) -> None:
    result = shell.forebay(command, "--bootstrap-servers", "127.0.0.1:1")
    assert result.returncode == 75
    assert result.stderr.startswith("forebay: ")
    assert "127.0.0.1:1" in result.stderr
    assert result.stderr.count("\n") == 1


def test_operations_of_an_app_are_listed_without_a_cluster(shell: Shell) -> None:
    (shell.folder / "apps").mkdir()
    (shell.folder / "apps" / "mine.py").write_text(APP)
    result = shell.forebay("operations", "--app", "mine:app", "--app-dir", "apps")
    assert result.returncode == 0, result.stderr
    header, *rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert header[:6] == ["operation", "app", "tier", "deadline", "request", "result"]
    assert [row[:6] for row in rows] == [
        ["convert", "greetings", "bulk", "60 s", "image/jpeg", "image/png"],
        ["greet", "greetings", "interactive", "30 s", "Hello", "Greeting"],
    ]
    assert [row[7] for row in rows] == ["Convert a picture.", "Greet somebody."]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_on_a_terminal_operations_fit_its_width(shell: Shell, columns: int) -> None:
    (shell.folder / "mine.py").write_text(APP.replace("Greet somebody.", f"Greet somebody {'very ' * 50}politely."))
    lines = shell.on_terminal(columns, "operations", "--app", "mine").splitlines()
    assert max(map(len, lines)) <= columns
    text = " ".join(" ".join(lines).replace("│", " ").split())
    for whole in ("convert", "greetings", "interactive", "60 s", "image/jpeg", "Greeting", "politely."):
        assert whole in text
    assert any("┃ operation ┃" in line for line in lines) is (columns == 200)


def in_shell(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command line with redirections; what it leaves behind may still hold its standard error."""
    with (folder / "err").open("w+") as err:
        result = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            timeout=BOUND,
            check=False,
        )
        err.seek(0)
        result.stderr = err.read()
    return result


NOISY = """
import os, subprocess, sys, threading, time
print("of the app")
os.write(1, b"of the app, past Python\\n")
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"])
threading.Thread(target=time.sleep, args=(600,)).start()
"""


def test_what_an_app_prints_and_starts_when_it_is_imported_is_not_in_the_way(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text(NOISY + APP)
    out = shell.folder / "out"
    command = f"{sys.executable} -m forebay_cli operations --app mine --json > {out}"
    assert in_shell(shell.folder, command).returncode == 0
    assert [operation["name"] for operation in json.loads(out.read_text())] == ["convert", "greet"]


def test_a_reader_of_the_output_that_goes_away_is_no_error(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text(APP)
    command = f"{sys.executable} -m forebay_cli operations --app mine | head -1"
    result = in_shell(shell.folder, command)
    assert result.stdout.startswith("operation\t")
    assert result.stderr == ""


@pytest.mark.parametrize("arguments", [("--version",), ("up", "--help"), ("operations", "--app", "mine")])
def test_output_that_cannot_be_written_is_one_sentence(shell: Shell, arguments: tuple[str, ...]) -> None:
    (shell.folder / "mine.py").write_text(APP)
    command = [sys.executable, "-m", "forebay_cli", *arguments]
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            command, cwd=shell.folder, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (result.returncode, result.stderr) == (
        1,
        "forebay: the output cannot be written: No space left on device\n",
    )


def test_output_that_is_closed_is_no_error(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text(APP)
    command = f"{sys.executable} -m forebay_cli operations --app mine >&-"
    result = in_shell(shell.folder, command)
    assert (result.returncode, result.stderr) == (0, "")


def test_what_the_locale_has_no_character_for_is_written_as_an_escape(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text(APP.replace("Greet somebody.", "Greet → reply."), "utf-8")
    result = shell.forebay("operations", "--app", "mine", PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert "Greet \\u2192 reply." in result.stdout


def test_ctrl_c_during_the_imports_is_no_traceback(shell: Shell) -> None:
    code = """
import sys
from importlib.abc import MetaPathFinder

class Interrupt(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "forebay_cli.main":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from forebay_cli.entry import main
main()
"""
    result = shell.python("-c", code)
    assert (result.returncode, result.stderr) == (130, "")
