"""What a `response` says: its text, why it ended, what it cost, its embedding. Nothing in it can raise.

Field names are accepted in camelCase, as the API writes them, and in snake_case, as its Python users do.
"""

import types
import typing
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct, field
from msgspec.structs import astuple

_INT64_MAX = 2**63 - 1


class Usage(Struct, frozen=True, gc=False):
    """Token counts of one answer, in the order and under the names of the output document."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    thoughts_tokens: int | None = None
    total_tokens: int | None = None


USAGE_FIELDS = Usage.__struct_fields__


class Answer(Struct, frozen=True, gc=False):
    """What was read from one response.

    `texts` are JSON strings as they came, quotes included; `embedding` is a JSON array as it came.
    """

    texts: list[Raw]
    finish_reason: str | None = None
    block_reason: str | None = None
    usage: Usage | None = None
    embedding: Raw | None = None
    has_media: bool = False


_Amount = Annotated[int, Meta(ge=0, le=_INT64_MAX)] | str | None


class _Part(Struct, gc=False):
    text: Raw = Raw()
    thought: bool | None = None
    inline_data: Raw = field(default=Raw(), name="inlineData")
    inline_data_snake: Raw = field(default=Raw(), name="inline_data")


class _Content(Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(Struct, gc=False):
    content: _Content | None = None
    finish_reason: str | None = field(default=None, name="finishReason")
    finish_reason_snake: str | None = field(default=None, name="finish_reason")


class _Feedback(Struct, gc=False):
    block_reason: str | None = field(default=None, name="blockReason")
    block_reason_snake: str | None = field(default=None, name="block_reason")


class _Counts(Struct, gc=False):
    prompt: _Amount = field(default=None, name="promptTokenCount")
    cached: _Amount = field(default=None, name="cachedContentTokenCount")
    output: _Amount = field(default=None, name="candidatesTokenCount")
    thoughts: _Amount = field(default=None, name="thoughtsTokenCount")
    total: _Amount = field(default=None, name="totalTokenCount")


class _SnakeCounts(Struct, gc=False):
    prompt: _Amount = field(default=None, name="prompt_token_count")
    cached: _Amount = field(default=None, name="cached_content_token_count")
    output: _Amount = field(default=None, name="candidates_token_count")
    thoughts: _Amount = field(default=None, name="thoughts_token_count")
    total: _Amount = field(default=None, name="total_token_count")


class _Embedding(Struct, gc=False):
    values: Raw = Raw()


class _Response(Struct, gc=False):
    candidates: list[_Candidate] | None = None
    feedback: _Feedback | None = field(default=None, name="promptFeedback")
    feedback_snake: _Feedback | None = field(default=None, name="prompt_feedback")
    counts: _Counts | None = field(default=None, name="usageMetadata")
    counts_snake: _SnakeCounts | None = field(default=None, name="usage_metadata")
    embedding: _Embedding | None = None
    token_count: _Amount = field(default=None, name="tokenCount")
    token_count_snake: _Amount = field(default=None, name="token_count")


_decode = msgspec.json.Decoder(_Response).decode


def read(response: bytes) -> Answer:
    """Read a response: JSON text of an object that a decoder has accepted before.

    A field of an unexpected type counts as absent.
    """
    try:
        wire = _decode(response)
    except (msgspec.DecodeError, ValueError):
        wire = _salvage(_Response, response)
    texts: list[Raw] = []
    has_media = False
    finish_reason = None
    candidates = wire.candidates
    if candidates:
        first = candidates[0]
        finish_reason = first.finish_reason or first.finish_reason_snake
        for candidate in candidates:
            if candidate.content is None or not candidate.content.parts:
                continue
            for part in candidate.content.parts:
                if part.inline_data or part.inline_data_snake:
                    has_media = True
                if (
                    candidate is first
                    and part.text
                    and not part.thought
                    and memoryview(part.text)[0] == ord('"')
                ):
                    texts.append(part.text)
    feedback = wire.feedback or wire.feedback_snake
    embedding = wire.embedding.values if wire.embedding is not None else None
    return Answer(
        texts,
        finish_reason,
        (feedback.block_reason or feedback.block_reason_snake) if feedback is not None else None,
        _usage(wire),
        embedding if embedding and memoryview(embedding)[0] == ord("[") else None,
        has_media,
    )


def _usage(wire: _Response) -> Usage | None:
    counts = wire.counts or wire.counts_snake
    if counts is None:
        tokens = _count(wire.token_count if wire.token_count is not None else wire.token_count_snake)
        return None if tokens is None else Usage(prompt_tokens=tokens, total_tokens=tokens)
    amounts = astuple(counts)
    return Usage(*(map(_count, amounts) if str in map(type, amounts) else amounts))


def _count(value: _Amount) -> int | None:
    if not isinstance(value, str):
        return value
    # 19 digits hold every int64; more would cost time without bound.
    number = int(value) if len(value) <= 19 and value.isascii() and value.isdigit() else None
    return number if number is not None and number <= _INT64_MAX else None


def _salvage(kind: Any, raw: bytes) -> Any:
    """Decode `raw` as `kind`, leaving out just those fields that don't fit it."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, ValueError):
        pass
    if isinstance(kind, types.UnionType):
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is list:
        (item,) = typing.get_args(kind)
        elements = _lenient(list[Raw], raw)
        return None if elements is None else [_salvage(item, element) for element in elements]
    if isinstance(kind, type) and issubclass(kind, Struct):
        members = _lenient(dict[str, Raw], raw) or {}
        return kind(
            **{
                known.name: _salvage(known.type, members[known.encode_name])
                for known in msgspec.structs.fields(kind)
                if known.encode_name in members
            }
        )
    return None


def _lenient(kind: Any, raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, ValueError):
        return None
