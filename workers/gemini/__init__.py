"""Gemini's API as this project uses it: access, one HTTP client, what statuses mean, batches, files, webhooks.

It knows the wire: spellings, paths, pages, ranges. It must not know what becomes of an answer: no Redis, no bucket, no
line of a result file, and nothing of the rest of `workers` but its errors. `client.Gemini` is the door.
"""
