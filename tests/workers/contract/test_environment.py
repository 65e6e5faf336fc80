"""The environment on top of `.env`, and what in it is likely a slip."""

from pathlib import Path

import pytest

from workers.contract.environment import credentials, parse, read, slips
from workers.contract.setting.reading import WrongSetting
from workers.contract.settings import SETTINGS

# What platforms, tools and other programs set beside ours.
OF_OTHERS = (
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_PASSWORD",
    "REDIS_USERNAME",
    "REDIS_TLS_URL",
    "REDIS_DB",
    "REDIS_PORT_6379_TCP",
    "CELERY_BROKER_URL",
    "DATABASE_URL",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "MISTRAL_API_KEY",
    "GROQ_API_KEY",
    "GOOGLE_MAPS_API_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_LOCATION",
    "GOOGLE_GENAI_USE_VERTEXAI",
    "GOOGLE_SERVICE_ACCOUNT",
    "GITHUB_OUTPUT",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "STORAGE_BUCKET",
    "STORAGE_TYPE",
    "WEBHOOK_URL",
    "WEBHOOK_PORT",
    "WEBHOOK_ID",
    "KUBERNETES_PORT",
    "KUBERNETES_SERVICE_HOST",
    "HOST",
    "HOSTNAME",
    "PORTS",
    "PATH",
    "PYTHONPATH",
    "HOME",
    "SHELL",
    "TERM",
    "LANG",
    "OUTPUT_DIR",
    "OUTPUT_FORMAT",
    "CREDENTIALS_DIRECTORY",
    "DOMAIN",
    "WORKERS",
    "RQ_REDIS_URL",
    "MY_STORAGE_URL",
    "A_WEBHOOK_SIGNING_SECRET",
    "BATCH_SIZE",
    "BATCH_NAME",
    "PART_SIZE",
    "PARQUET",
    "DISPLAY",
)


def test_an_env_file_is_read_by_the_rules_of_python_dotenv() -> None:
    text = '# comment\n\nA=1\n export B = \'two words\' \nC="x=y"\nD=\nE=5 # five\nF="a\nb"\nG=${A}2\n'
    assert parse(text) == {
        "A": "1",
        "B": "two words",
        "C": "x=y",
        "D": "",
        "E": "5",
        "F": "a\nb",
        "G": "12",
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\nhunter2\n", 2),
        ("A=1\n\n\n  hunter2\n", 4),
        ("A='hunter2\nB=1\n", 1),
        ("A=1\n=hunter2\n", 2),
        ("'a=b'=hunter2", 1),
        ("A=1\nB=hunter2\0\n", 2),
    ],
)
def test_a_wrong_line_of_an_env_file_is_named_by_its_number_alone(text: str, line: int) -> None:
    with pytest.raises(WrongSetting, match=rf"^Line {line} of \.env is not of the form KEY=VALUE\.$"):
        parse(text)


def test_the_environment_wins_over_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("WEBHOOK_PATH=/file\nWEBHOOK_DYNAMIC=on\n")
    monkeypatch.setenv("WEBHOOK_PATH", "/environment")
    environment = read(tmp_path)
    assert environment["WEBHOOK_PATH"] == "/environment"
    assert environment["WEBHOOK_DYNAMIC"] == "on"


def test_an_env_file_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_PATH", "/environment")
    assert read(tmp_path)["WEBHOOK_PATH"] == "/environment"


def test_an_env_file_that_can_not_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    with pytest.raises(WrongSetting, match=r"^The file \.env can't be read: Is a directory\.$"):
        read(tmp_path)
    (tmp_path / ".env").rmdir()
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(WrongSetting, match=r"^The file \.env can't be read: it is not UTF-8 text\.$"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OUTPUT", "OUTPUTS"),
        ("output", "OUTPUTS"),
        ("STORAGE_URI", "STORAGE_URL"),
        ("REDISURL", "REDIS_URL"),
        ("REDIS_URLS", "REDIS_URL"),
        ("WEBHOOK_SIGNING_SECRETS", "WEBHOOK_SIGNING_SECRET"),
        ("WEBHOOK_SIGNING_SECRETS_FILE", "WEBHOOK_SIGNING_SECRET_FILE"),
        ("GEMENI_API_KEY", "GEMINI_API_KEY"),
        ("FANOUT_CONCURENCY", "FANOUT_CONCURRENCY"),
        ("RECONCILE_INTERVALL_SECONDS", "RECONCILE_INTERVAL_SECONDS"),
        ("GEMINI_API_KEYFILE", "GEMINI_API_KEY_FILE"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "work", "verify"])
def test_a_name_that_resembles_one_of_ours_is_named_without_its_value(
    name: str, meant: str, command: str
) -> None:
    (sentence,) = slips({name: "hunter2", "PATH": "/bin"}, command)
    assert sentence == f"{name} is no setting of ours and is ignored: {meant} is one."


def test_what_is_ours_or_clearly_anothers_is_not_mentioned() -> None:
    ours = {s.name: "x" for s in SETTINGS if s.name not in {"GEMINI_API_KEY", "PROJECTS_FILE"}}
    files = {f"{setting.name}_FILE": "" for setting in SETTINGS if setting.is_secret}

    assert list(slips({**ours, **files, **dict.fromkeys(OF_OTHERS, "x")}, "work")) == []


def test_a_command_that_reads_no_setting_has_nothing_to_say() -> None:
    assert list(slips({"OUTPUT": "x", "GEMINI_API_KEY": "a", "GOOGLE_API_KEY": "b"}, "emulator")) == []


@pytest.mark.parametrize(
    ("gemini", "google", "command", "said"),
    [
        ("a", "b", "work", 1),
        ("a", "b", "register", 1),
        ("a", "b", "serve", 0),
        ("a", "a", "work", 0),
        ("a", "", "work", 0),
        ("", "b", "work", 0),
        ("not a key", "b", "work", 0),
    ],
)
def test_two_keys_that_differ_are_mentioned_where_a_key_is_read(
    gemini: str, google: str, command: str, said: int
) -> None:
    found = list(slips({"GEMINI_API_KEY": gemini, "GOOGLE_API_KEY": google}, command))

    assert (
        found == ["GOOGLE_API_KEY and GEMINI_API_KEY are both set and differ: GOOGLE_API_KEY counts."] * said
    )


def test_what_a_file_of_projects_says_for_each_project_is_not_heeded_besides() -> None:
    environment = {
        "PROJECTS_FILE": "projects.toml",
        "GOOGLE_API_KEY": "one",
        "GEMINI_API_KEY_FILE": "key",
        "STORAGE_URL": "file:///results",
        "PART_BYTES": "1024",
        "WEBHOOK_PATH": " ",
    }

    assert list(slips(environment, "work")) == [
        "GOOGLE_API_KEY is ignored: PROJECTS_FILE says it for each project.",
        "GEMINI_API_KEY_FILE is ignored: PROJECTS_FILE says it for each project.",
        "STORAGE_URL is ignored: PROJECTS_FILE says it for each project.",
    ]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """As systemd, Docker and Kubernetes put them down."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "AWS_SECRET_ACCESS_KEY").write_text("k$(date) 'y\"\n")
    (folder / "REDIS_URL").write_text("redis://secret\n")
    (folder / "key.json").write_text("{}")
    (folder / "..data").mkdir()
    (folder / "LIKE_A_FOLDER").mkdir()
    return folder


def test_credentials_of_others_become_variables_and_ours_stay_in_their_files(secrets: Path) -> None:
    assert credentials({"CREDENTIALS_DIRECTORY": str(secrets)}) == {"AWS_SECRET_ACCESS_KEY": "k$(date) 'y\""}


def test_a_variable_that_is_set_counts_before_a_credential_and_that_before_env(
    secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (secrets / "AWS_REGION").write_text("from-a-credential")
    (tmp_path / ".env").write_text("AWS_REGION=from-env\nAWS_SECRET_ACCESS_KEY=from-env\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secrets))
    monkeypatch.setenv("AWS_REGION", "given")

    found = read(tmp_path)

    assert (found["AWS_REGION"], found["AWS_SECRET_ACCESS_KEY"]) == ("given", "k$(date) 'y\"")


@pytest.mark.parametrize("folder", [None, "", "/nowhere"])
def test_without_a_folder_of_credentials_there_are_none(folder: str | None) -> None:
    assert credentials({} if folder is None else {"CREDENTIALS_DIRECTORY": folder}) == {}


def test_a_credential_that_is_none_is_named(secrets: Path) -> None:
    (secrets / "AWS_SESSION_TOKEN").write_bytes(b"\xff")
    with pytest.raises(
        WrongSetting, match=r"^The credential AWS_SESSION_TOKEN is no file of a secret: it is not"
    ):
        credentials({"CREDENTIALS_DIRECTORY": str(secrets)})
