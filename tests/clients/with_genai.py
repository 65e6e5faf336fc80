"""Run with Google's SDK for Python. Prints the batch's name."""

import io
import json
import sys
import time

from google import genai

MODEL = "gemini-2.5-flash"
lines = [
    {"key": key, "request": {"contents": [{"parts": [{"text": text}]}]}}
    for key, text in json.loads(sys.argv[1]).items()
]
content = "".join(json.dumps(line) + "\n" for line in lines).encode()
client = genai.Client()
source = client.files.upload(file=io.BytesIO(content), config={"mime_type": "jsonl"})
batch = client.batches.create(model=MODEL, src=source.name, config={"display_name": "python"})
while not client.batches.get(name=batch.name).done:
    time.sleep(0.1)
print(batch.name)  # noqa: T201
