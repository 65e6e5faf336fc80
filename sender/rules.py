"""What is known to go wrong with a line of a request file: one table, each row with its source. Pure.

`ALLOWED` says which fields may stand where, `MISPLACED` which are known not to and why, `RULES` what is said of it.
Fields are named without their spelling (`plain`): Gemini takes camelCase and snake_case alike.
"""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    ERROR = "error"
    WARNING = "warning"


class Place(StrEnum):
    """An object that stands in a line."""

    LINE = "line"
    REQUEST = "request"
    GENERATION = "generationConfig"
    CONTENT = "content"
    EMBED = "embedding request"
    OPENAI_LINE = "OpenAI line"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is wrong, and the right form; `{field}` stands for the field's name. `source` is who says so."""

    level: Level
    reason: str
    right: str
    source: str


_GUIDE = "Batch API guide, Input file"
_GENERATE = "API reference, GenerateContentRequest"
_ERROR, _WARNING = Level.ERROR, Level.WARNING

RULES: dict[str, Rule] = {
    # The file
    "file-empty": Rule(_ERROR, "the file holds no request", "one JSON object a line", _GUIDE),
    "file-too-large": Rule(
        _ERROR, "the file is over 2 GB", "submit it with --split-bytes 2GB or --split-requests", _GUIDE
    ),
    "byte-order-mark": Rule(
        _ERROR, "the file begins with a byte order mark", "UTF-8 without a mark", "RFC 8259, 8.1"
    ),
    "json-array": Rule(_ERROR, "the file is one JSON array", "one JSON object a line, no brackets", _GUIDE),
    # The line
    "line-too-long": Rule(
        _ERROR, "the line is over 256 MiB", "one request a line; media as files/…", "this tool's own limit"
    ),
    "not-utf8": Rule(_ERROR, "the line is not UTF-8", "save the file as UTF-8", "RFC 8259, 8.1"),
    "not-json": Rule(_ERROR, "the line is not JSON", "one JSON object a line", _GUIDE),
    "not-an-object": Rule(
        _ERROR, "the line is no JSON object", '{"key": "…", "request": {"contents": […]}}', _GUIDE
    ),
    "no-key": Rule(
        _ERROR,
        'the line has no "{field}", and answers come in any order',
        '"{field}": "…", another one in each line',
        "python-genai #1909, js-genai #1207",
    ),
    "key-not-a-string": Rule(_ERROR, '"{field}" is no string', '"{field}": "…"', _GUIDE),
    "key-empty": Rule(_ERROR, '"{field}" is empty', '"{field}": "…", another one in each line', _GUIDE),
    "key-repeated": Rule(
        _ERROR,
        "the key stands in an earlier line already",
        "another key in each line",
        "Batch API guide: the key tells which answer is whose, and is not checked",
    ),
    "custom-id": Rule(
        _ERROR, '"{field}" is the OpenAI layer\'s name', '"key"', "python-genai #2439 (the sample's lines)"
    ),
    "key-in-metadata": Rule(
        _ERROR,
        '"metadata" holds the key of inline requests',
        '"key" at the top of the line',
        "Batch API guide, Inline requests",
    ),
    "no-request": Rule(
        _ERROR, 'the line has no "request"', '{"key": "…", "request": {"contents": […]}}', _GUIDE
    ),
    "bare-request": Rule(
        _ERROR, '"{field}" stands at the top of the line', 'inside "request"', "Batch API guide, Input file"
    ),
    "request-not-an-object": Rule(_ERROR, '"request" is no object', '"request": {"contents": […]}', _GUIDE),
    "openai-line": Rule(
        _ERROR,
        "the line is one for the OpenAI layer",
        "check and submit the file with --openai",
        "OpenAI compatibility: custom_id, method, url, body",
    ),
    # The request
    "model": Rule(
        _ERROR,
        'the model stands in the line ("{field}")',
        "--model, once for the whole batch",
        "API reference, batchGenerateContent: the model is the batch's",
    ),
    "flattened": Rule(
        _ERROR,
        '"{field}" stands outside of generationConfig, and is refused a day later',
        '"generationConfig": {"{field}": …}',
        "inspect_ai #3273",
    ),
    "config": Rule(
        _ERROR,
        '"{field}" is the SDK\'s name for what it takes apart',
        'its generation fields in "generationConfig", the rest in "request"',
        "inspect_ai #3273",
    ),
    "system-instructions": Rule(
        _ERROR, '"{field}" is no field of a request', '"systemInstruction"', _GENERATE
    ),
    "system-instruction-text": Rule(
        _ERROR,
        '"{field}" is a text, which only SDKs accept',
        '"systemInstruction": {"parts": [{"text": "…"}]}',
        _GENERATE,
    ),
    "system-instruction-wrong": Rule(
        _ERROR,
        '"{field}" is no object with parts',
        '"systemInstruction": {"parts": [{"text": "…"}]}',
        _GENERATE,
    ),
    "generation-config-wrong": Rule(_ERROR, '"{field}" is no object', '"generationConfig": {…}', _GENERATE),
    "cached-content": Rule(
        _ERROR,
        '"{field}" stands in the wrong place',
        '"cachedContent" in "request", beside "contents"',
        "python-genai #509, cookbook #565, generative-ai #2122",
    ),
    "in-generation-config": Rule(
        _ERROR,
        '"{field}" stands in generationConfig',
        '"{field}" in "request", beside "contents"',
        _GENERATE,
    ),
    "json-schema": Rule(
        _ERROR,
        '"{field}" gives wrong answers in batches (0 of 502 were right)',
        '"responseSchema"',
        "ruby_llm #894",
    ),
    "no-contents": Rule(_ERROR, 'the request has no "contents"', '"contents": [{"parts": […]}]', _GENERATE),
    "contents-text": Rule(
        _ERROR,
        '"{field}" is a text, which only SDKs accept',
        '"{field}": [{"parts": [{"text": "…"}]}]',
        _GENERATE,
    ),
    "contents-wrong": Rule(
        _ERROR, '"{field}" is no list of objects with parts', '[{"parts": [{"text": "…"}]}]', _GENERATE
    ),
    "content-wrong": Rule(
        _ERROR,
        '"{field}" is no object with parts',
        '"content": {"parts": [{"text": "…"}]}',
        "API reference, EmbedContentRequest",
    ),
    "inline-data": Rule(
        _ERROR,
        '"{field}" lacks its mimeType, or its data is no base64',
        '"inlineData": {"mimeType": "image/png", "data": "…"}, without data: or a line break',
        "API reference, Blob",
    ),
    "role": Rule(
        _ERROR, 'the role "{field}" is none of Gemini\'s', '"user" or "model"', "API reference, Content"
    ),
    "messages": Rule(
        _ERROR, '"{field}" is the OpenAI layer\'s name', '"contents", or rows for --openai', _GENERATE
    ),
    "embed-contents": Rule(
        _ERROR,
        '"{field}" is what other batches have',
        '"content": {"parts": […]}, one a line',
        "API reference, EmbedContentRequest",
    ),
    "embed-generation": Rule(
        _ERROR,
        '"{field}" means nothing to an embedding',
        "leave it out",
        "API reference, EmbedContentRequest",
    ),
    "not-embeddings": Rule(
        _ERROR,
        '"{field}" is what embeddings have',
        '"contents": […]; for embeddings, --embeddings',
        _GENERATE,
    ),
    "deprecated": Rule(
        _WARNING,
        '"{field}" is deprecated',
        "leave it out; newer models ignore or refuse it",
        "API changelog, 2026-07-21",
    ),
    "unknown": Rule(
        _WARNING,
        '"{field}" is no field that is known here',
        "look it up in the API reference",
        "protobuf's JSON refuses unknown fields",
    ),
    # Rows for the OpenAI layer
    "native-line": Rule(
        _ERROR, "the line is Gemini's own", "check and submit the file without --openai", _GUIDE
    ),
    "no-body": Rule(_ERROR, 'the line has no "body"', '{"custom_id": "…", "body": {…}}', "OpenAI, Batch"),
    "openai-url": Rule(
        _ERROR,
        '"url" names a call that has no batches here',
        '"/v1/chat/completions" or, with --embeddings, "/v1/embeddings"',
        "OpenAI compatibility",
    ),
    "no-messages": Rule(_ERROR, 'the body has no "messages"', '"messages": […]', "OpenAI, Chat completions"),
    "messages-wrong": Rule(
        _ERROR,
        "a message is no object with a role",
        '"messages": [{"role": "user", "content": "…"}]',
        "OpenAI, Chat completions",
    ),
    "no-input": Rule(_ERROR, 'the body has no "input"', '"input": "…"', "OpenAI, Embeddings"),
}

DEPRECATED = ("temperature", "topP", "topK")

GENERATION_FIELDS = (
    *DEPRECATED,
    "candidateCount",
    "maxOutputTokens",
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "responseModalities",
    "presencePenalty",
    "frequencyPenalty",
    "seed",
    "responseLogprobs",
    "logprobs",
    "enableEnhancedCivicAnswers",
    "speechConfig",
    "thinkingConfig",
    "imageConfig",
    "mediaResolution",
)
_BESIDE_CONTENTS = ("systemInstruction", "tools", "toolConfig", "safetySettings")

ALLOWED: dict[Place, tuple[str, ...]] = {
    Place.LINE: ("key", "request"),
    Place.REQUEST: ("contents", *_BESIDE_CONTENTS, "generationConfig", "cachedContent", "serviceTier"),
    Place.GENERATION: GENERATION_FIELDS,
    Place.CONTENT: ("parts", "role"),
    Place.EMBED: ("content", "taskType", "title", "outputDimensionality"),
    Place.OPENAI_LINE: ("custom_id", "method", "url", "body"),
}

_FLATTENED = dict.fromkeys((*GENERATION_FIELDS, "responseJsonSchema", "thinkingBudget"), "flattened")

MISPLACED: dict[Place, dict[str, str]] = {
    Place.LINE: {
        "custom_id": "custom-id",
        "metadata": "key-in-metadata",
        "model": "model",
        "cachedContent": "cached-content",
        **dict.fromkeys(("contents", "content", *_BESIDE_CONTENTS, "generationConfig"), "bare-request"),
        **dict.fromkeys(("config", "generateContentConfig"), "config"),
        **dict.fromkeys(("systemInstructions", "systemPrompt", "system"), "system-instructions"),
        **_FLATTENED,
    },
    Place.REQUEST: {
        "model": "model",
        **dict.fromkeys(("config", "generateContentConfig"), "config"),
        **dict.fromkeys(("systemInstructions", "systemPrompt", "system"), "system-instructions"),
        **dict.fromkeys(("messages", "prompt", "input"), "messages"),
        **dict.fromkeys(("content", "taskType", "outputDimensionality"), "not-embeddings"),
        **dict.fromkeys(("cache", "cachedContentName", "cachedContents"), "cached-content"),
        **_FLATTENED,
    },
    Place.GENERATION: {
        "responseJsonSchema": "json-schema",
        "cachedContent": "cached-content",
        "model": "model",
        "systemInstructions": "system-instructions",
        **dict.fromkeys(_BESIDE_CONTENTS, "in-generation-config"),
    },
    Place.EMBED: {
        "model": "model",
        "contents": "embed-contents",
        **dict.fromkeys(("config", "embedContentConfig"), "config"),
        **dict.fromkeys((*_BESIDE_CONTENTS, "generationConfig", *GENERATION_FIELDS), "embed-generation"),
    },
}


def plain(name: str) -> str:
    """A field's name without its spelling, camelCase or snake_case."""
    return name.replace("_", "").lower()


def snake(name: str) -> str:
    """The snake_case spelling of a camelCase name."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


KNOWN = {place: {plain(name) for name in names} for place, names in ALLOWED.items()}
WRONG = {
    place: {plain(name): rule for name, rule in rows.items() if plain(name) not in KNOWN.get(place, ())}
    for place, rows in MISPLACED.items()
}
