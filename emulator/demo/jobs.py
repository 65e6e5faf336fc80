"""What the demo submits: the examples of the Batch API's own page, and what each must turn into."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

_TEXT_MODEL = "gemini-3.5-flash"
_IMAGE_MODEL = "gemini-3-pro-image-preview"
_EMBEDDING_MODEL = "gemini-embedding-2"


class Holds(Enum):
    """What an answer must have in it."""

    TEXT = "a text"
    JSON = "a text that is JSON"
    IMAGE = "an image"
    EMBEDDING = "an embedding"


@dataclass(frozen=True, slots=True)
class Example:
    """A batch to submit: `requests` by key, of which the `failing` ones must end in an error.

    `by_command`: with `batch-receiver submit`, and `export` makes a table of it.
    """

    display_name: str
    model: str
    holds: Holds
    requests: Mapping[str, Mapping[str, Any]]
    failing: frozenset[str] = frozenset()
    from_file: bool = False
    by_command: bool = False

    @property
    def table(self) -> str:
        """What `export` makes, in the demo's folder."""
        return f"{self.display_name}.csv"


def write_requests(example: Example, folder: Path) -> Path:
    """A file of its requests."""
    path = folder / f"{example.display_name}.jsonl"
    lines = ({"key": key, "request": request} for key, request in example.requests.items())
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def submit(client: Any, example: Example, folder: Path) -> str:
    """Create the batch with a `google.genai.Client`; a JSONL file to upload is written to `folder`. Its id."""
    config = {"display_name": example.display_name}
    source: Any
    if example.from_file:
        source = _upload(client, example, folder)
    else:
        source = [{**request, "metadata": {"key": key}} for key, request in example.requests.items()]
    if example.holds is Holds.EMBEDDING:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SDK calls embedding batches experimental.
            batch = client.batches.create_embeddings(
                model=example.model, src={"file_name": source}, config=config
            )
    else:
        batch = client.batches.create(model=example.model, src=source, config=config)
    return str(batch.name).removeprefix("batches/")


def _upload(client: Any, example: Example, folder: Path) -> str:
    path = write_requests(example, folder)
    return str(client.files.upload(file=path, config={"mime_type": "jsonl"}).name)


def _asking(prompt: str, **more: Any) -> dict[str, Any]:
    return {"contents": [{"parts": [{"text": prompt}], "role": "user"}], **more}


_RECIPES = {
    "response_mime_type": "application/json",
    "response_schema": {
        "type": "ARRAY",
        "items": {
            "type": "OBJECT",
            "properties": {
                "recipe_name": {"type": "STRING"},
                "ingredients": {"type": "ARRAY", "items": {"type": "STRING"}},
            },
        },
    },
}
_PICTURE = {"response_modalities": ["TEXT", "IMAGE"]}

EXAMPLES = (
    Example(
        "file-upload-job-1",
        _TEXT_MODEL,
        Holds.TEXT,
        {
            "request-1": _asking(
                "Describe the process of photosynthesis.", generation_config={"temperature": 0.7}
            ),
            "request-2": _asking("What are the main ingredients in a Margherita pizza?"),
            "request-3": _asking("[error] The emulator fails a request with this mark in it."),
        },
        failing=frozenset({"request-3"}),
        from_file=True,
        by_command=True,
    ),
    Example(
        "inlined-requests-job-1",
        _TEXT_MODEL,
        Holds.TEXT,
        {"joke": _asking("Tell me a one-sentence joke."), "sky": _asking("Why is the sky blue?")},
    ),
    Example(
        "structured-output-job-1",
        _TEXT_MODEL,
        Holds.JSON,
        {
            "cookies": _asking(
                "List a few popular cookie recipes, and include the amounts of ingredients.", config=_RECIPES
            ),
            "gluten-free": _asking(
                "List a few popular gluten free cookie recipes, and include the amounts of ingredients.",
                config=_RECIPES,
            ),
        },
    ),
    Example(
        "Input embeddings batch",
        _EMBEDDING_MODEL,
        Holds.EMBEDDING,
        {
            "request_1": {"content": {"parts": [{"text": "Explain GenAI"}]}, "output_dimensionality": 512},
            "request_2": {"content": {"parts": [{"text": "Why is the sky blue?"}]}},
        },
        from_file=True,
    ),
    Example(
        "inlined-image-requests-job-1",
        _IMAGE_MODEL,
        Holds.IMAGE,
        {
            "letter-a": _asking(
                "A big letter A surrounded by animals starting with the A letter", config=_PICTURE
            ),
            "letter-b": _asking(
                "A big letter B surrounded by animals starting with the B letter", config=_PICTURE
            ),
        },
    ),
)
