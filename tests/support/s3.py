"""A real S3 server for tests: SeaweedFS, small, on free ports, with credentials that are checked."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from emulator.demo.local_redis import free_port

_BUCKET = "tests"
_START_SECONDS = 60.0
_ATTEMPTS = 3


@dataclass
class S3:
    """A bucket of its own server, and what reaches it."""

    endpoint: str
    access_key: str = "test-access-key"
    secret_key: str = field(default="test-secret-key", repr=False)
    bucket: str = _BUCKET
    _prefixes: Iterator[int] = field(default_factory=count, repr=False)

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def env(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def fresh_url(self) -> str:
        """The URL of a prefix that nobody has used."""
        return f"{self.url}/fresh-{next(self._prefixes)}"

    def raw_store(self, prefix: str | None = None) -> S3Store:
        """Obstore's own view of the bucket, without any of our code, that fails at once."""
        return S3Store(
            self.bucket,
            prefix=prefix,
            endpoint=self.endpoint,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            region="us-east-1",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """A server with its files below `folder`; it ends with the block."""
    server, process = _started(folder)
    try:
        yield server
    finally:
        _end(process)


def _started(folder: Path) -> tuple[S3, subprocess.Popen[bytes]]:
    """Tried anew with other ports: a free one may be taken, by weed's own connections too, before weed listens."""
    for attempt in range(_ATTEMPTS):
        files = folder / f"weed-{attempt}"
        files.mkdir()
        server = S3(endpoint=f"http://127.0.0.1:{free_port()}")
        process = _start(files, server)
        try:
            _wait(process, server, files / "weed.log")
        except RuntimeError:
            _end(process)
            if attempt + 1 == _ATTEMPTS:
                raise
        except BaseException:
            _end(process)
            raise
        else:
            return server, process
    raise AssertionError


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its orderly end takes 15 s, and nobody needs the data."""
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def _start(folder: Path, server: S3) -> subprocess.Popen[bytes]:
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": server.access_key, "secretKey": server.secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = folder / "identities.json"
    config.write_text(json.dumps({"identities": [identity]}))
    # Each .grpc port is chosen too: by default it is the other one plus 10,000, which may be taken.
    ports = {
        name: free_port()
        for name in ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port")
    }
    ports |= {"filer.port.grpc": free_port(), "s3.port.grpc": free_port()}
    options = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        **ports,
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 1024,
        "volume.max": 20,
        "filer": "true",
        "filer.localSocket": folder / "filer.sock",
        "s3": "true",
        "s3.port": server.endpoint.rpartition(":")[2],
        "s3.config": config,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.iam": "false",
        "s3.localSocket": folder / "s3.sock",
    }
    weed = Path(sys.executable).with_name("weed")
    with (folder / "weed.log").open("wb") as log:
        return subprocess.Popen(
            [weed, "-logtostderr", "server", *(f"-{name}={value}" for name, value in options.items())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        )


def _wait(process: subprocess.Popen[bytes], server: S3, log: Path) -> None:
    """Wait until the first object is stored, which creates the bucket."""
    store = server.raw_store()
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            obstore.put(store, "started", b"yes")
        except BaseError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the S3 server did not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.05)
        else:
            obstore.delete(store, "started")
            return
