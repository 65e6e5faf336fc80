"""Settings with which a bucket can never be used: whoever depends on it ends at the start, and says what to correct."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.support.deployment import Deployment
from tests.support.processes import Process
from tests.support.relay import Relay, Request, error, relay
from tests.support.s3 import S3
from tests.support.scripted import Answer
from tests.support.waiting import wait_until

HIDDEN = "hidden"
S3_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": HIDDEN, "AWS_REGION": "us-east-1"}
ACCOUNT = {"AZURE_STORAGE_ACCOUNT_NAME": "acc", "AZURE_STORAGE_ACCOUNT_KEY": "aGlkZGVu"}
SERVER = "http://server"
"""Stands for a server of the test's own in a setting."""
WITH_TLS = "https://server"
"""The same, asked as if it had TLS."""

Answers = Callable[[Request], Answer | None]
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Broken:
    """`says`: what must be named. `answers`: what the server at `SERVER` refuses; the rest is SeaweedFS's.

    `reading`: whether one who only reads meets it too.
    """

    url: str
    settings: Mapping[str, str]
    says: str
    answers: Answers | None = field(default=None, repr=False)
    reading: bool = True


def s3(says: str, answers: Answers | None = None, *, reading: bool = True, **settings: str) -> Broken:
    return Broken("s3://bucket/prefix", {**S3_KEYS, **settings}, says, answers, reading)


def served(says: str, answers: Answers, *, reading: bool = True, **settings: str) -> Broken:
    return s3(says, answers, reading=reading, AWS_ENDPOINT_URL=SERVER, **settings)


def refusing(status: int, code: str, which: Callable[[Request], bool] = lambda _: True) -> Answers:
    return lambda request: error(status, code) if which(request) else None


def lists(request: Request) -> bool:
    return "list-type" in request.path


def gets(request: Request) -> bool:
    return request.method in {"GET", "HEAD"} and not lists(request)


def puts(request: Request) -> bool:
    return request.method == "PUT"


def deletes(request: Request) -> bool:
    return request.method in {"POST", "DELETE"}


def account(**changes: object) -> str:
    return json.dumps(
        {
            "type": "service_account",
            "client_email": "someone@example.com",
            "private_key_id": "1",
            "private_key": "-----BEGIN PRIVATE KEY-----\nhidden\n-----END PRIVATE KEY-----\n",
            **changes,
        }
    )


BROKEN = {
    "no location at all": Broken("", {}, "STORAGE_URL"),
    "a scheme of another tool": Broken("s3a://bucket", S3_KEYS, "STORAGE_URL"),
    "no bucket in the location": Broken("s3:///prefix", S3_KEYS, "STORAGE_URL"),
    "an empty segment in the location": Broken("s3://bucket//prefix", S3_KEYS, "STORAGE_URL"),
    "credentials in the location": Broken("s3://key:hidden@bucket", S3_KEYS, "STORAGE_URL"),
    "a folder below a file": Broken("file:///dev/null/results", {}, "STORAGE_URL"),
    "a file in place of a folder": Broken("file:///dev/null", {}, "STORAGE_URL"),
    "a folder on another host": Broken("file://host/results", {}, "STORAGE_URL"),
    "an endpoint without a scheme": s3("AWS_ENDPOINT_URL", AWS_ENDPOINT_URL="minio:9000"),
    "an endpoint with a space": s3("AWS_ENDPOINT_URL", AWS_ENDPOINT_URL="http:// minio:9000"),
    "a port that can't be": s3("AWS_ENDPOINT_URL", AWS_ENDPOINT_URL="http://minio:99999"),
    "an endpoint of another protocol": s3("AWS_ENDPOINT_URL", AWS_ENDPOINT_URL="ftp://minio"),
    "an endpoint with credentials": s3("AWS_ENDPOINT_URL", AWS_ENDPOINT_URL="https://key:hidden@minio"),
    "an endpoint with the bucket in it": s3(
        "AWS_ENDPOINT_URL", AWS_ENDPOINT_URL="https://id.r2.example.com/bucket"
    ),
    "a line end inside the key id": s3("AWS_ACCESS_KEY_ID", AWS_ACCESS_KEY_ID="k\ney"),
    "a space inside the secret": s3("AWS_SECRET_ACCESS_KEY", AWS_SECRET_ACCESS_KEY="hidden hidden"),
    "no secret": s3("AWS_SECRET_ACCESS_KEY", AWS_SECRET_ACCESS_KEY=""),
    "no key id": s3("AWS_ACCESS_KEY_ID", AWS_ACCESS_KEY_ID=""),
    "a token's file that is not there": s3(
        "AWS_WEB_IDENTITY_TOKEN_FILE", AWS_WEB_IDENTITY_TOKEN_FILE="/nowhere"
    ),
    "neither true nor false": s3(
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST", AWS_VIRTUAL_HOSTED_STYLE_REQUEST="maybe"
    ),
    "a key that is not known": served("AWS_ACCESS_KEY_ID", refusing(403, "InvalidAccessKeyId")),
    "a wrong secret": served("AWS_SECRET_ACCESS_KEY", refusing(403, "SignatureDoesNotMatch")),
    "a session that has ended": served(
        "AWS_SESSION_TOKEN", refusing(400, "ExpiredToken"), AWS_SESSION_TOKEN=HIDDEN
    ),
    "another region, 301": served("AWS_REGION", refusing(301, "PermanentRedirect")),
    "another region, 400": served("AWS_REGION", refusing(400, "AuthorizationHeaderMalformed")),
    "no such bucket": served("STORAGE_URL", refusing(404, "NoSuchBucket")),
    "a name that no bucket can have": served("STORAGE_URL", refusing(400, "InvalidBucketName")),
    "a clock that is wrong": served("clock", refusing(403, "RequestTimeTooSkewed")),
    "a request that the server does not understand": served(
        "AWS_ENDPOINT_URL", refusing(400, "InvalidRequest")
    ),
    "the address of a web page": served("AWS_ENDPOINT_URL", lambda _: Answer(200, b"<html></html>")),
    "the address of another server": served("AWS_ENDPOINT_URL", lambda _: Answer(404)),
    "an address that sends elsewhere": served(
        "AWS_ENDPOINT_URL", lambda _: Answer(301, b"", {"Location": "/login"})
    ),
    "a host that does not exist": s3("AWS_ENDPOINT_URL", AWS_ENDPOINT_URL="http://no-such-host.invalid"),
    "a region that does not exist": s3("AWS_REGION", AWS_REGION="us-eest-1"),
    "TLS where there is none": s3("AWS_ENDPOINT_URL", lambda _: None, AWS_ENDPOINT_URL=WITH_TLS),
    "no signature where one is wanted": served(
        "AWS_SKIP_SIGNATURE", refusing(403, "AccessDenied"), AWS_SKIP_SIGNATURE="true"
    ),
    "a profile alone": Broken("s3://bucket", {"AWS_PROFILE": "mine"}, "AWS_PROFILE"),
    "quotes around a value": s3("AWS_ACCESS_KEY_ID", AWS_ACCESS_KEY_ID='"key"'),
    "quotes around the location": Broken('"s3://bucket"', S3_KEYS, "STORAGE_URL"),
    "a location that nobody filled in": Broken("s3://${BUCKET}", S3_KEYS, "STORAGE_URL"),
    "a bucket before an address in figures": s3(
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        AWS_ENDPOINT_URL="http://127.0.0.1:9000",
        AWS_VIRTUAL_HOSTED_STYLE_REQUEST="true",
    ),
    "listing is not allowed": served("s3:ListBucket", refusing(403, "AccessDenied", lists)),
    "reading is not allowed": served("s3:GetObject", refusing(403, "AccessDenied", gets)),
    "writing is not allowed": served("s3:PutObject", refusing(403, "AccessDenied", puts), reading=False),
    "deleting is not allowed": served(
        "s3:DeleteObject", refusing(403, "AccessDenied", deletes), reading=False
    ),
    "no key file": Broken(
        "gs://bucket", {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"}, "GOOGLE_APPLICATION_CREDENTIALS"
    ),
    "a key file that is none": Broken(
        "gs://bucket", {"GOOGLE_APPLICATION_CREDENTIALS": "/dev/null"}, "GOOGLE_APPLICATION_CREDENTIALS"
    ),
    "a key that is no PEM": Broken(
        "gs://bucket", {"GOOGLE_SERVICE_ACCOUNT_KEY": account()}, "GOOGLE_SERVICE_ACCOUNT_KEY"
    ),
    "federated credentials": Broken(
        "gs://bucket",
        {"GOOGLE_SERVICE_ACCOUNT_KEY": account(type="external_account")},
        "GOOGLE_SERVICE_ACCOUNT_KEY",
    ),
    "a token over plain http": Broken(
        "gs://bucket",
        {"GOOGLE_BASE_URL": "http://storage.example.com", "GOOGLE_BEARER_TOKEN": HIDDEN},
        "GOOGLE_BASE_URL",
    ),
    "a token that is refused": Broken(
        "gs://bucket",
        {"GOOGLE_BASE_URL": SERVER, "GOOGLE_BEARER_TOKEN": HIDDEN},
        "GOOGLE_BEARER_TOKEN",
        refusing(401, "AuthenticationRequired"),
    ),
    "no account": Broken(
        "az://container", {"AZURE_STORAGE_ACCOUNT_KEY": "aGlkZGVu"}, "AZURE_STORAGE_ACCOUNT_NAME"
    ),
    "a key that is no base64": Broken(
        "az://container", {**ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": "hidden!"}, "AZURE_STORAGE_ACCOUNT_KEY"
    ),
    "half a connection string": Broken(
        "az://container",
        {"AZURE_STORAGE_CONNECTION_STRING": "AccountKey=aGlkZGVu"},
        "AZURE_STORAGE_CONNECTION_STRING",
    ),
    "a wrong account key": Broken(
        "az://container",
        {**ACCOUNT, "AZURE_STORAGE_ENDPOINT": f"{SERVER}/acc"},
        "AZURE_STORAGE_ACCOUNT_KEY",
        refusing(403, "AuthenticationFailed"),
    ),
    "no such container": Broken(
        "az://container",
        {**ACCOUNT, "AZURE_STORAGE_ENDPOINT": f"{SERVER}/acc"},
        "create the container",
        refusing(404, "ContainerNotFound"),
    ),
}
COMMANDS = {"work": ("work",), "process": ("process", "b1"), "verify": ("verify", "b1")}
STARTS = [
    (command, name)
    for name, broken in BROKEN.items()
    for command in COMMANDS
    if broken.reading or command != "verify"
]


@pytest.fixture
def between(s3: S3) -> Iterator[Relay]:
    with relay(s3.endpoint) as found:
        yield found


def environment(broken: Broken, server: S3, between: Relay) -> dict[str, str]:
    """What is refused by a server is refused with credentials that SeaweedFS knows."""
    if not broken.answers:
        return {"STORAGE_URL": broken.url, **broken.settings}
    between.answer = broken.answers
    settings = {
        name: value.replace(SERVER, between.url).replace(WITH_TLS, between.url.replace("http:", "https:"))
        for name, value in broken.settings.items()
    }
    if not broken.url.startswith("s3:"):
        return {"STORAGE_URL": broken.url, **settings}
    keys = {name: value for name, value in server.env.items() if "KEY" in name}
    return {**settings, **keys, "STORAGE_URL": server.fresh_url()}


@pytest.mark.parametrize(("command", "name"), STARTS)
def test_what_can_never_work_ends_at_the_start_in_one_sentence_that_names_what_to_correct(
    command: str, name: str, deployment: Deployment, s3: S3, between: Relay
) -> None:
    broken = BROKEN[name]

    ended = deployment.run(*COMMANDS[command], **environment(broken, s3, between))

    assert ended.returncode == 2, ended.output
    (line,) = (line for line in ended.output.splitlines() if "event=redis_setup" not in line)
    assert re.fullmatch(rf"Error: .*{broken.says}.*\.", line)
    for word in ("GenericError", "panic", "Traceback", HIDDEN, s3.secret_key):
        assert word not in line


@pytest.mark.parametrize("name", [name for name, broken in BROKEN.items() if broken.reading])
def test_the_console_ends_at_the_start_or_says_on_its_pages_what_to_correct(
    name: str, deployment: Deployment, start_process: Callable[..., Process], s3: S3, between: Relay
) -> None:
    broken = BROKEN[name]
    env = {**deployment.env, **environment(broken, s3, between)}
    process = start_process("console", "--port", "0", env=env)
    wait_until(
        lambda: "listening on" in process.output or process.returncode is not None,
        what="a console, or its end",
    )
    pages = []
    if found := re.search(r"listening on (http://\S+)", process.output):
        with httpx.Client(base_url=found[1], timeout=150, trust_env=False) as http:
            assert http.get("/batches").status_code == 200
            pages = [http.get(f"/batches/b1{page}.json") for page in ("", "/results")]
        assert {page.status_code for page in pages} <= {200, 503}
        said = [sentence_in(page.json()) for page in pages]
    else:
        assert process.wait() == 2
        said = [line for line in process.output.splitlines() if line.startswith("Error: ")]
        assert len(said) == 1

    # An answer to HEAD has no body, so a page that begins with one may not know more than that it is wrong.
    assert re.fullmatch(rf".*{broken.says}.*\.", said[0])
    assert all(re.fullmatch(r"[^\n]+\.", sentence) for sentence in said)
    for told in (process.output, *(page.text for page in pages)):
        for word in ("GenericError", "panic", "Traceback", HIDDEN, s3.secret_key):
            assert word not in told


@pytest.mark.parametrize("name", [*BROKEN][::8])
def test_doctor_says_what_to_correct(name: str, deployment: Deployment, s3: S3, between: Relay) -> None:
    broken = BROKEN[name]

    ended = deployment.run("doctor", **environment(broken, s3, between))

    assert ended.returncode == 1, ended.output
    assert re.search(rf"(?m)^✗ (settings|bucket) .*{broken.says}", ended.output)
    for word in ("GenericError", "panic", "Traceback", HIDDEN, s3.secret_key):
        assert word not in ended.output


def sentence_in(document: Mapping[str, str]) -> str:
    """A page's trouble, or the whole answer where that is one."""
    return document.get("trouble") or document["error"]


def test_there_are_25_and_more_of_them() -> None:
    assert len(BROKEN) >= 25


def test_one_who_may_only_read_verifies_and_writes_nothing(
    deployment: Deployment, s3: S3, between: Relay, tmp_path: Path
) -> None:
    """In a folder that is not there either: nothing is made."""
    between.answer = refusing(403, "AccessDenied", lambda request: puts(request) or deletes(request))
    env = {**s3.env, "AWS_ENDPOINT_URL": between.url}

    checked = deployment.run("verify", "b1", STORAGE_URL=s3.fresh_url(), **env)

    assert checked.returncode == 1
    assert "b1 is not intact" in checked.output
    assert {request.method for request in between.asked} <= {"GET", "HEAD"}

    missing = tmp_path / "missing"
    checked = deployment.run("verify", "b1", STORAGE_URL=missing.as_uri())
    assert checked.returncode == 2
    assert "STORAGE_URL names" in checked.output
    assert not missing.exists()
