"""What the body of an OpenAI-compatible response says, as chat completions, embeddings and images have it.

Gemini's own compatibility layer writes some of the names in camelCase (`promptTokens`), so either spelling is read.
Field names of the response are those of the official `openai` SDK's types.
"""

import re
from collections.abc import Iterator

from msgspec import Raw

from workers.results.answers import Answer, Envelope, Usage
from workers.results.failures import is_failing, says
from workers.results.lenient import amount, fields, first_byte, items, string
from workers.results.media import Inline, from_base64, sniffed

_MAY_BE_MEDIA = re.compile(rb'"(?:image_url|audio|b64_json)"')
_DATA_URL = re.compile(rb"data:([^,]{0,200}?)(?:;base64)?,", re.IGNORECASE)


def failure(envelope: Envelope, response: Raw) -> Raw:
    """What in a response says that its request failed: empty if nothing does."""
    error = fields(envelope.body).get("error", Raw())
    if says(envelope.error):
        return envelope.error
    if says(error):
        return error
    if is_failing(envelope.status_code):
        return envelope.body if first_byte(envelope.body) else response
    return Raw()


def read(envelope: Envelope) -> Answer | None:
    """The answer in the body of a response; None where it is no such body."""
    body = fields(envelope.body)
    choice = fields(_first(body.get("choices")))
    message = fields(choice.get("message"))
    if not choice and not body.keys() & {"data", "usage", "object"}:
        return None
    embedding = fields(_first(body.get("data"))).get("embedding", Raw())
    return Answer(
        texts=_texts(message.get("content") or choice.get("text") or Raw()),
        finish_reason=string(_either(choice, "finish_reason")),
        usage=_usage(fields(body.get("usage"))),
        embedding=embedding if first_byte(embedding) == ord("[") else None,
        has_media=_MAY_BE_MEDIA.search(envelope.body) is not None,
        model_version=string(body.get("model")),
        body=envelope.body,
    )


def media(body: Raw) -> list[Inline]:
    """The images and sounds in a body, in order of appearance. They stay in it."""
    return list(_inline(fields(body)))


def _texts(content: Raw) -> list[Raw]:
    if first_byte(content) == ord('"'):
        return [content]
    texts = (fields(part).get("text", Raw()) for part in items(content))
    return [text for text in texts if first_byte(text) == ord('"')]


def _usage(counts: dict[str, Raw]) -> Usage | None:
    if not counts:
        return None
    prompt, output, total = (
        amount(_either(counts, name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    cached = amount(_either(fields(_either(counts, "prompt_tokens_details")), "cached_tokens"))
    thoughts = amount(_either(fields(_either(counts, "completion_tokens_details")), "reasoning_tokens"))
    if thoughts and output is not None and thoughts <= output and (prompt or 0) + output == total:
        # Here thoughts are part of what was completed; in Gemini's own counts they stand beside it.
        output -= thoughts
    return Usage(
        prompt_tokens=prompt,
        cached_tokens=cached,
        output_tokens=output,
        thoughts_tokens=thoughts,
        total_tokens=total,
    )


def _inline(body: dict[str, Raw]) -> Iterator[Inline]:
    for choice in items(body.get("choices")):
        message = fields(fields(choice).get("message"))
        for part in (*items(message.get("content")), *items(message.get("images"))):
            url = fields(part).get("image_url", Raw())
            address = _inside(url) or _inside(fields(url).get("url", Raw()))
            if found := _DATA_URL.match(address):
                mime_type = found[1].replace(b"\\/", b"/").decode(errors="replace")
                yield Inline(mime_type, from_base64(address[found.end() :]))
        yield from _undeclared(fields(message.get("audio")).get("data", Raw()))
    for each in items(body.get("data")):
        yield from _undeclared(fields(each).get("b64_json", Raw()))


def _undeclared(string: Raw) -> Iterator[Inline]:
    if digits := _inside(string):
        data = from_base64(digits)
        yield Inline(sniffed(data) if isinstance(data, bytes) else None, data)


def _inside(string: Raw) -> memoryview:
    """What stands between the quotes of a JSON string, as it came; nothing if it is none."""
    return memoryview(string)[1:-1] if first_byte(string) == ord('"') else memoryview(b"")


def _first(raw: Raw | None) -> Raw | None:
    return next(iter(items(raw)), None)


def _either(members: dict[str, Raw], name: str) -> Raw | None:
    """A field in snake_case, else in camelCase."""
    if name in members:
        return members[name]
    first, *others = name.split("_")
    return members.get(first + "".join(map(str.capitalize, others)))
