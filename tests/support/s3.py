"""A real S3 server for tests: SeaweedFS, small, on free ports, with credentials that are checked."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
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


class Weed:
    """The server's process, which may be killed and started again with its ports and what it has stored."""

    def __init__(self, folder: Path, s3: S3) -> None:
        """`folder`: for its files, an existing one. Raises `RuntimeError` where it does not start."""
        self.s3 = s3
        self._folder = folder
        self.log = folder / "weed.log"
        self._command = _command(folder, s3)
        self.start()

    def start(self) -> None:
        """Returns once it stores what it is given."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
            )
        try:
            _wait(self._process, self.s3, self.log)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Its orderly end takes 15 s, and nobody needs that."""
        self._process.kill()
        self._process.wait()


@contextmanager
def s3_server(folder: Path, host: str = "127.0.0.1") -> Iterator[S3]:
    """A server with its files below `folder`; it ends with the block."""
    with weed_server(folder, host) as weed:
        yield weed.s3


@contextmanager
def weed_server(folder: Path, host: str = "127.0.0.1") -> Iterator[Weed]:
    """The same, for those who kill it."""
    weed = _started(folder, host)
    try:
        yield weed
    finally:
        weed.kill()


def _started(folder: Path, host: str) -> Weed:
    """Tried anew with other ports: a free one may be taken, by weed's own connections too, before weed listens."""
    for attempt in range(_ATTEMPTS):
        files = folder / f"weed-{attempt}"
        files.mkdir()
        try:
            return Weed(files, S3(endpoint=f"http://{host}:{free_port()}"))
        except RuntimeError:
            if attempt + 1 == _ATTEMPTS:
                raise
    raise AssertionError


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def _command(folder: Path, server: S3) -> list[str]:
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
    host, _, port = server.endpoint.removeprefix("http://").rpartition(":")
    options = {
        "dir": folder,
        "ip": host,
        "ip.bind": host,
        **ports,
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 1024,
        "volume.max": 20,
        "filer": "true",
        "filer.localSocket": folder / "filer.sock",
        "s3": "true",
        "s3.port": port,
        "s3.config": config,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.iam": "false",
        "s3.localSocket": folder / "s3.sock",
    }
    weed = str(Path(sys.executable).with_name("weed"))
    return [weed, "-logtostderr", "server", *(f"-{name}={value}" for name, value in options.items())]


def _wait(process: subprocess.Popen[bytes], server: S3, log: Path) -> None:
    """Wait until the first object is stored, which creates the bucket. By boto3: whoever starts it may want to fork."""
    once = Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=10)
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=once,
    )
    deadline = time.monotonic() + _START_SECONDS
    with closing(client):
        while True:
            try:
                client.put_object(Bucket=server.bucket, Key="started", Body=b"yes")
            except (BotoCoreError, ClientError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the S3 server did not start: {log.read_text()[-2000:]}") from error
                time.sleep(0.05)
            else:
                client.delete_object(Bucket=server.bucket, Key="started")
                return
