"""Several projects behind one receiver, as a process: each is told of its own batches, by its own Gemini alone."""

import base64
import json
import signal
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import redis

from tests.conftest import StartProcess
from tests.receiver import signing
from tests.receiver.conftest import Receiver
from tests.receiver.jwks_server import JwksServer
from tests.receiver.signing import AUDIENCE, event, headers, signed, v1a
from tests.support.waiting import wait_until
from workers.contract import Queues

KEYS = {name: name.encode().ljust(24, b"-") for name in ("search", "ads", "news")}


class Served:
    """A receiver of several projects, whose file can be written anew."""

    def __init__(self, start: StartProcess, redis_url: str, folder: Path) -> None:
        self.folder = folder
        self.env = {"REDIS_URL": redis_url, "PROJECTS_FILE": str(folder / "projects.toml")}
        self._start = start

    def write(self, *names: str, more: str = "") -> None:
        for name in names:
            self.secret(name, KEYS[name])
        tables = (f'[projects.{name}]\nsigning_secret_file = "secrets/{name}"\n' for name in names)
        aside = self.folder / "aside"
        aside.write_text("".join(tables) + more)
        aside.replace(self.folder / "projects.toml")

    def secret(self, name: str, key: bytes) -> None:
        (self.folder / "secrets").mkdir(exist_ok=True)
        aside = self.folder / "aside"
        aside.write_text("whsec_" + base64.b64encode(key).decode() + "\n")
        aside.chmod(0o600)
        aside.replace(self.folder / "secrets" / name)

    def start(self, **settings: str) -> Receiver:
        process = self._start("serve", "--port", "0", env={**self.env, **settings})
        found = process.wait_for_output(r"listening on http://127\.0\.0\.1:(\d+)/")
        return Receiver(process, int(found[1]))


@pytest.fixture
def served(start_process: StartProcess, redis_url: str, tmp_path: Path) -> Served:
    return Served(start_process, redis_url, tmp_path)


def deliver(receiver: Receiver, project: str, batch: str = "abc", *, of: str | None = None) -> str:
    """The answer's word to an event at one project's path, signed with the key of another one `of` which it may be."""
    body = event(batch)
    answer = receiver.send("POST", f"/webhooks/{project}", body, signed(body, key=KEYS[of or project]))
    assert answer.word != "accepted" or answer.status == 200
    return str(answer.word)


def queues_of(client: redis.Redis, project: str) -> Queues:
    return Queues(client, f"batch-receiver-project-{project}")


def test_a_signature_is_good_at_its_own_projects_path_alone_and_one_id_is_a_batch_in_each(
    served: Served, redis_client: redis.Redis
) -> None:
    served.write(*KEYS)
    receiver = served.start()

    for path, signer in product(KEYS, KEYS):
        assert deliver(receiver, path, of=signer) == ("accepted" if path == signer else "refused")
    for name in KEYS:
        assert deliver(receiver, name) == "duplicate"
        queues = queues_of(redis_client, name)
        assert queues.announced("abc").count == 2
        assert queues.queue(queues.batches).get_job_ids() == [queues.batch_job_id("abc")]
    assert Queues(redis_client).announced("abc").count == 0
    receiver.process.wait_for_output("event=duplicate batch=abc trigger=webhook .* project=news")
    receiver.process.wait_for_output("event=refused .* project=search")


def test_a_dynamic_webhook_is_its_paths_projects(
    served: Served, redis_client: redis.Redis, jwks_server: JwksServer
) -> None:
    served.write("search", "ads")
    receiver = served.start(WEBHOOK_DYNAMIC="on", WEBHOOK_JWKS_URL=jwks_server.url, WEBHOOK_AUDIENCE=AUDIENCE)
    key = signing.ed25519_key()
    jwks_server.document = json.dumps({"keys": [signing.ed25519_jwk(key)]}).encode()
    body = event("xyz")

    at = time.time()
    answer = receiver.send("POST", "/webhooks/ads", body, headers(v1a(body, key=key, at=at), at=at))

    assert answer.word == "accepted"
    assert queues_of(redis_client, "ads").announced("xyz").count == 1
    assert queues_of(redis_client, "search").announced("xyz").count == 0


def test_other_paths_and_methods_are_refused_as_ever(served: Served) -> None:
    served.write("search")
    receiver = served.start()

    assert receiver.send("POST", "/webhooks/gemini").status == 404
    assert receiver.send("POST", "/webhooks/search/").status == 404
    assert receiver.send("GET", "/webhooks/search").status == 405
    assert receiver.send("GET", "/readyz").status == 200


@pytest.mark.parametrize("tell", [lambda served: served.process.signal(signal.SIGHUP), lambda _: None])
def test_a_changed_file_counts_without_a_restart(
    tell: Callable[[Receiver], None], served: Served, redis_client: redis.Redis
) -> None:
    served.write("search", "ads")
    receiver = served.start()

    served.write("ads", "news")
    tell(receiver)
    receiver.process.wait_for_output("event=projects_read projects=.ads,news.")

    assert deliver(receiver, "news") == "accepted"
    assert deliver(receiver, "ads") == "accepted"
    assert receiver.send("POST", "/webhooks/search").status == 404
    assert queues_of(redis_client, "news").announced("abc").count == 1


def test_a_file_that_became_wrong_is_told_of_once_and_the_one_before_stays(served: Served) -> None:
    served.write("search")
    receiver = served.start()

    served.write("ads", more="nonsense = 1\n")
    receiver.process.wait_for_output(
        "event=projects_broken reason=.*'nonsense' of project ads is no key.* kept=search"
    )
    assert deliver(receiver, "search") == "accepted"
    assert receiver.send("POST", "/webhooks/ads").status == 404

    served.write("ads", more='[projects.news]\nsigning_secret_file = "secrets/late"\n')
    receiver.process.wait_for_output(
        "event=projects_broken reason=.signing_secret_file of project news is wrong"
    )
    served.secret("late", KEYS["news"])
    receiver.process.wait_for_output("event=projects_read projects=.ads,news.")
    assert deliver(receiver, "news") == "accepted"
    assert receiver.process.output.count("event=projects_broken") == 2


def test_a_projects_secret_is_read_again_like_that_of_a_single_one(served: Served) -> None:
    served.write("search", "ads")
    receiver = served.start()

    served.secret("ads", KEYS["news"])

    wait_until(lambda: deliver(receiver, "ads", of="news") != "refused", what="the new secret of ads")
    assert deliver(receiver, "ads") == "refused"
    assert deliver(receiver, "search") == "accepted"


def test_only_paths_and_signing_secrets_are_read(served: Served) -> None:
    served.write(
        "search", more='api_key_file = "none"\nstorage = "s3://nowhere"\nnotify_secret_file = "none"\n'
    )
    try:
        receiver = served.start()
    except AssertionError:  # Notifications may not be built.
        served.write("search", more='api_key_file = "none"\nstorage = "s3://nowhere"\n')
    receiver = served.start()

    assert deliver(receiver, "search") == "accepted"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[projects.ads]", "signing_secret_file of project ads is not set: name the file that"),
        (
            '[projects.ads]\nsigning_secret_file = "none"',
            "signing_secret_file of project ads is wrong: it can't be read (No such file or directory).",
        ),
        (
            '[projects.ads]\nsigning_secret_file = "projects.toml"',
            "signing_secret_file of project ads is wrong: ",
        ),
        (
            '[projects.ads]\nsigning_secret_file = "secrets/search"',
            "Projects search and ads have a signing secret in common: give each the one of its own webhook.",
        ),
        (
            '[projects.ads]\npath = "/webhooks/search"',
            "projects search and ads share the path /webhooks/search",
        ),
    ],
)
def test_what_is_wrong_at_start_ends_it_with_one_sentence(served: Served, more: str, says: str) -> None:
    served.write("search", more=more)

    process = served._start("serve", "--port", "0", env=served.env)

    assert process.wait() == 2
    assert process.output.startswith("Error: ")
    assert process.output.count("\n") == 1
    assert says in process.output
    assert KEYS["search"].decode() not in process.output
