"""What each column of the dataset means. Their names, types and order come from the schema itself."""

_COUNTED = "what Gemini counted; null where it did not"

MEANINGS = {
    "key": "the request's key; null if the line has none",
    "index": "the line's place among those of the batch that are not blank, from 0",
    "status": "`succeeded`, `failed` or `invalid`",
    "text": "the first candidate's text parts joined, thoughts left out",
    "finish_reason": "the first candidate's",
    "block_reason": "why the prompt was blocked",
    "prompt_tokens": _COUNTED,
    "cached_tokens": _COUNTED,
    "output_tokens": _COUNTED,
    "thoughts_tokens": _COUNTED,
    "total_tokens": _COUNTED,
    "error_code": "the error's `code`; null where it is none that an int32 holds",
    "error_message": "the error's `message`, or what makes a line invalid",
    "embedding": "null where there is none, or where it is more than 4 MiB of JSON or not all numbers within float32",
    "media": "names of the media's objects, relative to the batch's folder; empty if there are none",
    "raw_part": "the raw part, relative to the batch's folder",
    "raw_offset": "where in it the line starts, in bytes",
    "raw_length": "how long the line is without its end, in bytes",
    "batch": "the batch's id",
    "model": "as Gemini says it of the batch",
    "display_name": "as Gemini says it of the batch",
    "response": "JSON: the response, its media replaced by their names; null unless it succeeded",
}
