"""A committed batch held against what it promises, and against the user's own requests.

It reads the bucket and writes nothing to it. It must not know Redis, RQ or Gemini.
"""
