"""`batch-receiver doctor`: everything that makes a first deployment fail, looked at once.

It knows every room from outside, as whoever deploys them does: settings, Redis, the bucket, Gemini, the public address.
It must not know anything of a batch, and must not change anything but what it puts down and takes away again.
"""
