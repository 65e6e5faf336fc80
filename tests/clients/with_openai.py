"""Run with the OpenAI SDK: the file goes up through the Files API, all else through its layer. Prints the name."""

import json
import os
import sys
import time
import urllib.request
from typing import Any

import openai

MODEL = "gemini-2.5-flash"
BASE, KEY = os.environ["GOOGLE_GEMINI_BASE_URL"], os.environ["GEMINI_API_KEY"]


def rows() -> bytes:
    lines = []
    for key, text in json.loads(sys.argv[1]).items():
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        lines.append({"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def post(url: str, body: bytes, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return urllib.request.urlopen(urllib.request.Request(url, body, named))


def upload() -> str:
    url = f"{BASE}/upload/v1beta/files"
    started = post(
        url, b"", x_goog_api_key=KEY, X_Goog_Upload_Protocol="resumable", X_Goog_Upload_Command="start"
    )
    url = started.headers["x-goog-upload-url"]
    with post(url, rows(), X_Goog_Upload_Command="upload, finalize", X_Goog_Upload_Offset="0") as answer:
        return str(json.load(answer)["file"]["name"])


client = openai.OpenAI(api_key=KEY, base_url=f"{BASE}/v1beta/openai/")
assert MODEL in client.models.retrieve(f"models/{MODEL}").id
batch = client.batches.create(
    input_file_id=upload(), endpoint="/v1/chat/completions", completion_window="24h"
)
while client.batches.retrieve(batch.id).status not in {"completed", "failed"}:
    time.sleep(0.1)
assert batch.id in [each.id for each in client.batches.list()]
print(batch.id)  # noqa: T201
