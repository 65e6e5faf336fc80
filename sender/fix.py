"""A line of a request file corrected, where what it was meant to be is certain. Pure."""

from collections.abc import Callable
from typing import Any

from sender.examine import Fault
from sender.rules import GENERATION_FIELDS, plain

Object = dict[str, Any]

_GENERATION = {plain(name) for name in (*GENERATION_FIELDS, "responseJsonSchema")}
_IN_REQUEST = {
    plain(name): name
    for name in ("contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "cachedContent")
}
_OF_THE_SDK = {"httpoptions", "shouldreturnhttpresponse", "automaticfunctioncalling"}
# What both kinds of schema have, with the same meaning (API reference, Schema).
_SCHEMA_WORDS = {
    *("type", "format", "title", "description", "enum", "items", "properties", "required", "nullable"),
    *(
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "pattern",
        "default",
        "example",
    ),
    *("minProperties", "maxProperties", "anyOf", "propertyOrdering"),
}


def fix(line: Object, faults: list[Fault], *, embeddings: bool, model: str | None) -> list[Fault]:
    """Correct `line` in place as far as it is certain; the faults that are left."""
    return [fault for fault in faults if not _fix(line, fault, embeddings, model)]


def _fix(line: Object, fault: Fault, embeddings: bool, model: str | None) -> bool:
    if fault.rule == "model":
        return _drop_model(line, fault, model)
    if embeddings and fault.rule not in {
        "custom-id",
        "key-in-metadata",
        "contents-text",
        "embed-contents",
        "content-wrong",
    }:
        return False
    mend = _MENDS.get(fault.rule)
    return mend is not None and mend(line, fault)


def _custom_id(line: Object, fault: Fault) -> bool:
    if "key" in line or not isinstance(line[fault.field], str):
        return False
    return _renamed(line, fault.field, "key")


def _metadata(line: Object, fault: Fault) -> bool:
    metadata = line[fault.field]
    if "key" in line or not isinstance(metadata, dict) or not isinstance(metadata.get("key"), str):
        return False
    del line[fault.field]
    line["key"] = metadata["key"]
    return True


def _bare(line: Object, fault: Fault) -> bool:
    request = line.setdefault("request", {})
    return isinstance(request, dict) and _moved(line, request, fault.field)


def _flattened(line: Object, fault: Fault) -> bool:
    if plain(fault.field) not in _GENERATION:
        return False
    request = line.get("request")
    source = request if isinstance(request, dict) and fault.field in request else line
    generation = _generation(line, make=True)
    return generation is not None and _generation_field(source, generation, fault.field)


def _generation_field(source: Object, generation: Object, name: str) -> bool:
    if plain(name) != "responsejsonschema":
        return _moved(source, generation, name)
    schema = _schema(source[name])
    if schema is None or _has(generation, "responseSchema"):
        return False
    del source[name]
    generation["responseSchema"] = schema
    return True


def _config(line: Object, fault: Fault) -> bool:
    """The SDK's `config` taken apart, if each of its fields has a place."""
    request = line.get("request")
    holder = request if isinstance(request, dict) and fault.field in request else line
    config = holder.get(fault.field)
    generation = _generation(line, make=True)
    if not isinstance(config, dict) or generation is None:
        return False
    request = line["request"]
    places = {**_IN_REQUEST, **dict.fromkeys(_GENERATION | _OF_THE_SDK)}
    if any(plain(name) not in places or _has(request, name) or _has(generation, name) for name in config):
        return False
    for name in list(config):
        if plain(name) in _GENERATION and not _generation_field(config, generation, name):
            return False
        if plain(name) in _IN_REQUEST:
            request[name] = config.pop(name)
            if plain(name) == "systeminstruction" and isinstance(request[name], str):
                request[name] = _content(request[name])
    del holder[fault.field]
    if not generation:
        _drop_generation(request)
    return True


def _system(line: Object, fault: Fault) -> bool:
    request = line.setdefault("request", {})
    for holder in (request, _generation(line), line):
        if isinstance(holder, dict) and fault.field in holder:
            value = holder[fault.field]
            if _has(request, "systemInstruction") or not isinstance(value, str | dict):
                return False
            del holder[fault.field]
            request["systemInstruction"] = _content(value) if isinstance(value, str) else value
            return True
    return False


def _system_text(line: Object, fault: Fault) -> bool:
    line["request"][fault.field] = _content(line["request"][fault.field])
    return True


def _cached(line: Object, fault: Fault) -> bool:
    request = line.get("request")
    if not isinstance(request, dict) or _has(request, "cachedContent"):
        return False
    for holder in (_generation(line), line, request):
        if isinstance(holder, dict) and isinstance(holder.get(fault.field), str):
            request["cachedContent"] = holder.pop(fault.field)
            return True
    return False


def _in_generation(line: Object, fault: Fault) -> bool:
    generation = _generation(line)
    return generation is not None and _moved(generation, line["request"], fault.field)


def _json_schema(line: Object, fault: Fault) -> bool:
    generation = _generation(line)
    return generation is not None and _generation_field(generation, generation, fault.field)


def _contents_text(line: Object, fault: Fault) -> bool:
    content = _content(line["request"][fault.field])
    line["request"][fault.field] = content if fault.field == "content" else [{**content, "role": "user"}]
    return True


def _embed_contents(line: Object, fault: Fault) -> bool:
    """Only one text is the same as a `content`."""
    request = line["request"]
    value = request[fault.field]
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    if "content" in request or not isinstance(one, str | dict):
        return False
    del request[fault.field]
    request["content"] = _content(one) if isinstance(one, str) else one
    return True


def _content_wrong(line: Object, fault: Fault) -> bool:
    """A list of one is what it holds."""
    value = line["request"][fault.field]
    one = value[0] if isinstance(value, list) and len(value) == 1 else None
    if not isinstance(one, dict) or not isinstance(one.get("parts"), list | dict):
        return False
    line["request"][fault.field] = one
    return True


def _drop_model(line: Object, fault: Fault, model: str | None) -> bool:
    """A model is left out only where it is the batch's."""
    for holder in (line, line.get("request"), _generation(line)):
        if isinstance(holder, dict) and fault.field in holder:
            named = str(holder[fault.field]).removeprefix("models/")
            if model is None or named != model.removeprefix("models/"):
                return False
            del holder[fault.field]
            return True
    return False


_MENDS: dict[str, Callable[[Object, Fault], bool]] = {
    "custom-id": _custom_id,
    "key-in-metadata": _metadata,
    "bare-request": _bare,
    "flattened": _flattened,
    "config": _config,
    "system-instructions": _system,
    "system-instruction-text": _system_text,
    "cached-content": _cached,
    "in-generation-config": _in_generation,
    "json-schema": _json_schema,
    "contents-text": _contents_text,
    "embed-contents": _embed_contents,
    "content-wrong": _content_wrong,
}


def _content(text: str) -> Object:
    return {"parts": [{"text": text}]}


def _has(holder: Object, name: str) -> bool:
    return plain(name) in {plain(each) for each in holder}


def _renamed(holder: Object, old: str, new: str) -> bool:
    holder[new] = holder.pop(old)
    return True


def _moved(source: Object, target: Object, name: str) -> bool:
    if _has(target, name):
        return False
    target[name] = source.pop(name)
    return True


def _generation(line: Object, *, make: bool = False) -> Object | None:
    """The request's generationConfig."""
    request = line.setdefault("request", {}) if make else line.get("request")
    if not isinstance(request, dict):
        return None
    name = next((each for each in request if plain(each) == "generationconfig"), "generationConfig")
    generation = request.setdefault(name, {}) if make else request.get(name)
    return generation if isinstance(generation, dict) else None


def _drop_generation(request: Object) -> None:
    for name in [each for each in request if plain(each) == "generationconfig" and not request[each]]:
        del request[name]


def _schema(value: Any) -> Any:
    """A JSON Schema as the API's own, None where it says more than that can."""
    if not isinstance(value, dict) or not value.keys() <= _SCHEMA_WORDS:
        return None
    schema = dict(value)
    kind = schema.get("type")
    if kind is not None:
        if not isinstance(kind, str):
            return None
        schema["type"] = kind.upper()
    inner: list[tuple[Object, Any]] = []
    if "items" in schema:
        inner.append((schema, "items"))
    if isinstance(schema.get("properties"), dict):
        schema["properties"] = dict(schema["properties"])
        inner += [(schema["properties"], name) for name in schema["properties"]]
    if isinstance(schema.get("anyOf"), list):
        return None
    for holder, name in inner:
        holder[name] = _schema(holder[name])
        if holder[name] is None:
            return None
    return schema
