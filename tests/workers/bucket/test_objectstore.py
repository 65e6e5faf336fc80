"""What is particular to object stores: credentials, lost connections, multipart uploads, forks."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import boto3
import pytest

from emulator.demo.local_redis import free_port
from tests.support.processes import ROOT
from tests.support.s3 import S3
from workers.bucket import objectstore
from workers.bucket.objectstore import ObjectStore
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket, BucketRefused
from workers.errors import BucketUnavailable, SettingsError

KIND = "application/json"
USES: list[Callable[[Bucket], object]] = [
    lambda bucket: bucket.get("b1/batch.json"),
    lambda bucket: bucket.size("b1/batch.json"),
    lambda bucket: next(bucket.read("b1/batch.json")),
    lambda bucket: bucket.put("b1/batch.json", b"{}", KIND),
    lambda bucket: list(bucket.list("b1")),
    lambda bucket: bucket.delete(["b1/batch.json", "b1/manifest.jsonl"]),
    lambda bucket: bucket.copy("b1/batch.json", "b1/other.json", KIND),
    lambda bucket: write_pieces(bucket, 1),
    lambda bucket: write_outputs(bucket, 100),
]


def write_pieces(bucket: Bucket, megabytes: int) -> None:
    with bucket.writer("b1/manifest.jsonl", KIND) as writer:
        for number in range(megabytes):
            writer.write(bytes([number]) * (1 << 20))


def write_outputs(bucket: Bucket, count: int) -> None:
    with bucket.outputs("b1") as sink:
        for number in range(count):
            sink.put(f"outputs/{number}.json", b"{}", KIND)


@pytest.fixture
def url(s3: S3) -> str:
    return s3.fresh_url()


@pytest.fixture
def bucket(s3: S3, url: str) -> ObjectStore:
    return ObjectStore(url, s3.env)


@pytest.fixture
def other_client(s3: S3) -> Iterator["boto3.client"]:
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        region_name="us-east-1",
    )
    yield client
    client.close()


def one_sentence_without(error: BaseException, *secrets: str) -> bool:
    text = str(error)
    return "\n" not in text and "http" not in text and not any(secret in text for secret in secrets)


def test_another_client_sees_the_very_keys_and_their_content_types(
    bucket: ObjectStore, url: str, s3: S3, other_client: "boto3.client"
) -> None:
    prefix = url.removeprefix(f"{s3.url}/")
    bucket.put("b1/batch.json", b"{}", KIND)
    with bucket.outputs("b1") as sink:
        sink.put("outputs/a%2Fb@2~%25.json", b"{}", KIND)
        sink.put("media/%2E/0.png", b"png", "image/png")
    write_pieces(bucket, 20)
    found = other_client.list_objects_v2(Bucket=s3.bucket, Prefix=prefix + "/")["Contents"]
    keys = [item["Key"].removeprefix(prefix + "/") for item in found]
    kinds = {
        key: other_client.head_object(Bucket=s3.bucket, Key=f"{prefix}/{key}")["ContentType"] for key in keys
    }
    assert kinds == {
        "b1/batch.json": KIND,
        "b1/manifest.jsonl": KIND,
        "b1/media/%2E/0.png": "image/png",
        "b1/outputs/a%2Fb@2~%25.json": KIND,
    }


def test_a_writer_uses_multipart_only_beyond_one_part(
    bucket: ObjectStore, url: str, s3: S3, other_client: "boto3.client"
) -> None:
    key = url.removeprefix(f"{s3.url}/") + "/b1/manifest.jsonl"
    for megabytes, parts in ((8, ""), (20, "3")):
        write_pieces(bucket, megabytes)
        tag = other_client.head_object(Bucket=s3.bucket, Key=key)["ETag"]
        # The ETag of a multipart object ends with the number of its parts.
        assert tag.strip('"').partition("-")[2] == parts


def test_a_copy_has_its_content_type_and_what_is_too_large_for_one_request_passes_here(
    bucket: ObjectStore, url: str, s3: S3, other_client: "boto3.client", monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("_work/b1/a", b"0123456789", "application/jsonl")
    bucket.copy("_work/b1/a", "b1/copied", "application/jsonl")
    monkeypatch.setattr(objectstore, "_COPY_BYTES", 9)
    bucket.copy("_work/b1/a", "b1/passed", "application/jsonl")

    for name in ("b1/copied", "b1/passed"):
        key = f"{url.removeprefix(f'{s3.url}/')}/{name}"
        found = other_client.get_object(Bucket=s3.bucket, Key=key)
        assert (found["Body"].read(), found["ContentType"]) == (b"0123456789", "application/jsonl")


def test_a_writer_whose_block_fails_leaves_no_unfinished_upload(
    bucket: ObjectStore, s3: S3, other_client: "boto3.client"
) -> None:
    def write() -> None:
        with bucket.writer("b1/manifest.jsonl", KIND) as writer:
            writer.write(bytes(30 << 20))
            raise LookupError

    with pytest.raises(LookupError):
        write()
    assert "Uploads" not in other_client.list_multipart_uploads(Bucket=s3.bucket)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_final_and_said_without_them(
    s3: S3, url: str, wrong: str, use: Callable[[Bucket], object]
) -> None:
    bucket = open_bucket(url, {**s3.env, wrong: "not-the-right-one"})
    with pytest.raises(BucketRefused, match="refused our credentials") as caught:
        use(bucket)
    assert one_sentence_without(caught.value, "not-the-right-one", s3.access_key, s3.secret_key)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("use", USES)
def test_a_server_that_is_away_may_come_back_and_is_waited_for_a_few_seconds(
    s3: S3, url: str, use: Callable[[Bucket], object]
) -> None:
    bucket = open_bucket(url, {**s3.env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"})
    start = time.monotonic()
    with pytest.raises(BucketUnavailable, match="no connection") as caught:
        use(bucket)
    assert time.monotonic() - start < 15
    assert one_sentence_without(caught.value, s3.access_key, s3.secret_key)


def test_a_bucket_that_does_not_exist_is_not_taken_for_a_missing_object(s3: S3) -> None:
    bucket = open_bucket("s3://no-such-bucket", s3.env)
    with pytest.raises(BucketRefused, match="create the bucket"):
        bucket.get("b1/batch.json")
    with pytest.raises(BucketRefused, match="create the bucket"):
        list(bucket.list(""))


@pytest.mark.parametrize("env", [{"AWS_ACCESS_KEY_ID": "only-half"}, {"AWS_SECRET_ACCESS_KEY": "only-half"}])
def test_half_of_the_credentials_stops_the_process_at_start(env: Mapping[str, str]) -> None:
    with pytest.raises(SettingsError, match="incomplete") as caught:
        open_bucket("s3://bucket", env)
    assert one_sentence_without(caught.value, "only-half")


def test_an_object_replaced_while_it_is_read_is_noticed(bucket: ObjectStore) -> None:
    bucket.put("b1/raw/part-00000.jsonl", bytes(9 << 20), KIND)
    pieces = bucket.read("b1/raw/part-00000.jsonl")
    next(pieces)
    bucket.put("b1/raw/part-00000.jsonl", b"x" * (10 << 20), KIND)
    with pytest.raises(BucketUnavailable):
        list(pieces)


def test_a_refused_output_ends_the_block_before_all_are_tried(s3: S3, url: str) -> None:
    bucket = open_bucket(url, {**s3.env, "AWS_SECRET_ACCESS_KEY": "wrong"}, concurrency=2)
    tried = 0

    def write() -> None:
        nonlocal tried
        with bucket.outputs("b1") as sink:
            for number in range(10_000):
                tried = number
                sink.put(f"outputs/{number}.json", b"{}", KIND)

    with pytest.raises(BucketRefused):
        write()
    assert tried < 1_000


def test_forked_children_use_what_their_parent_opened(s3: S3, url: str) -> None:
    # In a process of its own: obstore's runtime, once used, does not survive a fork, and here it has been.
    script = """
import os, sys
from workers.bucket.opening import open_bucket
bucket = open_bucket(sys.argv[1], os.environ)
children = []
for number in range(4):
    child = os.fork()
    if not child:
        bucket.put(f"child/{number}", b"1", "")
        os._exit(0)
    children.append(child)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **s3.env}
    with subprocess.Popen([sys.executable, "-c", script, url], env=env, start_new_session=True) as parent:
        try:
            assert parent.wait(20) == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
    assert len(list(open_bucket(url, s3.env).list("child"))) == 4


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")
def test_connections_are_kept_and_used_again(s3: S3, url: str) -> None:
    port = int(s3.endpoint.rpartition(":")[2])

    def connections() -> set[str]:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return {line[1] for line in lines if line[2].endswith(f":{port:04X}") and line[3] == "01"}

    others = connections()
    bucket = open_bucket(url, s3.env, concurrency=4)
    write_outputs(bucket, 100)
    first = connections() - others
    write_outputs(bucket, 100)
    second = connections() - others
    assert first & second
    # A thread may dial while another gives its connection back; both stay in the pool, up to its size.
    assert len(first | second) <= 4 + 4
