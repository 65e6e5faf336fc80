"""Real servers for every kind of store: started on free ports, ended with their block.

Two of them are npm packages, installed on the first use below `.cache/npm` in the versions of `tests/support/npm`.
"""

import base64
import fcntl
import hmac
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import count
from pathlib import Path

import boto3
import httpx
import pytest

from tests.support.gcs import gcs_server
from tests.support.processes import ROOT
from tests.support.s3 import s3_server
from tests.support.waiting import wait_until

_BUCKET = "tests"
_CACHE = ROOT / ".cache" / "npm"
_INSTALL_SECONDS = 100
_ACCOUNT = "account"
_KEY = base64.b64encode(b"the account's key, for tests").decode()


@dataclass(frozen=True)
class Store:
    """A bucket on its own server, and the variables that reach it."""

    url: str
    endpoint: str
    env: Mapping[str, str] = field(repr=False)
    _prefixes: Iterator[int] = field(default_factory=count, repr=False)

    def fresh_url(self) -> str:
        """The URL of a prefix that nobody has used."""
        return f"{self.url}/fresh-{next(self._prefixes)}"


@contextmanager
def seaweedfs(folder: Path) -> Iterator[Store]:
    with s3_server(folder) as server:
        yield Store(server.url, server.endpoint, server.env)


@contextmanager
def gcs(_: Path) -> Iterator[Store]:
    with gcs_server(_BUCKET, "test-token") as server:
        env = {"GOOGLE_BASE_URL": server.url, "GOOGLE_BEARER_TOKEN": "test-token"}
        yield Store(f"gs://{_BUCKET}", server.url, env)


@contextmanager
def azurite(folder: Path) -> Iterator[Store]:
    """Microsoft's emulator. Its telemetry is off: no test speaks to anybody outside this machine."""
    options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--location", str(folder / "azurite")]
    command = [
        npm_program("azurite-blob"),
        *options,
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",
    ]
    env = {"AZURITE_ACCOUNTS": f"{_ACCOUNT}:{_KEY}"}
    with _running(command, folder / "azurite.log", r"successfully listens on (http://\S+)", env) as address:
        endpoint = f"{address}/{_ACCOUNT}"
        _create_container(endpoint)
        connection = f"AccountName={_ACCOUNT};AccountKey={_KEY};BlobEndpoint={endpoint};"
        yield Store(
            f"az://{_BUCKET}",
            endpoint,
            {"AZURE_STORAGE_CONNECTION_STRING": connection},
        )


@contextmanager
def moto(folder: Path) -> Iterator[Store]:
    """It checks no signature, and wants its bucket created first."""
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
    with _running(command, folder / "moto.log", r"Running on (http://\S+)", {}) as endpoint:
        store = Store(f"s3://{_BUCKET}", endpoint, _aws(endpoint, "key", "secret"))
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=_BUCKET)
        client.close()
        yield store


@contextmanager
def s3rver(folder: Path) -> Iterator[Store]:
    """An old server: it ignores conditions, and looks for the source of a copy with its % decoded twice."""
    options = ["-d", str(folder / "s3rver"), "-a", "127.0.0.1", "-p", "0", "--configure-bucket", _BUCKET]
    (folder / "s3rver").mkdir()
    env = {"NODE_OPTIONS": "--openssl-legacy-provider"}
    pattern = r"listening on (127\.0\.0\.1:\d+)"
    with _running([npm_program("s3rver"), *options], folder / "s3rver.log", pattern, env) as address:
        endpoint = f"http://{address}"
        yield Store(f"s3://{_BUCKET}", endpoint, _aws(endpoint, "S3RVER", "S3RVER"))


def _aws(endpoint: str, key: str, secret: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }


STORES: Mapping[str, Callable[[Path], AbstractContextManager[Store]]] = {
    "seaweedfs": seaweedfs,
    "moto": moto,
    "s3rver": s3rver,
    "azurite": azurite,
    "gcs": gcs,
}


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Store]]:
    """`stores("azurite")`: that server, started when it is first asked for."""
    started: dict[str, Store] = {}
    with ExitStack() as stack:

        def store(name: str) -> Store:
            if name not in started:
                started[name] = stack.enter_context(STORES[name](tmp_path_factory.mktemp(name)))
            return started[name]

        yield store


def npm_program(name: str) -> str:
    """The path of a program of `tests/support/npm`; the test is skipped where it can't be had."""
    return str(npm_file(f".bin/{name}"))


def npm_file(name: str) -> Path:
    """The path of a file of `tests/support/npm`; the test is skipped where it can't be had."""
    if not shutil.which("npm"):
        pytest.skip("needs npm")
    program = _CACHE / "node_modules" / name
    _CACHE.mkdir(parents=True, exist_ok=True)
    manifest = ROOT / "tests" / "support" / "npm" / "package.json"
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Other workers of this test run want the same.
        installed = _CACHE / "package.json"
        if not program.exists() or installed.read_bytes() != manifest.read_bytes():
            shutil.copyfile(manifest, installed)
            command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
            ended = subprocess.run(
                command, cwd=_CACHE, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
            )
            if ended.returncode:
                program.unlink(missing_ok=True)
                pytest.skip(f"npm could not install {name}: {ended.stderr.strip()[-200:]}")
    return program


@contextmanager
def _running(command: list[str], log: Path, pattern: str, env: Mapping[str, str]) -> Iterator[str]:
    """A server that says where it listens, in what `pattern` has in parentheses."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env={"PATH": os.environ["PATH"], "HOME": str(log.parent), **env},
        )
    try:
        yield wait_until(lambda: _first(pattern, log, process), seconds=60, what=f"{pattern!r} in {log}")
    finally:
        process.kill()
        process.wait()


def _create_container(endpoint: str) -> None:
    """What no client of objects can: a PUT signed with the account's key."""
    headers = {"x-ms-date": format_datetime(datetime.now(UTC), usegmt=True), "x-ms-version": "2023-11-03"}
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
    lines += [f"/{_ACCOUNT}/{_ACCOUNT}/{_BUCKET}", "restype:container"]
    digest = hmac.digest(base64.b64decode(_KEY), "\n".join(lines).encode(), "sha256")
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"
    url = f"{endpoint}/{_BUCKET}?restype=container"
    httpx.put(url, headers=headers, trust_env=False).raise_for_status()


def _first(pattern: str, log: Path, process: "subprocess.Popen[bytes]") -> str:
    text = log.read_text(errors="replace")
    found = re.search(pattern, text)
    assert found or process.poll() is None, f"ended before it listened: {text[-2000:]}"
    return found[1] if found else ""
