"""One line of a request file held against the rules: what is wrong with it, each with the rule that says so. Pure."""

import string
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from sender.rules import DEPRECATED, KNOWN, WRONG, Place, plain
from workers.results.json_text import is_too_deep, is_utf8

_ROLES = {"user", "model", "function"}
_CHAT_URL, _EMBEDDINGS_URL = "/v1/chat/completions", "/v1/embeddings"
_DEPRECATED = {plain(name) for name in DEPRECATED}
# In both alphabets, as protobuf's JSON takes them.
_BASE64 = (string.ascii_letters + string.digits + "+/-_=").encode()


class Fault(NamedTuple):
    """The name of the rule that a line breaks, and the field that does; `where` is the object that it stands in."""

    rule: str
    field: str = ""
    where: str = ""


class Examined(NamedTuple):
    """`key` is what answers will be known by, as far as there is something of the kind; `value` what was decoded."""

    faults: list[Fault]
    key: str | None = None
    value: Any = None


def examine(line: bytes, *, embeddings: bool = False, openai: bool = False) -> Examined:
    """What is wrong with a line, which need not be JSON. Never raises."""
    if not is_utf8(line):
        return Examined([Fault("not-utf8")])
    if is_too_deep(line):
        return Examined([Fault("not-json")])
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return Examined([Fault("not-json")])
    if not isinstance(value, dict):
        return Examined([Fault("not-an-object")])
    faults = list(_openai_line(value, embeddings) if openai else _line(value, embeddings))
    return Examined(faults, _key_of(value, "custom_id" if openai else "key"), value)


def _key_of(value: dict[str, Any], name: str) -> str | None:
    key = value.get(name, value.get("custom_id"))
    return key if isinstance(key, str) and key else None


def _key(value: dict[str, Any], name: str) -> Iterator[Fault]:
    key = value.get(name)
    if name not in value:
        instead = any(plain(each) in {"customid", "metadata"} for each in value)
        if not instead or name == "custom_id":
            yield Fault("no-key", name)
    elif not isinstance(key, str):
        yield Fault("key-not-a-string", name)
    elif not key:
        yield Fault("key-empty", name)


def _line(value: dict[str, Any], embeddings: bool) -> Iterator[Fault]:
    if "body" in value and "request" not in value:
        yield Fault("openai-line")
        return
    yield from _key(value, "key")
    yield from _fields(value, Place.LINE)
    if "request" not in value:
        if not {"contents", "content"} & {plain(name) for name in value}:
            yield Fault("no-request")
        return
    request = value["request"]
    if not isinstance(request, dict):
        yield Fault("request-not-an-object")
        return
    yield from _embed(request) if embeddings else _generate(request)


def _generate(request: dict[str, Any]) -> Iterator[Fault]:
    yield from _fields(request, Place.REQUEST)
    contents = request.get("contents")
    if contents is None or contents == []:
        if not any(
            WRONG[Place.REQUEST].get(plain(name)) in {"messages", "not-embeddings"} for name in request
        ):
            yield Fault("no-contents")
    else:
        yield from _contents(contents, "contents")
    for name, inner in request.items():
        if inner is None:
            continue
        if plain(name) == "systeminstruction":
            if isinstance(inner, str):
                yield Fault("system-instruction-text", name)
            elif not _is_content(inner):
                yield Fault("system-instruction-wrong", name)
        if plain(name) == "generationconfig":
            if not isinstance(inner, dict):
                yield Fault("generation-config-wrong", name)
                continue
            yield from _fields(inner, Place.GENERATION, name)
            yield from (Fault("deprecated", each, name) for each in inner if plain(each) in _DEPRECATED)


def _embed(request: dict[str, Any]) -> Iterator[Fault]:
    yield from _fields(request, Place.EMBED)
    if "content" in request:
        yield from _contents(request["content"], "content")
    elif "contents" not in request:
        yield Fault("no-contents", "content")


def _contents(value: Any, field: str) -> Iterator[Fault]:
    """A single object does in place of a list of one, as always in protobuf's JSON."""
    if isinstance(value, str):
        yield Fault("contents-text", field)
        return
    contents = value if isinstance(value, list) and field == "contents" else [value]
    if not all(map(_is_content, contents)):
        yield Fault("content-wrong" if field == "content" else "contents-wrong", field)
        return
    for each in contents:
        yield from _fields(each, Place.CONTENT, field)
        yield from _parts(each["parts"])
        role = each.get("role")
        if role is not None and not (isinstance(role, str) and role in _ROLES):
            yield Fault("role", str(role), field)


def _is_content(value: Any) -> bool:
    parts = value.get("parts") if isinstance(value, dict) else None
    return isinstance(parts, dict) or (
        isinstance(parts, list) and all(isinstance(each, dict) for each in parts)
    )


def _parts(value: Any) -> Iterator[Fault]:
    for part in value if isinstance(value, list) else [value]:
        for name, inner in part.items():
            if plain(name) == "inlinedata" and inner is not None and not _is_blob(inner):
                yield Fault("inline-data", name)


def _is_blob(value: Any) -> bool:
    fields = {plain(name): each for name, each in value.items()} if isinstance(value, dict) else {}
    kind, data = fields.get("mimetype"), fields.get("data")
    if not (isinstance(kind, str) and "/" in kind and isinstance(data, str) and data):
        return False
    return not data.encode(errors="replace").translate(None, _BASE64)


def _fields(value: dict[str, Any], place: Place, where: str = "") -> Iterator[Fault]:
    for name in value:
        bare = plain(name)
        if bare not in KNOWN[place]:
            yield Fault(WRONG.get(place, {}).get(bare, "unknown"), name, where)


def _openai_line(value: dict[str, Any], embeddings: bool) -> Iterator[Fault]:
    if "request" in value and "body" not in value:
        yield Fault("native-line")
        return
    yield from _key(value, "custom_id")
    yield from _fields(value, Place.OPENAI_LINE)
    body = value.get("body")
    if not isinstance(body, dict):
        yield Fault("no-body")
        return
    if value.get("url", _CHAT_URL) != (_EMBEDDINGS_URL if embeddings else _CHAT_URL) and "url" in value:
        yield Fault("openai-url")
    if embeddings:
        if "input" not in body:
            yield Fault("no-input")
        return
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        yield Fault("no-messages")
    elif not all(isinstance(each, dict) and isinstance(each.get("role"), str) for each in messages):
        yield Fault("messages-wrong")
