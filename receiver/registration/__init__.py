"""The registration script: subscribes a URL at Gemini and keeps the signing secret in a file.

It knows the API key and the secret file. It must not know Redis or the bucket; `serve` never loads it.
"""
