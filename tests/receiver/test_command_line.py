"""What every command does with its environment, as processes: slips are named, mistakes end it with exit code 2."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from receiver.cli import COMMANDS, main
from tests.conftest import StartProcess
from tests.receiver.signing import SECRET
from tests.support.processes import ROOT
from workers.contract.settings import used_by

READING = [command for command in COMMANDS if used_by(command)]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", READING)
def test_the_help_names_every_variable_that_a_command_reads(command: str) -> None:
    shown = CliRunner().invoke(main, [command, "--help"]).stdout

    names = re.findall(r"^    ([A-Z][A-Z_]+) ", shown.partition("Environment:")[2], re.MULTILINE)
    assert names == [setting.name for setting in used_by(command)]
    assert re.search(rf"Example: .*batch-receiver {command}\b", shown)


@pytest.mark.parametrize("command", READING)
def test_an_env_file_that_can_not_be_read_is_one_sentence_and_exit_code_2(
    start_process: StartProcess, command: str
) -> None:
    Path(".env").write_text("no setting\n")

    process = start_process(command, env={})

    assert process.wait() == 2
    assert process.output == "Error: Line 1 of .env is not of the form KEY=VALUE.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["work"],
        ["process", "abc"],
        ["reconcile"],
        ["register", "--url", "https://example.com/hook"],
        ["webhooks", "list"],
    ],
)
@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({}, "GEMINI_API_KEY is not set: set it, or GOOGLE_API_KEY, to"),
        ({"GEMINI_API_KEY": "two words"}, "GEMINI_API_KEY holds characters that no API key has."),
        (
            {"GEMINI_API_KEY": "key", "GEMINI_API_KEY_FILE": "/dev/null"},
            "GEMINI_API_KEY and GEMINI_API_KEY_FILE are both set: leave one of them out.",
        ),
        (
            {"GEMINI_API_KEY": "key", "GOOGLE_GEMINI_BASE_URL": "http://example.com"},
            "GOOGLE_GEMINI_BASE_URL must be an https:// address (plain http only on this machine).",
        ),
    ],
)
def test_the_same_mistake_is_the_same_sentence_and_exit_code_in_every_command(
    start_process: StartProcess, arguments: list[str], env: dict[str, str], sentence: str
) -> None:
    process = start_process(*arguments, env={"STORAGE_URL": "memory://", **env})

    assert process.wait() == 2
    assert process.output.startswith(f"Error: {sentence}")
    assert process.output.count("\n") == 1


def test_serve_says_once_what_resembles_a_setting_and_starts(start_process: StartProcess) -> None:
    Path(".env").write_text("WEBHOOK_PAHT=/elsewhere\n")

    process = start_process("serve", "--port", "0", env={"WEBHOOK_SIGNING_SECRET": SECRET, "REDISURL": "x"})

    process.wait_for_output(r"listening on http://127\.0\.0\.1:\d+/webhooks/gemini")
    assert process.output.splitlines()[:2] == [
        "Warning: REDISURL is no setting of ours and is ignored: REDIS_URL is one.",
        "Warning: WEBHOOK_PAHT is no setting of ours and is ignored: WEBHOOK_PATH is one.",
    ]
    assert process.output.count("is no setting") == 2


def test_two_keys_are_mentioned_also_by_the_registration_as_a_module_of_its_own() -> None:
    Path(".env").write_text("GOOGLE_API_KEY=one\nGEMINI_API_KEY=two\nGOOGLE_GEMINI_BASE_URL=ftp://x\n")

    ended = subprocess.run(
        [sys.executable, "-m", "receiver.registration", "--url", "https://example.com/hook"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    warning, error = ended.stderr.splitlines()
    assert warning == (
        "Warning: GOOGLE_API_KEY and GEMINI_API_KEY are both set and differ: GOOGLE_API_KEY counts."
    )
    assert error.startswith("Error: GOOGLE_GEMINI_BASE_URL must be")


def test_the_port_is_taken_from_the_environment_where_no_option_gives_it(start_process: StartProcess) -> None:
    env = {"WEBHOOK_SIGNING_SECRET": SECRET, "PORT": "0"}
    process = start_process("serve", env=env)
    taken = process.wait_for_output(r"listening on http://127\.0\.0\.1:(\d+)/")[1]
    assert taken != "8080"

    refused = start_process("serve", env={**env, "PORT": taken})
    assert refused.wait() == 1
    assert f"Can't listen on 127.0.0.1 port {taken}" in refused.output

    option = start_process("serve", "--port", "0", env={**env, "PORT": taken})
    option.wait_for_output(r"listening on http://127\.0\.0\.1:\d+/")


def test_a_port_in_an_env_file_counts_too(start_process: StartProcess) -> None:
    Path(".env").write_text("PORT=many\n")

    process = start_process("serve", env={"WEBHOOK_SIGNING_SECRET": SECRET})

    assert process.wait() == 2
    assert "PORT" in process.output.splitlines()[-1]
    assert "'many' is not a valid integer range" in process.output


@pytest.mark.parametrize("option", [("--port", "99999"), ("--host", "a" * 70)])
def test_an_address_that_nobody_can_listen_on_is_wrong_usage(
    start_process: StartProcess, option: tuple[str, str]
) -> None:
    process = start_process("serve", *option, env={"WEBHOOK_SIGNING_SECRET": SECRET})

    assert process.wait() == 2
    assert "Error: Invalid value for " in process.output.splitlines()[-1]
    assert "Traceback" not in process.output


@pytest.fixture
def two_projects(tmp_path: Path) -> dict[str, str]:
    """An environment with two projects, `ads` and `search`."""
    file = tmp_path / "projects.toml"
    file.write_text(
        "".join(
            f'[projects.{name}]\nstorage = "{(tmp_path / name).as_uri()}"\napi_key_file = "{name}.key"\n'
            for name in ("search", "ads")
        )
    )
    return {"PROJECTS_FILE": str(file)}


@pytest.mark.parametrize("arguments", [["verify", "abc"], ["process", "abc"], ["webhooks", "list"]])
def test_a_command_about_one_project_says_which_ones_there_are(
    start_process: StartProcess, two_projects: dict[str, str], arguments: list[str]
) -> None:
    process = start_process(*arguments, env=two_projects)

    assert process.wait() == 2
    assert "Error: Which project is meant? Say --project NAME with one of ads, search.\n" in process.output


@pytest.mark.parametrize("arguments", [["--project", "ads", "abc"], ["ads/abc"], ["ads/batches/abc"]])
def test_a_command_sees_nothing_but_the_settings_of_the_project_that_is_named(
    start_process: StartProcess, two_projects: dict[str, str], tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "ads").mkdir()
    process = start_process("verify", *arguments, env=two_projects)
    process.wait()
    assert "abc is not intact." in process.output
    other = start_process("verify", "search/abc", env=two_projects)
    other.wait()
    assert f"{tmp_path}/search, which is not there" in other.output

    process = start_process("process", *arguments, env={**two_projects, "GEMINI_API_KEY": "of-none"})
    assert process.wait() == 2
    assert process.output.endswith(
        "Error: api_key_file of project ads can't be read: No such file or directory.\n"
    )


def test_a_mistake_in_the_file_of_projects_ends_every_command_that_reads_it(
    start_process: StartProcess, tmp_path: Path
) -> None:
    (tmp_path / "projects.toml").write_text('[projects.ads]\nstorag = "x"\n')

    process = start_process(
        "verify", "ads/abc", env={"PROJECTS_FILE": "projects.toml"}, before=f"cd {tmp_path}"
    )

    assert process.wait() == 2
    assert process.output.startswith("Error: PROJECTS_FILE: 'storag' of project ads is no key; those are ")
