"""Run with litellm: a file of OpenAI rows becomes a native batch. Prints the batch's name."""

import json
import os
import sys
import tempfile
import time

import litellm

MODEL = "gemini-2.5-flash"
where = {
    "custom_llm_provider": "gemini",
    "api_base": os.environ["GOOGLE_GEMINI_BASE_URL"],
    "api_key": os.environ["GEMINI_API_KEY"],
}
with tempfile.NamedTemporaryFile("w+", suffix=".jsonl") as rows:
    for key, text in json.loads(sys.argv[1]).items():
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        row = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        rows.write(json.dumps(row) + "\n")
    rows.flush()
    with open(rows.name, "rb") as content:  # noqa: PTH123 - litellm wants a file that has a name
        uploaded = litellm.create_file(file=content, purpose="batch", **where)
batch = litellm.create_batch(
    input_file_id=uploaded.id,
    endpoint="/v1/chat/completions",
    completion_window="24h",
    model=MODEL,
    **where,
)
while litellm.retrieve_batch(batch_id=batch.id, model=MODEL, **where).status not in {"completed", "failed"}:
    time.sleep(0.1)
print(batch.id)  # noqa: T201
