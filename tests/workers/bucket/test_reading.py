"""What the documentation tells readers of a bucket, run as it stands there."""

import json
import pathlib
import re
import shutil
import subprocess
import urllib.parse
from datetime import timedelta
from typing import Any

import boto3
import httpx
import obstore
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.support.processes import ROOT
from tests.support.s3 import S3
from workers.bucket.access import UNREAD, VARIABLES
from workers.bucket.opening import open_bucket

READING = (ROOT / "docs/bucket.md").read_text().partition("## Reading")[2]
STORES = (ROOT / "docs/stores.md").read_text()
ODD = ["a%2Fb", "100%25", "%D0%BA", "@7", "a~b", "key@2"]


def snippets(language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", READING, re.DOTALL))


@pytest.fixture
def documented() -> dict[str, Any]:
    """The functions that the documentation defines."""
    names: dict[str, Any] = {}
    exec(compile(snippets("python"), "docs/bucket.md", "exec"), names)
    return names


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two batches with tables, of which one is committed; and what stands beside them."""
    for batch, rows in (("b1", 3), ("b2", 2)):
        for part in range(2):
            file = tmp_path / batch / "dataset" / f"part-{part:05d}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(pa.table({"key": list(range(rows))}), file)
        (tmp_path / batch / "manifest.jsonl").write_text("{}\n")
    for name in ("b1/batch.json", "_index/2026-01-01/b1.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}\n")
    return tmp_path


def test_pyarrow_reads_all_tables_of_a_folder(documented: dict[str, Any], folder: pathlib.Path) -> None:
    assert documented["all_tables"](str(folder)).count_rows() == 10


def test_pyarrow_reads_the_tables_of_committed_batches(
    documented: dict[str, Any], folder: pathlib.Path
) -> None:
    assert documented["committed_tables"](str(folder)).count_rows() == 6


def test_boto3_reads_an_object_by_the_name_in_the_manifest(documented: dict[str, Any], s3: S3) -> None:
    url = s3.fresh_url()
    prefix = url.removeprefix(f"{s3.url}/")
    bucket = open_bucket(url, s3.env)
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        region_name="us-east-1",
    )
    for name in ODD:
        bucket.put(f"b1/outputs/{name}.json", name.encode(), "application/json")
        entry = {"object": f"outputs/{name}.json"}
        assert documented["by_key"](client, s3.bucket, prefix, "b1", entry) == name.encode()
    client.close()


def test_a_url_made_by_hand_finds_the_object(documented: dict[str, Any], s3: S3) -> None:
    url = s3.fresh_url()
    prefix = url.removeprefix(f"{s3.url}/")
    bucket = open_bucket(url, s3.env)
    for name in ODD:
        bucket.put(f"b1/outputs/{name}.json", name.encode(), "application/json")
        made = documented["url_of"](s3.endpoint, s3.bucket, prefix, "b1", {"object": f"outputs/{name}.json"})
        signed = obstore.sign(s3.raw_store(), "GET", f"{prefix}/b1/outputs/{name}.json", timedelta(minutes=1))
        address, _, query = signed.partition("?")
        assert urllib.parse.unquote(address) == urllib.parse.unquote(made)
        assert httpx.get(f"{made}?{query}", trust_env=False).content == name.encode()


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_a_url_made_in_javascript_is_the_same(documented: dict[str, Any]) -> None:
    entries = [{"object": f"outputs/{name}.json"} for name in ODD]
    call = (
        f"console.log(JSON.stringify({json.dumps(entries)}.map(e => urlOf('http://h', 'b', 'p/q', 'b1', e))))"
    )
    ended = subprocess.run(["node", "-e", snippets("js") + call], capture_output=True, text=True, check=True)
    expected = [documented["url_of"]("http://h", "b", "p/q", "b1", entry) for entry in entries]
    made = json.loads(ended.stdout)
    assert list(map(urllib.parse.unquote, made)) == list(map(urllib.parse.unquote, expected))
    assert all("%25" in address for address in made if "%" in urllib.parse.unquote(address))


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_every_variable_of_a_cloud_is_documented_and_no_other(scheme: str) -> None:
    section = STORES.partition(f"### `{scheme}://`")[2].partition("\n#")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = re.findall(r"`([A-Z0-9_]+)`", " ".join(rows))
    assert set(documented) == set(VARIABLES[scheme])
    assert all(f"`{name}`" in section for name in UNREAD[scheme])
    # "The last one in its row counts", as in the code.
    for row in rows:
        names = re.findall(r"`([A-Z0-9_]+)`", row)
        places = [list(VARIABLES[scheme]).index(name) for name in names]
        keys = [VARIABLES[scheme][name][0] for name in names]
        if len(set(keys)) == 1:
            assert places == sorted(places), row
