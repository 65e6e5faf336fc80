"""Lines as the several layers write them, mixed without mercy; and a simple reader, written apart, that judges them."""

import json
import random
from typing import Any, NamedTuple

from workers.results.documents import manifest_line, read
from workers.results.result import Status, key_of, parse, render
from workers.results.tally import tally_of

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_KEYS: list[Any] = ["a", "request-1", "", "é/..", "img.", 7, None, [1, {"b": None}], True, "null"]
_ERRORS: list[Any] = [
    *(None, None, None, "", {}, [], False, 0),
    *("quota", "It did not work.", True, 5, ["x"], {"code": 400, "message": "no"}),
    *({"message": "no"}, {"code": "batch_expired", "message": "late"}, {"code": 0, "message": "odd"}),
]
_STATUSES: list[Any] = [
    *(None, None, None, "", " ", "OK", "mine", "INTERNAL", "Bad Request: it did not work."),
    *({}, {"code": 13}, {"code": 13, "message": "no"}, {"message": "no"}, {"code": 0}, {"draft": True}),
    *(200, 500, False, ["x"]),
]
_CODES: list[Any] = [200, 200, 201, 399, 400, 404, 429, 500, "200", "503", None, "x", 400.0, {}]
_TEXTS = ["hi", "", 'a "quote"\n', "🙂", "ÿ\u2028"]
_NUMBERS: list[Any] = [0, 3, 829, 2**40, float("nan"), float("-inf"), 1.5, "8", None]


def mixed_line(rng: random.Random) -> bytes:
    """A line without its end, which any of the layers could have had a part in."""
    line: dict[str, Any] = {}
    for field, make in (
        ("key", lambda: rng.choice(_KEYS)),
        ("custom_id", lambda: rng.choice(_KEYS)),
        ("metadata", lambda: rng.choice([{"key": rng.choice(_KEYS)}, {}, None, "x"])),
        ("id", lambda: "batch_req_1"),
        ("request", lambda: {"contents": [{"parts": [{"text": "Hello?"}]}]}),
        ("status", lambda: rng.choice(_STATUSES)),
        ("error", lambda: rng.choice(_ERRORS)),
    ):
        if rng.random() < 0.4:
            line[field] = make()
    if rng.random() < 0.85:
        line["response"] = _response(rng)
    members = [*line.items()]
    rng.shuffle(members)
    text = json.dumps(dict(members), ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    return (BYTE_ORDER_MARK if rng.random() < 0.1 else b"") + text


def _response(rng: random.Random) -> Any:
    match rng.randrange(12):
        case 0:
            return rng.choice([None, {}, "", "text", [], 5])
        case 1 | 2 | 3 | 4:
            response = _native(rng)
        case _:
            response = _enveloped(rng)
    if rng.random() < 0.1:
        response["error"] = rng.choice(_ERRORS)
    if rng.random() < 0.1:
        response |= _native(rng)
    return response


def _native(rng: random.Random) -> dict[str, Any]:
    parts: list[Any] = [{"text": rng.choice(_TEXTS)} for _ in range(rng.randrange(3))]
    if rng.random() < 0.3:
        parts.insert(0, {"text": "hm", "thought": True})
    if rng.random() < 0.2:
        parts.append(
            {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}, "thought": rng.random() < 0.5}
        )
    candidate = {"content": {"parts": parts}, "finishReason": "STOP", "avgLogprobs": rng.choice(_NUMBERS)}
    counts = {"promptTokenCount": rng.choice(_NUMBERS), "toolUsePromptTokenCount": rng.choice(_NUMBERS)}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": "gemini-2.5-flash"}


def _enveloped(rng: random.Random) -> dict[str, Any]:
    content: Any = (
        rng.choice(_TEXTS) if rng.random() < 0.7 else [{"type": "text", "text": rng.choice(_TEXTS)}]
    )
    usage = rng.choice(
        [{"prompt_tokens": rng.choice(_NUMBERS)}, {"promptTokens": rng.choice(_NUMBERS)}, None, "x"]
    )
    body: Any = {
        "object": "chat.completion",
        "choices": [
            {"message": {"content": content}, "finish_reason": "stop", "logprobs": rng.choice(_NUMBERS)}
        ],
        "usage": usage,
    }
    if rng.random() < 0.3:
        body = rng.choice(
            [{"error": rng.choice(_ERRORS)}, {}, None, "text", body | {"error": rng.choice(_ERRORS)}]
        )
    response = {"status_code": rng.choice(_CODES), "request_id": "q", "body": body}
    return response if rng.random() < 0.9 else {"body": body}


class Judgement(NamedTuple):
    """What a line plainly says."""

    key: str | None
    says_failed: bool
    says_anything: bool
    response: Any


def judge(text: bytes) -> Judgement:
    """Read a line as plainly as can be: `json` of the standard library, which takes NaN too."""
    line = json.loads(text.removeprefix(BYTE_ORDER_MARK))
    response, status, error = line.get("response"), line.get("status"), line.get("error")
    members = response if isinstance(response, dict) else {}
    body = members.get("body")
    inner = [members.get("error"), body.get("error") if isinstance(body, dict) else None]
    says_failed = any([bool(error), *map(bool, inner), _is_failing(members.get("status_code"))])
    if isinstance(status, dict):
        says_failed |= bool(status.get("code"))
    if isinstance(status, str):
        alone = not response and status.strip() not in {"", "OK"}
        says_failed |= alone or len(status.split()) > 1
    if response is None:
        says_failed |= error is not None
    return Judgement(
        _key(line),
        says_failed,
        any(each not in (None, "") for each in (error, status, *inner, body)),
        response,
    )


class Said(NamedTuple):
    """What a good answer plainly says: its text, and how many tokens the prompt had; `...` where it isn't plain."""

    text: Any
    prompt_tokens: Any


def said(response: dict[str, Any]) -> Said:
    """Read an answer of one layer as plainly as can be; of one that two layers had a part in, nothing."""
    is_native, is_enveloped = "candidates" in response, "body" in response
    if is_native and is_enveloped:
        return Said(..., ...)
    if is_native:
        parts = response["candidates"][0]["content"]["parts"]
        texts = [part["text"] for part in parts if "text" in part and not part.get("thought")]
        return Said("".join(texts) if texts else None, _plain(response["usageMetadata"]["promptTokenCount"]))
    body = response.get("body")
    if not isinstance(body, dict) or "choices" not in body:
        return Said(None, None)
    content = body["choices"][0]["message"]["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    usage = body["usage"] if isinstance(body["usage"], dict) else {}
    return Said(text, _plain(usage.get("prompt_tokens", usage.get("promptTokens"))))


def _plain(number: Any) -> Any:
    """A count as it is, or as int64 is written; what is no whole number is not plain."""
    if isinstance(number, float):
        return ...
    return None if number is None else int(number)


def _is_failing(code: Any) -> bool:
    try:
        return float(code) >= 400
    except (TypeError, ValueError):
        return False


def _key(line: dict[str, Any]) -> str | None:
    metadata = line.get("metadata")
    inner = metadata.get("key") if isinstance(metadata, dict) else None
    for key in (line.get("key"), line.get("custom_id"), inner):
        if key is not None:
            return key if isinstance(key, str) else json.dumps(key, separators=(",", ":"))
    return None


def check(line: bytes) -> Status:
    """Hold what the product makes of a line against what the simple reader says of it."""
    plain = judge(line)
    parsed = parse(line)
    rendered = render(parsed, 3, 1)
    document = json.loads(rendered.document)
    assert parsed.key == key_of(line) == document["key"] == plain.key
    if parsed.status is Status.SUCCEEDED:
        assert not plain.says_failed
        assert isinstance(plain.response, dict)
        assert document["response"].keys() == plain.response.keys()
        text, tokens = said(plain.response)
        assert text in {..., document["text"]}
        assert tokens in {..., (document["usage"] or {}).get("prompt_tokens")}
    elif parsed.status is Status.INVALID:
        assert not plain.says_failed
        assert not isinstance(plain.response, dict)
    else:
        assert plain.says_failed or plain.says_anything
        assert document["error"] is not None
    entry = read(manifest_line(rendered, "raw/part-00000.jsonl", 0, len(line), has_object=True))
    tally = tally_of([rendered])
    assert tally.counts == tally_of([entry]).counts == {parsed.status: 1}
    assert tally.lines == 1
    return parsed.status
