"""Every kind of store on a real server: what it keeps, what it lacks, what is said of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.protocol import failures
from tests.support.stores import STORES
from workers.bucket.opening import open_bucket
from workers.bucket.probe import probe
from workers.bucket.protocol import BucketRefused

# What each lacks. Whether a race goes wrong on a server that ignores conditions is a matter of luck.
REMARKS = {"s3rver": ["conditions"]}
LUCK = {"s3rver": {"creates once among many at once", "replaces once among many at once"}}


@pytest.mark.parametrize("name", STORES)
def test_a_store_keeps_the_protocol_and_says_what_it_lacks(name: str, tmp_path: Path) -> None:
    with STORES[name](tmp_path) as store:
        remarks = probe(open_bucket(store.fresh_url(), store.env))
        assert len(remarks) == len(REMARKS.get(name, []))
        for remark, words in zip(remarks, REMARKS.get(name, []), strict=True):
            assert words in remark

        bucket = open_bucket(store.fresh_url(), store.env)
        assert not {check: why for check, why in failures(bucket, LUCK.get(name, ())) if why}

        if name != "seaweedfs":  # It creates a bucket that is missing.
            missing = open_bucket(f"{store.url}-missing/prefix", store.env)
            kind = "container" if name == "azurite" else "bucket"
            for use in (lambda: missing.get("x"), lambda: missing.put("x", b"", ""), lambda: probe(missing)):
                with pytest.raises(BucketRefused, match=rf"does not exist: create the {kind}"):
                    use()


def test_a_folder_keeps_the_protocol(tmp_path: Path) -> None:
    bucket = open_bucket(tmp_path.as_uri(), {})
    assert probe(bucket) == ()
    assert not {check: why for check, why in failures(bucket) if why}


@pytest.mark.parametrize("url", ["file:///dev/null/nowhere", "s3://bucket"])
def test_trying_a_bucket_by_hand_says_in_a_sentence_why_it_can_t_be_used(url: str) -> None:
    env = {"PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": "nowhere"}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.try_bucket", url],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout.startswith("FAILED ")
    assert ended.stderr == ""


def test_trying_a_bucket_by_hand_shows_every_check_and_leaves_nothing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.try_bucket", tmp_path.as_uri()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {line.split()[0] for line in ended.stdout.splitlines()} == {"ok"}
    assert list(open_bucket(tmp_path.as_uri(), {}).list("")) == []
