"""What people would use instead, for a folder. Each is run as a process of its own and prints what it took.

`python -m bench.rivals NAME SOURCE FOLDER [PROCESSES THREADS]`. Starting Python and importing do not count, and
nobody but the product has to make durable what it wrote.
"""

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import orjson
from google import genai

from bench.data import read_pack

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

_COPY = """
COPY (
    SELECT key, row_number() OVER () - 1 AS index, 'succeeded' AS status,
        response->>'$.candidates[0].content.parts[0].text' AS text,
        response->>'$.candidates[0].finishReason' AS finish_reason,
        response->>'$.promptFeedback.blockReason' AS block_reason,
        CAST(response->'$.usageMetadata.promptTokenCount' AS BIGINT) AS prompt_tokens,
        CAST(response->'$.usageMetadata.cachedContentTokenCount' AS BIGINT) AS cached_tokens,
        CAST(response->'$.usageMetadata.toolUsePromptTokenCount' AS BIGINT) AS tool_use_tokens,
        CAST(response->'$.usageMetadata.candidatesTokenCount' AS BIGINT) AS output_tokens,
        CAST(response->'$.usageMetadata.thoughtsTokenCount' AS BIGINT) AS thoughts_tokens,
        CAST(response->'$.usageMetadata.totalTokenCount' AS BIGINT) AS total_tokens,
        CAST(response AS VARCHAR) AS response
    FROM read_ndjson('{source}', columns={{key: 'VARCHAR', response: 'JSON'}})
) TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)
"""

Documents = list[tuple[str, bytes]]


def documentation_loop(file: str, folder: Path) -> None:
    """The Batch page's own loop, each response into a file of its own."""
    client = genai.Client()
    content = client.files.download(file=file).decode("utf-8")
    for line in content.splitlines():
        if line:
            parsed = json.loads(line)
            if parsed.get("response"):
                with (folder / f"{parsed['key']}.json").open("w") as output:
                    json.dump(parsed["response"], output)


def streaming_loop(file: str, folder: Path) -> None:
    """What somebody writes who knows that files are large and orjson is fast."""
    url = f"{os.environ['GOOGLE_GEMINI_BASE_URL']}/v1beta/{file}:download?alt=media"
    headers = {"x-goog-api-key": os.environ["GEMINI_API_KEY"], "Accept-Encoding": "identity"}
    with httpx.stream("GET", url, headers=headers, timeout=60, trust_env=False) as answer:
        answer.raise_for_status()
        for line in _lines(answer.iter_bytes()):
            parsed = orjson.loads(line)
            if "response" in parsed:
                # open() of a string, and without a buffer: faster than a Path's.
                with open(f"{folder}/{parsed['key']}.json", "wb", buffering=0) as output:  # noqa: PTH123
                    output.write(orjson.dumps(parsed["response"]))


def duckdb_copy(file: str, folder: Path) -> None:
    """One statement over the downloaded file, into the columns of ours that the file alone can fill."""
    duckdb = importlib.import_module("duckdb")  # not among our dependencies
    source = folder / "source.jsonl"
    url = f"{os.environ['GOOGLE_GEMINI_BASE_URL']}/v1beta/{file}:download?alt=media"
    headers = {"x-goog-api-key": os.environ["GEMINI_API_KEY"], "Accept-Encoding": "identity"}
    with (
        httpx.stream("GET", url, headers=headers, timeout=60, trust_env=False) as answer,
        source.open("wb") as output,
    ):
        answer.raise_for_status()
        output.writelines(answer.iter_bytes())
    duckdb.connect().execute(_COPY.format(source=source, target=folder / "results.parquet"))


def bare_writes(documents: Documents, folder: Path, threads: int) -> None:
    """Documents that are in memory already, created, written and closed."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def write(share: Documents) -> None:
        for name, data in share:
            file = os.open(name, _CREATE, 0o666, dir_fd=directory)
            os.write(file, data)
            os.close(file)

    in_threads(write, documents, threads)


def in_threads(write: Callable[[Documents], None], documents: Documents, threads: int) -> None:
    """Each thread writes a share; the first error ends the process."""
    failed = threading.Event()

    def run(share: Documents) -> None:
        try:
            write(share)
        except BaseException:
            failed.set()
            raise

    running = [threading.Thread(target=run, args=(documents[n::threads],)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failed.is_set():
        raise SystemExit(1)


def in_processes(write: Callable[[Documents], None], documents: Documents, processes: int) -> None:
    """The same by forked processes."""
    if processes == 1:
        write(documents)
        return
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            try:
                write(documents[number::processes])
            except BaseException:  # noqa: BLE001 - the child must not go on as the parent would
                os._exit(1)
            os._exit(0)
        children.append(child)
    if any(os.waitpid(child, 0)[1] for child in children):
        raise SystemExit(1)


def _lines(chunks: Iterable[bytes]) -> Iterable[bytes]:
    rest = b""
    for chunk in chunks:
        pieces = (rest + chunk).split(b"\n")
        rest = pieces.pop()
        yield from pieces
    if rest:
        yield rest


def main(name: str, source: str, folder: str, processes: str = "1", threads: str = "1") -> None:
    if name == "bare_writes":
        documents = read_pack(Path(source))
        began = time.perf_counter()
        in_processes(lambda share: bare_writes(share, Path(folder), int(threads)), documents, int(processes))
    else:
        loop = {each.__name__: each for each in (documentation_loop, streaming_loop, duckdb_copy)}[name]
        began = time.perf_counter()
        loop(source, Path(folder))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
