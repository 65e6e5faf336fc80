"""The Files API, called by the official SDK."""

import io
from pathlib import Path

import pytest
from google import genai
from google.genai import errors, types

from tests.support.gemini import Gemini

_LINES = b'{"key": "a", "response": {}}\n{"key": "b", "response": {}}\n'


def test_a_file_is_uploaded_and_described(client: genai.Client, tmp_path: Path) -> None:
    source = tmp_path / "my-batch-requests.jsonl"
    source.write_bytes(_LINES)
    config = types.UploadFileConfig(display_name="my-batch-requests", mime_type="jsonl")
    uploaded = client.files.upload(file=str(source), config=config)
    assert uploaded.name
    found = client.files.get(name=uploaded.name)
    assert found == uploaded
    assert (found.display_name, found.mime_type, found.size_bytes) == (
        "my-batch-requests",
        "jsonl",
        len(_LINES),
    )
    assert (found.state, found.source) == (types.FileState.ACTIVE, types.FileSource.UPLOADED)


def test_a_file_of_several_chunks_arrives_whole(client: genai.Client) -> None:
    size = 20 * 1024 * 1024
    uploaded = client.files.upload(
        file=io.BytesIO(b"x" * size), config={"mime_type": "jsonl", "name": "big-one"}
    )
    assert (uploaded.name, uploaded.size_bytes) == ("files/big-one", size)


def test_an_empty_file_can_be_uploaded(client: genai.Client) -> None:
    assert client.files.upload(file=io.BytesIO(), config={"mime_type": "jsonl"}).size_bytes in {0, None}


def test_files_are_listed_newest_first_over_pages(client: genai.Client) -> None:
    names = [client.files.upload(file=io.BytesIO(b"x"), config={"mime_type": "jsonl"}).name for _ in range(3)]
    assert [each.name for each in client.files.list(config={"page_size": 2})] == names[::-1]


def test_a_deleted_file_is_gone(client: genai.Client) -> None:
    name = str(client.files.upload(file=io.BytesIO(b"x"), config={"mime_type": "jsonl"}).name)
    client.files.delete(name=name)
    with pytest.raises(errors.ClientError) as caught:
        client.files.get(name=name)
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


def test_an_uploaded_file_can_not_be_downloaded(client: genai.Client) -> None:
    name = str(client.files.upload(file=io.BytesIO(b"x"), config={"mime_type": "jsonl"}).name)
    with pytest.raises(errors.ClientError, match="only generated files"):
        client.files.download(file=name)


def test_an_output_file_is_downloaded_byte_for_byte(client: genai.Client, gemini: Gemini) -> None:
    batch = client.batches.get(name=f"batches/{gemini.put_batch(_LINES)}")
    assert batch.dest
    assert batch.dest.file_name
    assert client.files.download(file=batch.dest.file_name) == _LINES


def test_the_metadata_of_an_output_file_is_refused_because_its_id_is_too_long(
    client: genai.Client, gemini: Gemini
) -> None:
    name = f"files/batch-{gemini.put_batch(_LINES)}"
    for call in (client.files.get, client.files.delete):
        with pytest.raises(errors.ClientError) as caught:
            call(name=name)
        assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")


def test_a_key_that_is_not_the_one_is_refused(gemini: Gemini) -> None:
    options = types.HttpOptions(base_url=gemini.url)
    with (
        genai.Client(api_key="other", http_options=options) as stranger,
        pytest.raises(errors.ClientError, match="API key not valid"),
    ):
        stranger.files.list()
