from pathlib import Path

import pytest

from receiver.errors import SettingsError
from receiver.settings import gemini, load
from tests.conftest import StartProcess
from tests.receiver.signing import SECRET
from workers.contract.settings import WEBHOOK_JWKS_URL

MINIMAL = {"WEBHOOK_SIGNING_SECRET": SECRET}


def test_defaults_are_the_designs() -> None:
    settings = load(MINIMAL)
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.path == "/webhooks/gemini"
    assert (settings.tolerance_seconds, settings.max_body_bytes) == (300, 262_144)
    assert settings.jwks_url is None


def test_dynamic_needs_no_static_secret() -> None:
    assert load({"WEBHOOK_DYNAMIC": "on"}).jwks_url == WEBHOOK_JWKS_URL.default


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


@pytest.mark.parametrize("text", ["65536", "64k", "64KiB", "64 kb"])
def test_a_size_may_have_a_unit_here_too(text: str) -> None:
    assert load({**MINIMAL, "WEBHOOK_MAX_BODY_BYTES": text}).max_body_bytes == 65_536


@pytest.mark.parametrize("text", ["1023", "1k ib", "65MiB"])
def test_a_size_has_bounds(text: str) -> None:
    with pytest.raises(SettingsError, match=r"WEBHOOK_MAX_BODY_BYTES must be .* from 1024 to 67108864\.$"):
        load({**MINIMAL, "WEBHOOK_MAX_BODY_BYTES": text})


def test_secrets_from_the_environment_and_from_a_watched_file_count_together(tmp_path: Path) -> None:
    file = tmp_path / "whsec"

    settings = load({**MINIMAL, "WEBHOOK_SIGNING_SECRET_FILE": str(file)})

    assert (len(settings.secrets), settings.secret_file) == (1, file)


def test_a_signing_secret_among_systemds_credentials_is_found_where_nothing_else_names_one(
    tmp_path: Path,
) -> None:
    credential = tmp_path / "WEBHOOK_SIGNING_SECRET"
    credential.write_text(SECRET)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert load(environment).secret_file == credential
    assert load({**environment, **MINIMAL}).secret_file is None
    named = {**environment, "WEBHOOK_SIGNING_SECRET_FILE": "/run/whsec"}
    assert load(named).secret_file == Path("/run/whsec")


def test_the_registration_needs_an_address_and_a_key_alone() -> None:
    assert gemini({"GOOGLE_API_KEY": "two"}) == ("https://generativelanguage.googleapis.com", "two")
    assert gemini({"GEMINI_API_KEY": "one", "GOOGLE_API_KEY": "two"})[1] == "two"


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "GEMINI_API_KEY is not set"),
        ({"GEMINI_API_KEY": "with space"}, "GEMINI_API_KEY holds characters"),
        ({"GEMINI_API_KEY": "schlüssel"}, "GEMINI_API_KEY holds characters"),
        ({"GOOGLE_API_KEY": "with space"}, "GOOGLE_API_KEY holds characters"),
        ({"GEMINI_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": "http://example.com"}, "GOOGLE_GEMINI_BASE_URL"),
        ({"GEMINI_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": "ftp://[::1"}, "GOOGLE_GEMINI_BASE_URL"),
    ],
)
def test_what_the_registration_can_not_use_is_named_without_its_value(
    environment: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence) as caught:
        gemini(environment)
    assert not any(len(value) > 1 and value in str(caught.value) for value in environment.values())


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
