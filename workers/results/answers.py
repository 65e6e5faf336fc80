"""What a `response` says: its text, why it ended, what it cost, its embedding. Nothing in it can raise.

Field names are accepted in camelCase, as the API writes them, and in snake_case, as its Python users do.
"""

import msgspec
from msgspec import Raw, Struct, field
from msgspec.structs import astuple

from workers.results.lenient import Amount, Count, count, salvage


class Usage(Struct, frozen=True, gc=False):
    """Token counts of one answer, in the order and under the names of the output document."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    tool_use_tokens: int | None = None
    output_tokens: int | None = None
    thoughts_tokens: int | None = None
    total_tokens: int | None = None


USAGE_FIELDS = Usage.__struct_fields__


class Envelope(Struct, frozen=True, gc=False):
    """Fields that only a response of the OpenAI-compatible layer has, or one that says that it failed."""

    status_code: Raw
    body: Raw
    error: Raw


class Answer(Struct, frozen=True, gc=False):
    """What was read from one response.

    `texts` are JSON strings as they came, quotes included; `embedding` is a JSON array as it came. `body` is that of
    an OpenAI-compatible response, from which all was read; then the media are in there too.
    """

    texts: list[Raw]
    finish_reason: str | None = None
    block_reason: str | None = None
    usage: Usage | None = None
    embedding: Raw | None = None
    has_media: bool = False
    model_version: str | None = None
    body: Raw | None = None
    envelope: Envelope | None = None


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


# The fields of `Usage`, in their order.
class _Counts(Struct, gc=False):
    prompt: Count = field(default=None, name="promptTokenCount")
    cached: Count = field(default=None, name="cachedContentTokenCount")
    tool_use: Count = field(default=None, name="toolUsePromptTokenCount")
    output: Count = field(default=None, name="candidatesTokenCount")
    thoughts: Count = field(default=None, name="thoughtsTokenCount")
    total: Count = field(default=None, name="totalTokenCount")


class _SnakeCounts(Struct, gc=False):
    prompt: Count = field(default=None, name="prompt_token_count")
    cached: Count = field(default=None, name="cached_content_token_count")
    tool_use: Count = field(default=None, name="tool_use_prompt_token_count")
    output: Count = field(default=None, name="candidates_token_count")
    thoughts: Count = field(default=None, name="thoughts_token_count")
    total: Count = field(default=None, name="total_token_count")


class _Embedding(Struct, gc=False):
    values: Raw = Raw()


_ABSENT = Raw()


class _Response(Struct, gc=False):
    candidates: list[_Candidate] | None = None
    feedback: _Feedback | None = field(default=None, name="promptFeedback")
    feedback_snake: _Feedback | None = field(default=None, name="prompt_feedback")
    counts: _Counts | None = field(default=None, name="usageMetadata")
    counts_snake: _SnakeCounts | None = field(default=None, name="usage_metadata")
    model_version: str | None = field(default=None, name="modelVersion")
    model_version_snake: str | None = field(default=None, name="model_version")
    embedding: _Embedding | None = None
    embeddings: list[_Embedding] | None = None
    token_count: Amount = field(default=None, name="tokenCount")
    token_count_snake: Amount = field(default=None, name="token_count")
    status_code: Raw = _ABSENT
    body: Raw = _ABSENT
    error: Raw = _ABSENT


_decode = msgspec.json.Decoder(_Response).decode


def read(response: bytes) -> Answer:
    """Read a response: JSON text of an object that a decoder has accepted before.

    A field of an unexpected type counts as absent.
    """
    try:
        wire = _decode(response)
    except (msgspec.DecodeError, ValueError):
        wire = salvage(_Response, response)
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
    vector = wire.embedding or (wire.embeddings[0] if wire.embeddings else None)
    embedding = vector.values if vector is not None else None
    is_bare = wire.body is _ABSENT and wire.status_code is _ABSENT and wire.error is _ABSENT
    return Answer(
        texts,
        finish_reason,
        (feedback.block_reason or feedback.block_reason_snake) if feedback is not None else None,
        _usage(wire, is_embedding=vector is not None),
        embedding if embedding and memoryview(embedding)[0] == ord("[") else None,
        has_media,
        wire.model_version or wire.model_version_snake,
        None,
        None if is_bare else Envelope(wire.status_code, wire.body, wire.error),
    )


def _usage(wire: _Response, *, is_embedding: bool) -> Usage | None:
    counts = wire.counts or wire.counts_snake
    if counts is None:
        tokens = count(wire.token_count if wire.token_count is not None else wire.token_count_snake)
        return None if tokens is None else Usage(prompt_tokens=tokens, total_tokens=tokens)
    if is_embedding and counts.total is None:
        counts.total = counts.prompt  # All there is to count, and sometimes all that is told.
    return Usage(*astuple(counts))
