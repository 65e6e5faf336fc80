"""What the model says: the same request always gets the same answer.

A text answer quotes the prompt. With `responseMimeType: application/json` it is JSON, shaped by the
request's schema if there is one. An image model (its name has `image` in it), or `responseModalities` with
`IMAGE`, adds a small PNG. Embeddings are numbers drawn from a hash of the text. A prompt can ask for more:

`[error]`       the request fails
`[blocked]`     the prompt is blocked: no candidates
`[max_tokens]`  the answer ends for `MAX_TOKENS`, without content
"""

import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from emulator.wire import field

_DIMENSIONS = 768
_IMAGE_SIDE = 16
_REFUSAL = {"code": 400, "message": "The prompt asked for an error.", "status": "INVALID_ARGUMENT"}


def generate(model: str, request: Mapping[str, Any], *, cached: int = 0) -> dict[str, Any]:
    """`{"response": GenerateContentResponse}` or `{"error": Status}` for a GenerateContentRequest.

    `cached`: how many tokens the cached content has that the request names.
    """
    prompt = _prompt(request)
    if "[error]" in prompt:
        return {"error": _REFUSAL}
    response: dict[str, Any] = {
        "modelVersion": model.removeprefix("models/"),
        "responseId": _digest(prompt)[:22],
    }
    if "[blocked]" in prompt:
        usage = _usage(prompt, "", cached)
        return {"response": {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage, **response}}
    if "[max_tokens]" in prompt:
        candidate: dict[str, Any] = {"finishReason": "MAX_TOKENS", "index": 0}
        text = ""
    else:
        text = _text(prompt, request)
        parts: list[dict[str, Any]] = [{"text": text}]
        if _wants_image(model, request):
            data = base64.b64encode(png(prompt)).decode()
            parts.append({"inlineData": {"mimeType": "image/png", "data": data}})
        candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}
    return {
        "response": {"candidates": [candidate], "usageMetadata": _usage(prompt, text, cached), **response}
    }


def embed(_model: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """`{"response": {"tokenCount", "embedding"}}` or `{"error": Status}` for an EmbedContentRequest."""
    content = request.get("content") or {}
    text = _parts_text(content)
    if "[error]" in text:
        return {"error": _REFUSAL}
    size = int(field(request, "outputDimensionality") or _DIMENSIONS)
    noise = hashlib.shake_256(text.encode(errors="surrogatepass")).digest(size * 2)
    values = [round(number / 32768, 6) for number in struct.unpack(f">{size}h", noise)]
    return {"response": {"tokenCount": str(len(text.split())), "embedding": {"values": values}}}


def png(seed: str) -> bytes:
    """A square of 16 by 16 pixels in one colour that the seed decides."""
    colour = hashlib.sha256(seed.encode(errors="surrogatepass")).digest()[:3]
    rows = (b"\x00" + colour * _IMAGE_SIDE) * _IMAGE_SIDE
    header = struct.pack(">IIBBBBB", _IMAGE_SIDE, _IMAGE_SIDE, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in chunks)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _prompt(request: Mapping[str, Any]) -> str:
    return "\n".join(map(_parts_text, _listed(request.get("contents"))))


def _listed(value: Any) -> list[Any]:
    """Several, one or none: where a list is expected, protobuf's JSON also takes its only element."""
    if isinstance(value, list):
        return value
    return [value] if value else []


def _parts_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = _listed(content.get("parts")) if isinstance(content, dict) else []
    return " ".join(str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part)


def _config(request: Mapping[str, Any]) -> Mapping[str, Any]:
    config = field(request, "generationConfig")
    return config if isinstance(config, dict) else {}


def _wants_image(model: str, request: Mapping[str, Any]) -> bool:
    return "image" in model or "IMAGE" in _listed(field(_config(request), "responseModalities"))


def _text(prompt: str, request: Mapping[str, Any]) -> str:
    config = _config(request)
    if field(config, "responseMimeType") != "application/json":
        return f'You asked: "{prompt}" This is the emulator\'s answer to it.'
    schema = field(config, "responseSchema") or field(config, "responseJsonSchema")
    plain = {"prompt": prompt, "answer": _digest(prompt)[:8]}
    return json.dumps(_shaped(schema, prompt, schema) if schema else plain, ensure_ascii=False)


def _shaped(schema: Any, prompt: str, root: Any) -> Any:
    """A value that fits the schema (OpenAPI or JSON Schema spelling), with the prompt as every string."""
    if not isinstance(schema, dict):
        return prompt
    if "$ref" in schema:
        target = root
        for step in str(schema["$ref"]).removeprefix("#/").split("/"):
            target = target[step]
        return _shaped(target, prompt, root)
    if schema.get("enum"):
        return schema["enum"][0]
    options = field(schema, "anyOf")
    if options:
        return _shaped(options[0], prompt, root)
    match str(schema.get("type", "")).lower():
        case "object":
            properties = schema.get("properties") or {}
            return {name: _shaped(value, prompt, root) for name, value in properties.items()}
        case "array":
            count = max(int(field(schema, "minItems") or 2), 1)
            return [_shaped(schema.get("items"), prompt, root) for _ in range(count)]
        case "integer" | "number":
            return len(prompt)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return prompt


def count_tokens(request: Mapping[str, Any]) -> int:
    """Of what a request says: its contents and instruction, a word a token, tools aside."""
    content = [*_listed(request.get("contents")), *_listed(request.get("content"))]
    content += _listed(field(request, "systemInstruction"))
    return sum(len(_parts_text(each).split()) for each in content)


def _usage(prompt: str, text: str, cached: int) -> dict[str, Any]:
    asked, said = len(prompt.split()) + cached, len(text.split())
    thought = int(_digest(prompt)[:2], 16)
    usage = {
        "promptTokenCount": asked,
        "totalTokenCount": asked + said + thought,
        "thoughtsTokenCount": thought,
    }
    if cached:
        usage["cachedContentTokenCount"] = cached
    return {**usage, "candidatesTokenCount": said} if said else usage


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
