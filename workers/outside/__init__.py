"""What is told to addresses of the operator's own: where commits are told, and where a heartbeat is awaited. A leaf.

Must know: an address and a secret. Must not know: Gemini, the bucket, Redis, RQ.
"""
