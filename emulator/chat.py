"""What the OpenAI-compatible layer says: the same answers as `answers`, in the other form.

Rows of a batch are `{"custom_id", "method", "url", "body"}`, their results `{"id", "custom_id", "response":
{"status_code", "request_id", "body"}, "error"}`. Google's layer writes its counts as `promptTokens` there, where chat
completions that were asked for at once have `prompt_tokens`.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from emulator import answers
from emulator.errors import ApiError, bad_request

_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}


def is_row(line: Mapping[str, Any]) -> bool:
    return isinstance(line.get("body"), dict) and ("custom_id" in line or "url" in line)


def answer_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The result line of a row; a request that fails has a status of 400, and says why in its body."""
    body = row["body"]
    try:
        is_embedding = "embeddings" in str(row.get("url", "")) or "input" in body
        said = embeddings(body) if is_embedding else completion(body)
        status = 200
        if "usage" in said:
            said["usage"] = {_camel(name): count for name, count in said["usage"].items()}
    except ApiError as error:
        status, said = error.code, {"error": document(error)}
    seed = hashlib.sha256(repr(sorted(row.items())).encode(errors="surrogatepass")).hexdigest()
    response = {"status_code": status, "request_id": seed[:16], "body": said}
    return {
        "id": f"batch_req_{seed[16:32]}",
        "custom_id": row.get("custom_id"),
        "response": response,
        "error": None,
    }


def completion(body: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion. Raises ApiError: 400, the request fails or can't be understood."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise bad_request("messages must be a list of objects.")
    model = str(body.get("model") or "")
    contents = [{"parts": [{"text": text} for text in _texts(each.get("content"))]} for each in messages]
    result = answers.generate(model, {"contents": contents})
    if "error" in result:
        raise ApiError(result["error"]["code"], result["error"]["message"])
    response = result["response"]
    usage = response["usageMetadata"]
    candidate = response.get("candidates", [{"finishReason": "SAFETY"}])[0]
    parts = candidate.get("content", {}).get("parts", [])
    message: dict[str, Any] = {"role": "assistant", "content": parts[0]["text"] if parts else None}
    images = [_data_url(part["inlineData"]) for part in parts if "inlineData" in part]
    if images:
        message["images"] = images
    prompt = usage["promptTokenCount"]
    return {
        "id": response["responseId"],
        "object": "chat.completion",
        "created": 1_767_225_600,
        "model": model.removeprefix("models/"),
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": _FINISH.get(candidate["finishReason"], "content_filter"),
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": usage["totalTokenCount"] - prompt,
            "total_tokens": usage["totalTokenCount"],
        },
    }


def embeddings(body: Mapping[str, Any]) -> dict[str, Any]:
    """An embedding for each input. Raises ApiError: 400, one of them fails."""
    given = body.get("input")
    data = []
    for index, text in enumerate(given if isinstance(given, list) else [given]):
        request = {
            "content": {"parts": [{"text": str(text)}]},
            "outputDimensionality": body.get("dimensions"),
        }
        result = answers.embed(str(body.get("model") or ""), request)
        if "error" in result:
            raise ApiError(result["error"]["code"], result["error"]["message"])
        values = result["response"]["embedding"]["values"]
        data.append({"object": "embedding", "index": index, "embedding": values})
    return {"object": "list", "data": data, "model": str(body.get("model") or "")}


def document(error: ApiError) -> dict[str, Any]:
    """An error as the layer writes it, below `error`."""
    return {"code": error.code, "message": error.message, "status": error.status}


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    return [str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part]


def _data_url(inline: Mapping[str, str]) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:{inline['mimeType']};base64,{inline['data']}"}}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
