"""The declaration: each setting once, read by one rule; secrets from the environment, a file or systemd."""

import re
from pathlib import Path

import pytest

from receiver.cli import COMMANDS
from tests.support.processes import ROOT
from workers.contract import settings
from workers.contract.setting.reading import Setting, WrongSetting
from workers.contract.settings import SETTINGS, api_key, used_by

SECRET = "redis://:hunter2@127.0.0.1/0"
KINDS_OF_SECRETS = [settings.REDIS_URL, settings.GOOGLE_API_KEY, settings.GEMINI_API_KEY]


def test_names_are_unique_and_explained_in_one_sentence() -> None:
    names = [setting.name for setting in SETTINGS]

    assert len(names) == len(set(names)) > 10
    for setting in SETTINGS:
        assert re.fullmatch(r"[A-Z`][^\n]*[^.]", setting.about), setting.name
        assert not setting.default or not setting.is_secret or setting is settings.REDIS_URL


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: str(setting.name))
def test_a_setting_is_read_by_commands_that_exist(setting: Setting[object]) -> None:
    assert setting.used_by
    assert set(setting.used_by) <= set(COMMANDS)
    for command in setting.used_by:
        assert setting in used_by(command)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: str(setting.name))
def test_a_setting_that_is_declared_is_read_by_the_code(setting: Setting[object]) -> None:
    rooms = [path for room in ("receiver", "workers", "console") for path in (ROOT / room).rglob("*.py")]
    rest = [path.read_text() for path in rooms if path != Path(settings.__file__)]
    reader = re.search(r"^def api_key.*?^def ", Path(settings.__file__).read_text(), re.DOTALL | re.MULTILINE)
    assert reader

    assert any(re.search(rf"\b{setting.name}\b[.,]", text) for text in [*rest, reader[0]])


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: str(setting.name))
def test_a_default_keeps_the_rule(setting: Setting[object]) -> None:
    assert (setting.find({}) is None) == (setting.default is None)
    assert setting.find({setting.name: " "}) == setting.find({})


def test_no_room_reads_the_environment_by_a_name_of_its_own() -> None:
    # sd_listen_fds(3) and sd_notify(3) have their own names.
    by_protocol = {ROOT / "receiver/systemd.py", ROOT / "workers/contract/environment.py"}
    for room in ("receiver", "workers"):
        for path in set((ROOT / room).rglob("*.py")) - by_protocol:
            found = re.findall(r"environ(?:ment)?(?:\.get\(|\[)\s*\"", path.read_text())
            assert found == [], path


@pytest.mark.parametrize("setting", KINDS_OF_SECRETS, ids=lambda setting: str(setting.name))
@pytest.mark.parametrize(("end", "read"), [("", ""), ("\n", ""), ("\r\n", "")])
def test_a_secret_may_stand_in_a_file_without_its_line_end(
    setting: Setting[str], end: str, read: str, tmp_path: Path
) -> None:
    file = tmp_path / "any-name"
    file.write_bytes(f"{SECRET}{end}".encode())

    assert setting.read({f"{setting.name}_FILE": str(file)}) == SECRET + read


@pytest.mark.parametrize("setting", KINDS_OF_SECRETS, ids=lambda setting: str(setting.name))
def test_a_secret_may_be_one_of_systemds_credentials(setting: Setting[str], tmp_path: Path) -> None:
    (tmp_path / setting.name).write_text(f"{SECRET}\n")
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert setting.read(given) == SECRET
    assert setting.read({**given, setting.name: "redis://elsewhere"}) == "redis://elsewhere"
    other = tmp_path / "other"
    other.write_text("redis://other")
    assert setting.read({**given, f"{setting.name}_FILE": str(other)}) == "redis://other"


def test_a_folder_of_credentials_without_ours_is_no_value(tmp_path: Path) -> None:
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path / "missing")}

    assert settings.REDIS_URL.read(given) == settings.REDIS_URL.default
    assert settings.GOOGLE_API_KEY.find(given) is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "REDIS_URL_FILE can't be read: No such file or directory."),
        (b"", "REDIS_URL_FILE is no file of a secret: it is empty."),
        (b" \n", "REDIS_URL_FILE is no file of a secret: it is empty."),
        (b"\xff\n", "REDIS_URL_FILE is no file of a secret: it is not text."),
        (b"x" * 70_000, "REDIS_URL_FILE is no file of a secret: it is too large."),
        (
            b"hunter2\n",
            (
                "REDIS_URL must be an address that begins with redis://, rediss:// or unix://, or "
                "redis+sentinel://host:port,host:port/service/0."
            ),
        ),
    ],
)
def test_a_wrong_file_is_one_sentence_without_what_it_holds(
    content: bytes | None, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(WrongSetting) as caught:
        settings.REDIS_URL.read({"REDIS_URL_FILE": str(file)})
    assert str(caught.value) == sentence


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(WrongSetting, match="GEMINI_API_KEY_FILE can't be read: Is a directory"):
        api_key({"GEMINI_API_KEY_FILE": str(tmp_path)})
    with pytest.raises(WrongSetting, match="GEMINI_API_KEY_FILE can't be read"):
        api_key({"GEMINI_API_KEY_FILE": "a\0b"})


def test_a_credential_that_can_not_be_used_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "REDIS_URL").write_text("")

    with pytest.raises(WrongSetting, match="The credential REDIS_URL is no file of a secret: it is empty"):
        settings.REDIS_URL.read({"CREDENTIALS_DIRECTORY": str(tmp_path)})


@pytest.mark.parametrize("setting", KINDS_OF_SECRETS, ids=lambda setting: str(setting.name))
def test_a_secret_and_its_file_at_once_are_refused(setting: Setting[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(SECRET)

    with pytest.raises(WrongSetting) as caught:
        setting.read({setting.name: SECRET, f"{setting.name}_FILE": str(file)})
    name = setting.name
    assert str(caught.value) == f"{name} and {name}_FILE are both set: leave one of them out."
    assert setting.read({setting.name: "", f"{setting.name}_FILE": str(file)}) == SECRET
    assert setting.read({setting.name: SECRET, f"{setting.name}_FILE": ""}) == SECRET


def test_a_key_in_a_file_under_either_name_counts_like_one_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-file\n")

    assert api_key({"GOOGLE_API_KEY_FILE": str(file), "GEMINI_API_KEY": "other"}) == "from-file"
    assert api_key({"GEMINI_API_KEY_FILE": str(file)}) == "from-file"
    with pytest.raises(WrongSetting, match=r"^GEMINI_API_KEY is not set: "):
        api_key({})
