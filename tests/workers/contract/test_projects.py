import re
from pathlib import Path

import pytest
import redis

from tests.support.processes import ROOT
from workers.contract.announcements import Announcement, Trigger
from workers.contract.forgetting import forget
from workers.contract.projects import DEFAULT, NotClear, Project, choose, load
from workers.contract.queues import Queues
from workers.contract.setting.reading import CREDENTIALS, WrongSetting
from workers.contract.settings import (
    BATCH_DISPLAY_NAME,
    GEMINI_API_KEY,
    GOOGLE_GEMINI_BASE_URL,
    OUTPUTS,
    PART_BYTES,
    QUEUE_PREFIX,
    REDIS_URL,
    SETTINGS,
    STORAGE_URL,
    WEBHOOK_PATH,
    WEBHOOK_SIGNING_SECRET_FILE,
    api_key,
)

TWO = """
[projects.search]
path = "/hooks/search"
signing_secret_file = "search.whsec"
api_key_file = "search.key"
storage = "s3://results/search"
display_name = "search-*"
outputs = ["objects", "parquet"]
part_bytes = 1024
base_url = "https://elsewhere.example"

[projects.ads]
api_key_file = "/keys/ads"
storage = "s3://results/ads"
"""


def of(folder: Path, text: str | bytes, **environment: str) -> tuple[Project, ...]:
    file = folder / "projects.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load({"PROJECTS_FILE": str(file), **environment})


def sentence(folder: Path, text: str | bytes, **environment: str) -> str:
    with pytest.raises(WrongSetting) as caught:
        of(folder, text, **environment)
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    return said


def test_without_a_file_there_is_one_project_and_it_is_the_environment_as_it_is() -> None:
    environment = {"GEMINI_API_KEY": "key", "STORAGE_URL": "file:///results", "HOME": "/root"}

    assert load(environment) == (Project(DEFAULT, environment),)


def test_a_project_reads_its_own_settings_under_their_usual_names(tmp_path: Path) -> None:
    search, ads = of(tmp_path, TWO)

    assert (search.name, ads.name) == ("search", "ads")
    mine = search.environment
    assert WEBHOOK_PATH.read(mine) == "/hooks/search"
    assert WEBHOOK_SIGNING_SECRET_FILE.read(mine) == str(tmp_path / "search.whsec")
    assert STORAGE_URL.read(mine) == "s3://results/search"
    assert BATCH_DISPLAY_NAME.read(mine) == "search-*"
    assert OUTPUTS.read(mine) == {"objects", "parquet"}
    assert PART_BYTES.read(mine) == 1024
    assert GOOGLE_GEMINI_BASE_URL.read(mine) == "https://elsewhere.example"
    assert mine[GEMINI_API_KEY.file_name] == str(tmp_path / "search.key")
    assert WEBHOOK_PATH.read(ads.environment) == "/webhooks/ads"
    assert ads.environment[GEMINI_API_KEY.file_name] == "/keys/ads"


def test_what_a_project_does_not_say_is_that_of_all_but_never_key_secret_path_or_storage(
    tmp_path: Path,
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "WEBHOOK_SIGNING_SECRET"):
        (credentials / name).write_text("of all")
    (credentials / "REDIS_URL").write_text("redis://elsewhere")

    (alone,) = of(
        tmp_path,
        "[projects.alone]",
        GEMINI_API_KEY_FILE="/all",
        GOOGLE_API_KEY="all",
        STORAGE_URL="file:///all",
        WEBHOOK_SIGNING_SECRET="whsec_all",
        WEBHOOK_SIGNING_SECRET_FILE="/all",
        WEBHOOK_PATH="/all",
        PART_BYTES="2048",
        AWS_REGION="eu-central-1",
        CREDENTIALS_DIRECTORY=str(credentials),
    )

    assert PART_BYTES.read(alone.environment) == 2048
    assert REDIS_URL.read(alone.environment) == "redis://elsewhere"
    assert alone.environment["AWS_REGION"] == "eu-central-1"
    assert CREDENTIALS not in alone.environment
    assert STORAGE_URL.find(alone.environment) is None
    assert WEBHOOK_SIGNING_SECRET_FILE.find(alone.environment) is None
    assert not [name for name, value in alone.environment.items() if "all" in value]
    with pytest.raises(WrongSetting, match=r"^api_key_file of project alone is not set: "):
        api_key(alone.environment)


def test_a_secret_that_can_not_be_read_is_named_as_the_file_of_projects_names_it(tmp_path: Path) -> None:
    search, _ = of(tmp_path, TWO)

    with pytest.raises(WrongSetting, match=r"^api_key_file of project search can't be read: No such file"):
        api_key(search.environment)


def test_queues_and_jobs_of_no_two_projects_have_a_name_in_common(tmp_path: Path) -> None:
    text = "[projects.default]\n[projects.batch]\n[projects.part]\n[projects.project]"
    projects = of(tmp_path, text)
    prefixes = {each.name: QUEUE_PREFIX.read(each.environment) for each in projects}

    assert prefixes["default"] == "batch-receiver"
    assert prefixes["part"] == "batch-receiver-project-part"
    ids = ["abc", "project-part-batch-abc", "part-abc-00000", "batch-abc"]
    for name, prefix in prefixes.items():
        queues = Queues(None, prefix)  # type: ignore[arg-type]
        others = [Queues(None, each) for other, each in prefixes.items() if other != name]  # type: ignore[arg-type]
        for job in (
            job for batch in ids for job in (queues.batch_job_id(batch), queues.part_job_id(batch, 7))
        ):
            assert queues.batch_of(job) in ids
            assert [other.batch_of(job) for other in others] == [None] * 3, job
        assert not set(queues.names) & {each for other in others for each in other.names}


def test_the_same_batch_in_two_projects_is_two_batches(tmp_path: Path, redis_client: "redis.Redis") -> None:
    one, other = (Queues(redis_client, QUEUE_PREFIX.read(p.environment)) for p in of(tmp_path, TWO))

    assert one.announce([Announcement("abc", Trigger.WEBHOOK)]) == ["accepted"]
    assert other.announced("abc").count == 0
    assert other.announce([Announcement("abc", Trigger.DYNAMIC)]) == ["accepted"]
    assert forget(other, "abc") == 1
    assert one.announced("abc").strongest is Trigger.WEBHOOK
    assert one.jobs_of("abc") == [one.batch_job_id("abc")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "PROJECTS_FILE names no project: "),
        ("projects = 1", "PROJECTS_FILE names no project: "),
        ("[project.a]", "PROJECTS_FILE holds 'project': "),
        ("[projects.a]\n[more]", "PROJECTS_FILE holds 'more': "),
        ("[projects]\na = 1", "PROJECTS_FILE: project a must be a table [projects.a]."),
        ("[projects.a", "PROJECTS_FILE is no TOML (at "),
        (b"\xff", "PROJECTS_FILE is no TOML: it is not UTF-8 text."),
        ("[projects.A]", "PROJECTS_FILE: 'A' can't name a project: "),
        ("[projects.a-b]", "PROJECTS_FILE: 'a-b' can't name a project: "),
        ("[projects.batches]", "PROJECTS_FILE: 'batches' can't name a project: "),
        (f"[projects.{'a' * 33}]", "can't name a project"),
        ('[projects.""]', "PROJECTS_FILE: '' can't name a project: "),
        (
            '[projects.a]\nstorag = "x"',
            "PROJECTS_FILE: 'storag' of project a is no key; those are api_key_file, base_url, display_name, ",
        ),
        ('[projects.a]\napi_key = "secret"', "PROJECTS_FILE: 'api_key' of project a is no key; those are "),
        ("[projects.a]\nstorage = 1.5", "PROJECTS_FILE: storage of project a must be a text."),
        ("[projects.a]\nstorage = true", "PROJECTS_FILE: storage of project a must be a text."),
        ('[projects.a]\nstorage = ""', "PROJECTS_FILE: storage of project a must be a text."),
        ("[projects.a]\noutputs = [1]", "PROJECTS_FILE: outputs of project a must be a text."),
        ('[projects.a]\noutputs = "csv"', "outputs of project a must be one or more of objects, parquet"),
        ('[projects.a]\npath = "hooks"', "path of project a must begin with /"),
        ('[projects.a]\npath = "/healthz"', "path of project a must begin with /"),
        ('[projects.a]\nbase_url = "http://elsewhere"', "base_url of project a must be an https:// address"),
        (
            '[projects.a]\npath = "/x"\n[projects.b]\npath = "/x/"',
            "PROJECTS_FILE: projects a and b share the path /x: ",
        ),
    ],
)
def test_every_mistake_in_the_file_is_one_sentence(text: str | bytes, says: str, tmp_path: Path) -> None:
    said = sentence(tmp_path, text)

    assert says in said
    assert "secret" not in said.replace("signing_secret_file", "").replace("notify_secret_file", "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://results", "s3://results/"),
        ("s3://results/a", "s3://results/a/"),
        ("s3://results", "s3://results/a"),
        ("s3://results/a/b", "s3://results/a"),
        ("gs://results//a", "gs://results/a"),
        ("file:///srv/results", "file://localhost/srv/./results"),
        ("file:///srv/results", "file:///srv/results/_work"),
        ("file:///srv/a%62", "file:///srv/ab"),
    ],
)
def test_two_projects_never_share_a_storage(one: str, other: str, tmp_path: Path) -> None:
    text = f'[projects.a]\nstorage = "{one}"\n[projects.b]\nstorage = "{other}"'

    assert sentence(tmp_path, text).startswith("PROJECTS_FILE: projects a and b share a storage, or one's is")


def test_a_folder_that_is_a_link_to_another_projects_is_the_same_storage(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    text = (
        f'[projects.a]\nstorage = "{(tmp_path / "real").as_uri()}"\n'
        f'[projects.b]\nstorage = "{(tmp_path / "link").as_uri()}"'
    )

    assert "share a storage" in sentence(tmp_path, text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://results/a", "s3://results/ab"),
        ("s3://results/a", "s3://others/a"),
        ("s3://results/a", "gs://results/a"),
        ("file:///srv/a", "file:///srv/b"),
    ],
)
def test_neighbouring_storages_are_two(one: str, other: str, tmp_path: Path) -> None:
    assert len(of(tmp_path, f'[projects.a]\nstorage = "{one}"\n[projects.b]\nstorage = "{other}"')) == 2


def test_a_file_that_can_not_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WrongSetting, match=r"^PROJECTS_FILE can't be read: No such file or directory\.$"):
        load({"PROJECTS_FILE": str(tmp_path / "none.toml")})
    assert sentence(tmp_path, b"#" * (2 << 20)) == "PROJECTS_FILE is larger than 1048576 bytes."


def test_a_prefix_that_leaves_no_room_for_a_project_is_one_sentence(tmp_path: Path) -> None:
    said = sentence(tmp_path, f"[projects.{'a' * 32}]", QUEUE_PREFIX="x" * 40)

    assert said.startswith("QUEUE_PREFIX must be letters")


def test_no_representation_of_a_project_shows_its_environment(tmp_path: Path) -> None:
    assert repr(of(tmp_path, TWO, REDIS_URL="redis://:password@host")[0]) == "Project(name='search')"


@pytest.mark.parametrize(
    ("name", "batch", "found"),
    [
        ("ads", "abc", ("ads", "abc")),
        (None, "ads/abc", ("ads", "abc")),
        (None, "search/batches/abc", ("search", "batches/abc")),
        ("ads", "ads/abc", ("ads", "abc")),
        ("ads", "batches/abc", ("ads", "batches/abc")),
        ("ads", None, ("ads", None)),
    ],
)
def test_a_project_is_named_by_itself_or_before_the_batch(
    name: str | None, batch: str | None, found: tuple[str, str | None], tmp_path: Path
) -> None:
    project, bare = choose(of(tmp_path, TWO), name, batch)

    assert (project.name, bare) == found


@pytest.mark.parametrize("batch", [None, "abc", "batches/abc"])
def test_where_it_is_not_clear_which_project_is_meant_all_are_listed(
    batch: str | None, tmp_path: Path
) -> None:
    with pytest.raises(
        NotClear, match=r"^Which project is meant\? Say --project NAME with one of ads, search\.$"
    ):
        choose(of(tmp_path, TWO), None, batch)


@pytest.mark.parametrize(
    ("name", "batch", "says"),
    [
        ("nix", None, "There is no project 'nix': the projects are ads, search."),
        (None, "nix/abc", "There is no project 'nix': the projects are ads, search."),
        ("ads", "search/abc", "The batch is said to be of project search, and the project to be ads."),
    ],
)
def test_a_project_that_is_none_is_refused(
    name: str | None, batch: str | None, says: str, tmp_path: Path
) -> None:
    with pytest.raises(WrongSetting) as caught:
        choose(of(tmp_path, TWO), name, batch)

    assert str(caught.value) == says
    assert not isinstance(caught.value, NotClear)


@pytest.mark.parametrize("batch", [None, "abc", "batches/abc", "default/abc", "no batch"])
def test_one_project_need_not_be_named(batch: str | None) -> None:
    project, bare = choose(load({}), None, batch)

    assert project.name == DEFAULT
    assert bare == (batch.removeprefix("default/") if batch else None)


def test_the_page_about_projects_shows_a_file_that_is_right_and_names_every_key(tmp_path: Path) -> None:
    page = (ROOT / "docs/projects.md").read_text()
    example = page.partition("```toml\n")[2].partition("```")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]

    assert [each.name for each in of(tmp_path, example)] == ["search", "ads"]
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == {
        setting.project_key for setting in SETTINGS if setting.project_key
    }
