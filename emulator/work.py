"""The work on a batch: an answer for each of its requests, inline or line by line from file to file."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from emulator import answers, chat
from emulator.caches import Caches
from emulator.errors import ApiError, bad_request
from emulator.files import Spool, StoredFile
from emulator.operations import Batch, counted

RPC_INVALID_ARGUMENT = 3


def _answer(batch: Batch, request: Any, caches: Caches) -> dict[str, Any]:
    if not isinstance(request, dict):
        raise bad_request("A request must be an object.")
    try:
        cached = caches.tokens(request)
    except ApiError as error:
        return {"error": {"code": error.code, "message": error.message, "status": error.status}}
    try:
        if batch.embeddings:
            return answers.embed(batch.model, request)
        return answers.generate(batch.model, request, cached=cached)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise bad_request(f"A request can't be understood: {error}.") from error


def answer_inline(batch: Batch, requests: list[Any], caches: Caches) -> tuple[dict[str, Any], dict[str, str]]:
    """The output, in the order of the requests, and the counts."""
    results = []
    for each in requests:
        result = _answer(batch, each.get("request"), caches)
        if "metadata" in each:
            result["metadata"] = each["metadata"]
        if "error" in result:
            result["error"] = {"code": RPC_INVALID_ARGUMENT, "message": result["error"]["message"]}
        results.append(result)
    name = "inlinedEmbedContentResponses" if batch.embeddings else "inlinedResponses"
    succeeded = sum("response" in result for result in results)
    return {name: {"inlinedResponses": results}}, counted(len(results), succeeded)


def answer_file(batch: Batch, source: StoredFile, spool: Spool, caches: Caches) -> dict[str, str]:
    """Write a result for each line of the input, in an order of their own; the counts.

    Raises:
        ApiError: a line is no JSON object.
    """
    total = succeeded = 0
    with source.path.open("rb") as lines:
        for offset in _shuffled(lines):
            lines.seek(offset)
            result = _answer_line(batch, lines.readline(), caches)
            spool.write(json.dumps(result, ensure_ascii=False).encode(errors="surrogatepass") + b"\n")
            total += 1
            succeeded += "response" in result and result["response"].get("status_code", 200) < 400
    return counted(total, succeeded)


def count_lines(source: StoredFile) -> int:
    """That are not blank."""
    with source.path.open("rb") as lines:
        return sum(bool(line.strip()) for line in lines)


def _shuffled(lines: Iterable[bytes]) -> list[int]:
    """Where the lines that are not blank start, ordered by their content and so always alike."""
    starts = []
    offset = 0
    for line in lines:
        if line.strip():
            starts.append((hashlib.sha256(line).digest()[:8], offset))
        offset += len(line)
    return [offset for _, offset in sorted(starts)]


def _answer_line(batch: Batch, line: bytes, caches: Caches) -> dict[str, Any]:
    """A result with the line's other fields echoed (go-genai #513), before or after it: the line's length decides.

    A line without `request` is a bare request, as the Batch page's curl example sends it, or an OpenAI row, which is
    answered as one.
    """
    try:
        given = json.loads(line)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise bad_request("The input file has a line that is no JSON object.")
    if chat.is_row(given):
        return chat.answer_row(given)
    result = _answer(batch, given.pop("request") if "request" in given else given, caches)
    echo = {} if "contents" in given or "content" in given else given
    return {**echo, **result} if len(line) % 2 else {**result, **echo}
