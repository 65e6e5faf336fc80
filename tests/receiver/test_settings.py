from pathlib import Path

import pytest

from receiver.errors import SettingsError
from receiver.settings import GOOGLE_JWKS_URL, load, parse_env, read_environment
from tests.conftest import StartProcess
from tests.receiver.signing import SECRET

MINIMAL = {"WEBHOOK_SIGNING_SECRET": SECRET}


def test_defaults_are_the_designs() -> None:
    settings = load(MINIMAL)
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.path == "/webhooks/gemini"
    assert (settings.tolerance_seconds, settings.max_body_bytes) == (300, 262_144)
    assert settings.jwks_url is None


def test_dynamic_needs_no_static_secret() -> None:
    assert load({"WEBHOOK_DYNAMIC": "on"}).jwks_url == GOOGLE_JWKS_URL


def test_no_secret_is_in_the_repr() -> None:
    shown = repr(load({**MINIMAL, "REDIS_URL": "redis://:hunter2@127.0.0.1/0"}))
    assert "hunter2" not in shown
    assert SECRET not in shown
    assert "0123456789abcdef" not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "http://127.0.0.1"),
        ("REDIS_URL", "redis://127.0.0.1:port/0"),
        ("WEBHOOK_SIGNING_SECRET", "hunter2"),
        ("WEBHOOK_DYNAMIC", "maybe"),
        ("WEBHOOK_PATH", "no/slash"),
        ("WEBHOOK_PATH", "/{anything}"),
        ("WEBHOOK_PATH", "/healthz"),
        ("WEBHOOK_TOLERANCE_SECONDS", "-1"),
        ("WEBHOOK_TOLERANCE_SECONDS", "0"),
        ("WEBHOOK_MAX_BODY_BYTES", "lots"),
        ("WEBHOOK_MAX_BODY_BYTES", "9" * 5000),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence_without_its_value(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({**MINIMAL, name: value})
    message = str(caught.value)
    assert name in message
    assert message.endswith(".")
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "url", ["http://keys.example/jwks", "file:///etc/passwd", "https://", "http://[", "x"]
)
def test_a_jwks_address_must_be_https(url: str) -> None:
    with pytest.raises(SettingsError, match="WEBHOOK_JWKS_URL"):
        load({"WEBHOOK_DYNAMIC": "on", "WEBHOOK_JWKS_URL": url})


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
def test_a_jwks_address_on_this_machine_may_be_plain(host: str) -> None:
    url = f"http://{host}/jwks.json"
    assert load({"WEBHOOK_DYNAMIC": "on", "WEBHOOK_JWKS_URL": url}).jwks_url == url


def test_an_env_file_is_read_line_by_line() -> None:
    text = "# comment\n\nA=1\n export B = 'two words' \nC=\"x=y\"\nD=\nE='\n"
    assert parse_env(text) == {"A": "1", "B": "two words", "C": "x=y", "D": "", "E": "'"}


def test_a_wrong_line_of_an_env_file_is_named_by_its_number_alone() -> None:
    with pytest.raises(SettingsError, match=r"Line 2 of \.env") as caught:
        parse_env("A=1\nhunter2\n")
    assert "hunter2" not in str(caught.value)


def test_the_environment_wins_over_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("WEBHOOK_PATH=/file\nWEBHOOK_DYNAMIC=on\n")
    monkeypatch.setenv("WEBHOOK_PATH", "/environment")
    environment = read_environment(tmp_path)
    assert environment["WEBHOOK_PATH"] == "/environment"
    assert environment["WEBHOOK_DYNAMIC"] == "on"


@pytest.mark.parametrize(
    "env", [{}, {"WEBHOOK_SIGNING_SECRET": " "}, {"WEBHOOK_SIGNING_SECRET_FILE": "/nonexistent/secret"}]
)
def test_without_a_secret_it_refuses_to_start_in_one_sentence(
    start_process: StartProcess, env: dict[str, str]
) -> None:
    process = start_process("serve", "--port", "0", env=env)
    assert process.wait() == 2
    assert process.output.startswith("Error: WEBHOOK_SIGNING_SECRET")
    assert process.output.count("\n") == 1


def test_an_address_of_redis_that_its_client_refuses_is_said_in_one_sentence(
    start_process: StartProcess,
) -> None:
    env = {**MINIMAL, "REDIS_URL": "redis://127.0.0.1/0?no_such_option=hunter2"}
    process = start_process("serve", "--port", "0", env=env)
    assert process.wait() == 2
    assert process.output == "Error: REDIS_URL is not an address that the Redis client understands.\n"


def test_a_port_that_is_taken_is_said_in_one_sentence(start_process: StartProcess) -> None:
    first = start_process("serve", "--port", "0", env=MINIMAL)
    port = first.wait_for_output(r"listening on http://127\.0\.0\.1:(\d+)/")[1]
    second = start_process("serve", "--port", port, env=MINIMAL)
    assert second.wait() == 1
    assert "Can't listen on 127.0.0.1 port" in second.output
