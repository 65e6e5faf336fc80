"""The registration commands, against the emulator's webhook service as a real server."""

import json
import logging
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner, Result
from starlette.types import ASGIApp, Receive, Scope, Send

from emulator.app import create_app
from emulator.demo.local_redis import free_port
from emulator.settings import Settings
from emulator.webhooks import DISABLED_FOR_FAILURES, Webhook, Webhooks
from emulator.world import World
from receiver.cli import main
from tests.support.gemini import Gemini
from tests.support.processes import ROOT, Process
from tests.support.waiting import wait_until
from workers.gemini.webhooks import BATCH_EVENTS

KEY = "AIzaTestKeyTestKeyTestKey"
URL = "https://example.com/webhooks/gemini"


@dataclass
class Service:
    """The emulator at `url`; `before` is called with a request's method before it is served."""

    world: World
    url: str = ""
    calls: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda _method: None

    @property
    def webhooks(self) -> Webhooks:
        return self.world.webhooks

    def only(self) -> Webhook:
        (webhook,) = self.webhooks
        return webhook

    def existing(self, uri: str = URL, events: tuple[str, ...] = BATCH_EVENTS) -> Webhook:
        return self.webhooks.create({"uri": uri, "subscribed_events": list(events)})


@dataclass
class Server:
    """A real server whose application each test replaces."""

    url: str = ""
    app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    state = Server()
    running = uvicorn.Server(uvicorn.Config(state, port=0, ws="none", lifespan="off", log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    wait_until(lambda: running.started, what="the server")
    state.url = f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    yield state
    running.should_exit = True
    thread.join()


@pytest.fixture
def service(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Service:
    state = Service(World(Settings(api_key=KEY), tmp_path_factory.mktemp("emulator")), server.url)
    app = create_app(state.world)

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        state.calls.append(scope["method"])
        state.before(scope["method"])
        await app(scope, receive, send)

    server.app = watched
    return state


Run = Callable[..., Result]
StartProcess = Callable[..., Process]


@pytest.fixture
def run(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("register", "--url", URL)`: the command in an empty folder, with the service as its Gemini."""
    monkeypatch.chdir(tmp_path)
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def call(*args: str, key: str | None = KEY, **options: Any) -> Result:
        env = {"GOOGLE_GEMINI_BASE_URL": service.url} | ({"GEMINI_API_KEY": key} if key else {})
        return CliRunner().invoke(main, args, env=env, **options)

    return call


def all_output(result: Result) -> str:
    return result.stdout + result.stderr


def test_a_new_url_is_subscribed_to_the_batch_events(run: Run, service: Service) -> None:
    result = run("register", "--url", URL, "--name", "batches", "--secret-file", "whsec")

    webhook = service.only()
    assert result.exit_code == 0, all_output(result)
    assert (webhook.uri, webhook.name) == (URL, "batches")
    assert webhook.subscribed_events == list(BATCH_EVENTS)


def test_a_secret_that_goes_to_a_file_goes_nowhere_else(
    run: Run, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    results = [
        run("register", "--url", URL, "--secret-file", "whsec", "--json"),
        run("register", "--url", URL, "--secret-file", "whsec"),
        run("register", "--url", URL, "--secret-file", "whsec", "--rotate"),
        run("webhooks", "rotate", service.only().id, "--secret-file", "whsec"),
        run("webhooks", "get", service.only().id),
        run("webhooks", "list", "--json"),
    ]

    secrets = Path("whsec").read_text().split()
    assert secrets == service.only().live_secrets()
    assert len(secrets) == 3
    for result in results:
        assert result.exit_code == 0, all_output(result)
        assert not any(secret in all_output(result) for secret in secrets)
    assert not any(secret in caplog.text for secret in [*secrets, KEY])


def test_the_secret_file_is_private_from_its_first_moment(run: Run, service: Service) -> None:
    modes: list[int] = []
    service.before = lambda _method: modes.extend(stat.S_IMODE(each.stat().st_mode) for each in files())

    def files() -> list[Path]:
        return list(Path().iterdir())

    before = os.umask(0)
    try:
        run("register", "--url", URL, "--secret-file", "whsec")
    finally:
        os.umask(before)

    modes += [stat.S_IMODE(each.stat().st_mode) for each in files()]
    assert [each.name for each in files()] == ["whsec"]
    assert len(modes) >= 3
    assert set(modes) == {0o600}


def test_without_a_file_the_secret_is_printed_once_with_a_warning(run: Run, service: Service) -> None:
    first = run("register", "--url", URL)
    second = run("register", "--url", URL)

    (secret,) = service.only().live_secrets()
    assert first.stdout.splitlines()[-1] == secret
    assert "shown only once" in first.stderr
    assert (second.exit_code, secret in all_output(second)) == (0, False)


def test_json_without_a_file_carries_the_secret(run: Run, service: Service) -> None:
    document = json.loads(run("register", "--url", URL, "--json").stdout)

    assert document["action"] == "created"
    assert document["secret"] == service.only().live_secrets()[0]
    assert document["webhook"]["id"] == service.only().id
    assert "new_signing_secret" not in document["webhook"]


def test_registering_again_changes_nothing(run: Run, service: Service) -> None:
    run("register", "--url", URL, "--secret-file", "whsec")
    service.calls.clear()

    result = run("register", "--url", "https://EXAMPLE.com:443/webhooks/gemini", "--secret-file", "whsec")

    assert result.exit_code == 0, all_output(result)
    assert "Up to date" in result.stdout
    assert service.calls == ["GET"]


def test_a_webhook_on_the_second_page_is_found(run: Run, service: Service) -> None:
    for number in range(60):
        service.existing(f"https://example.com/other/{number}")
    run("register", "--url", URL, "--secret-file", "whsec")

    result = run("register", "--url", URL, "--secret-file", "whsec")

    assert "Up to date" in result.stdout
    assert len(list(service.webhooks)) == 61


def test_a_disabled_webhook_with_other_events_is_brought_up_to_date(run: Run, service: Service) -> None:
    run("register", "--url", URL, "--secret-file", "whsec", "--event", "video.generated")
    service.only().state = DISABLED_FOR_FAILURES

    result = run("register", "--url", URL, "--secret-file", "whsec", "--name", "batches", "--json")

    assert json.loads(result.stdout)["action"] == "updated"
    assert service.only().state == "enabled"
    assert service.only().subscribed_events == list(BATCH_EVENTS)
    assert service.only().name == "batches"


def test_a_lost_secret_is_said_in_a_sentence_that_offers_to_rotate(run: Run, service: Service) -> None:
    service.existing().state = DISABLED_FOR_FAILURES
    Path("whsec").write_text("whsec_c29tZWJvZHkgZWxzZSdz\n")

    result = run("register", "--url", URL, "--secret-file", "whsec")

    assert result.exit_code == 1
    assert "its secret is not in the file" in result.stderr
    assert "--rotate" in result.stderr
    assert result.stderr.count("\n") == 1
    assert service.only().state == DISABLED_FOR_FAILURES


def test_rotate_replaces_a_lost_secret_and_keeps_what_it_can_not_place(run: Run, service: Service) -> None:
    service.existing()
    Path("whsec").write_text("whsec_c29tZWJvZHkgZWxzZSdz\n")

    result = run("register", "--url", URL, "--secret-file", "whsec", "--rotate")

    assert result.exit_code == 0, all_output(result)
    new = service.only().live_secrets()[0]
    assert Path("whsec").read_text().split() == [new, "whsec_c29tZWJvZHkgZWxzZSdz"]


def test_a_file_that_can_not_be_written_is_found_before_the_webhook_is_created(
    run: Run, service: Service
) -> None:
    result = run("register", "--url", URL, "--secret-file", "missing/whsec")

    assert result.exit_code == 1
    assert "missing/whsec" in result.stderr
    assert list(service.webhooks) == []


@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
def test_a_secret_that_can_not_be_written_after_all_is_printed_rather_than_lost(
    as_json: bool,
    run: Run,
    service: Service,
) -> None:
    Path("secrets").mkdir()
    service.before = lambda method: shutil.rmtree("secrets") if method == "POST" else None

    result = run("register", "--url", URL, "--secret-file", "secrets/whsec", *(["--json"] if as_json else []))

    (secret,) = service.only().live_secrets()
    assert result.exit_code == 1
    assert (json.loads(result.stdout)["secret"] if as_json else result.stdout.strip()) == secret
    assert "can't be written" in result.stderr
    assert secret not in result.stderr


def test_a_second_webhook_for_the_url_is_reported(run: Run, service: Service) -> None:
    run("register", "--url", URL, "--secret-file", "whsec")
    double = service.existing()

    result = run("register", "--url", URL, "--secret-file", "whsec")

    assert result.exit_code == 0, all_output(result)
    assert double.id in result.stderr
    assert "Up to date" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--url", "http://example.com/hook"],
        ["--url", "https://example.com"],
        ["--url", "https://example.com/#hook"],
        ["--url", URL, "--event", "batch succeeded"],
    ],
)
def test_wrong_usage_exits_with_two_and_calls_nobody(
    arguments: list[str], run: Run, service: Service
) -> None:
    assert run("register", *arguments).exit_code == 2
    assert service.calls == []


def test_plain_http_is_accepted_on_this_machine(run: Run, service: Service) -> None:
    assert run("register", "--url", "http://127.0.0.1:8080/hook").exit_code == 0
    assert service.only().uri == "http://127.0.0.1:8080/hook"


def test_a_refused_key_is_one_sentence_without_the_key(run: Run, service: Service) -> None:
    result = run("register", "--url", URL, "--secret-file", "whsec", key="AIzaAnotherKeyAnotherKey")

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: Gemini refused the API key (400)")
    assert "AIza" not in all_output(result)
    assert list(service.webhooks) == []
    assert list(Path().iterdir()) == []


def test_a_missing_key_is_one_sentence(run: Run) -> None:
    result = run("register", "--url", URL, key=None)
    assert result.exit_code == 2
    assert "GEMINI_API_KEY is not set" in result.stderr


def test_the_key_may_stand_in_a_dotenv_file(run: Run, service: Service) -> None:
    Path(".env").write_text(f'# local\nexport GEMINI_API_KEY="{KEY}"\n')
    assert run("register", "--url", URL, key=None).exit_code == 0
    assert service.only().uri == URL


def test_it_runs_as_a_module_of_its_own(service: Service, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "receiver.registration", "--url", URL, "--secret-file", "whsec"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": service.url},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    (secret,) = service.only().live_secrets()
    assert (tmp_path / "whsec").read_text() == f"{secret}\n"
    assert secret not in done.stdout + done.stderr


def test_a_rotation_puts_the_new_secret_in_front_of_the_old_one(run: Run, service: Service) -> None:
    run("register", "--url", URL, "--secret-file", "whsec")
    old = service.only().live_secrets()

    result = run("webhooks", "rotate", service.only().id, "--secret-file", "whsec", "--json")

    assert json.loads(result.stdout)["revoked_now"] is False
    assert Path("whsec").read_text().split() == service.only().live_secrets()
    assert Path("whsec").read_text().split()[1:] == old


def test_revoke_now_leaves_the_new_secret_alone_in_the_file(run: Run, service: Service) -> None:
    run("register", "--url", URL, "--secret-file", "whsec")

    result = run("webhooks", "rotate", service.only().id, "--secret-file", "whsec", "--revoke-now")

    assert result.exit_code == 0, all_output(result)
    assert Path("whsec").read_text().split() == service.only().live_secrets()
    assert len(service.only().live_secrets()) == 1


@pytest.mark.parametrize("next_command", ["register", "rotate"])
def test_an_expired_secret_is_cleaned_away_by_the_next_command(
    next_command: str, run: Run, service: Service
) -> None:
    run("register", "--url", URL, "--secret-file", "whsec")
    run("webhooks", "rotate", service.only().id, "--secret-file", "whsec")
    expired = service.only().secrets[1]
    expired.expire_time = datetime.now(UTC) - timedelta(seconds=1)

    if next_command == "register":
        run("register", "--url", URL, "--secret-file", "whsec")
    else:
        run("webhooks", "rotate", service.only().id, "--secret-file", "whsec")

    assert expired.value not in Path("whsec").read_text()
    assert Path("whsec").read_text().split() == service.only().live_secrets()


def test_the_secret_of_another_webhook_in_the_same_file_stays(run: Run, service: Service) -> None:
    run("register", "--url", URL, "--secret-file", "whsec")
    run("register", "--url", f"{URL}/two", "--secret-file", "whsec")

    first, second = service.webhooks
    run("webhooks", "rotate", first.id, "--secret-file", "whsec")

    assert set(Path("whsec").read_text().split()) == {*first.live_secrets(), *second.live_secrets()}


def test_webhooks_are_listed_a_line_each_for_other_programs(run: Run, service: Service) -> None:
    webhook = service.existing()
    webhook.name = "two\nlines \x1b[31m"
    service.existing(f"{URL}/two")

    lines = sorted(run("webhooks", "list").stdout.splitlines(), key=len)

    assert len(lines) == 2
    assert lines[1].split("\t")[:3] == [webhook.id, "enabled", URL]
    assert "\x1b" not in lines[1]


@pytest.mark.usefixtures("service")
def test_where_there_is_no_webhook_it_says_how_to_get_one_and_lists_nothing(run: Run) -> None:
    listed = run("webhooks", "list")

    assert (listed.exit_code, listed.stdout) == (0, "")
    assert "No webhook is registered: `batch-receiver register --url URL` does it." in listed.stderr


def test_webhooks_are_a_table_on_a_terminal(service: Service, tmp_path: Path) -> None:
    service.existing()
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal, os.fdopen(theirs, "wb", buffering=0) as screen:
        subprocess.run(
            [sys.executable, "-m", "receiver.cli", "webhooks", "list"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": service.url},
            stdout=screen,
            check=True,
            timeout=30,
        )
        shown = terminal.read(65536).decode()

    assert "events" in shown
    assert "│" in shown


def test_webhooks_are_listed_as_one_json_document(run: Run, service: Service) -> None:
    webhook = service.existing()
    (listed,) = json.loads(run("webhooks", "list", "--json").stdout)["webhooks"]
    assert (listed["id"], listed["subscribed_events"]) == (webhook.id, list(BATCH_EVENTS))


def test_one_webhook_is_shown_with_the_expiry_of_its_secrets(run: Run, service: Service) -> None:
    webhook = service.existing()
    service.webhooks.rotate(webhook.id, "")

    plain = run("webhooks", "get", f"webhooks/{webhook.id}").stdout
    document = json.loads(run("webhooks", "get", webhook.id, "--json").stdout)

    assert f"url\t{URL}\n" in plain
    assert plain.count("secret\twhsec_") == 2
    assert plain.count(" until 20") == 1
    assert [secret["expire_time"] is None for secret in document["signing_secrets"]] == [True, False]


def test_a_ping_is_asked_for(run: Run, service: Service) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        webhook = service.existing(f"http://127.0.0.1:{closed.getsockname()[1]}/hook")

        result = run("webhooks", "ping", webhook.id, "--json")

        assert json.loads(result.stdout) == {"id": webhook.id, "pinged": True}
        assert [delivery.webhook for delivery in service.world.courier.deliveries] == [webhook.id]


def test_a_running_receiver_takes_pings_through_registration_and_rotation(
    start_process: StartProcess, redis_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "whsec"
    port = str(free_port())
    url = f"http://127.0.0.1:{port}/webhooks/gemini"
    with closing(Gemini(tmp_path / "logs" / "emulator.log")) as gemini:
        registered = command(gemini, "register", "--url", url, "--secret-file", str(file), "--json")
        webhook = registered["webhook"]["id"]
        env = {"REDIS_URL": redis_url, "WEBHOOK_SIGNING_SECRET_FILE": str(file)}
        receiver = start_process("serve", "--port", port, env=env)
        receiver.wait_for_output(r"listening on")

        def ping() -> str:
            command(gemini, "webhooks", "ping", webhook, "--json")
            latest = gemini.deliveries()[-1]["id"]
            return str(gemini.wait_for_deliveries([latest])[0]["state"])

        assert ping() == "delivered", receiver.output
        command(gemini, "webhooks", "rotate", webhook, "--secret-file", str(file), "--revoke-now", "--json")
        assert ping() == "delivered", receiver.output
        assert file.read_text().strip() not in receiver.output


def command(gemini: Gemini, *args: str) -> dict[str, Any]:
    """What a command prints as JSON, with this Gemini."""
    result = CliRunner().invoke(main, args, env=gemini.env)
    assert result.exit_code == 0, all_output(result)
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_webhook_is_deleted_only_after_a_yes(run: Run, service: Service) -> None:
    webhook = service.existing()

    assert run("webhooks", "delete", webhook.id, input="n\n").exit_code == 1
    assert run("webhooks", "delete", webhook.id, input="").exit_code == 1
    assert list(service.webhooks) == [webhook]

    assert run("webhooks", "delete", webhook.id, "--yes", "--json").exit_code == 0
    assert list(service.webhooks) == []


@pytest.mark.parametrize("command", ["get", "ping", "delete --yes", "rotate --secret-file whsec"])
def test_an_unknown_webhook_is_one_sentence(command: str, run: Run) -> None:
    result = run("webhooks", *command.split(), "nosuch")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Gemini knows no such webhook (404)")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("webhook_id", ["../files/x", "a/b", "", "a?b"])
def test_what_is_no_webhook_id_is_wrong_usage(webhook_id: str, run: Run, service: Service) -> None:
    assert run("webhooks", "get", webhook_id).exit_code == 2
    assert service.calls == []


@pytest.mark.parametrize(
    "command",
    ["register", "webhooks", *(f"webhooks {n}" for n in ("list", "get", "ping", "rotate", "delete"))],
)
def test_every_command_explains_itself_with_an_example(command: str, run: Run) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: batch-receiver {command}" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("served", "path", "expected"),
    [
        (None, "/webhooks/gemini", None),
        (None, "/hook", "the receiver's is /webhooks/gemini unless it is told otherwise"),
        (None, "/webhooks/gemini/", "set WEBHOOK_PATH=/webhooks/gemini/"),
        ("/hook", "/hook", None),
        ("/hook", "/hook?a=b", None),
        ("/hook", "/webhooks/gemini", "WEBHOOK_PATH is /hook"),
    ],
)
def test_a_path_that_the_receiver_does_not_serve_is_warned_of(
    run: Run, monkeypatch: pytest.MonkeyPatch, served: str | None, path: str, expected: str | None
) -> None:
    monkeypatch.delenv("WEBHOOK_PATH", raising=False)
    if served:
        monkeypatch.setenv("WEBHOOK_PATH", served)
    result = run("register", "--url", f"https://example.com{path}")
    assert result.exit_code == 0
    assert ("the path of the URL is" in result.stderr) is (expected is not None)
    assert (expected or "") in result.stderr


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("batch.suceeded", "Did you mean batch.succeeded?"),
        ("Batch.Failed", "Did you mean batch.failed?"),
        ("batch.completed", "there are batch.succeeded, batch.failed, batch.expired,"),
        ("batch.cancelled", "Gemini tells nobody"),
        ("video.genrated", "Did you mean video.generated?"),
        ("nonsense", "is no event"),
    ],
)
def test_an_event_that_there_is_not_is_refused_with_those_there_are(
    run: Run, service: Service, event: str, said: str
) -> None:
    result = run("register", "--url", URL, "--event", event)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert service.calls == []


def test_the_local_gemini_takes_no_event_that_there_is_not(gemini: Gemini) -> None:
    body = {"uri": URL, "subscribed_events": ["batch.suceeded"]}
    assert gemini.http.post("/v1beta/webhooks", json=body).status_code == 400
