"""The private side: fetches a finished batch, fans it out to the bucket and commits it."""
