"""A line of a result file, and the documents it becomes: keys, names, texts, media, usage.

Pure: bytes in, bytes out, the same on every run. It must not do any I/O, and imports nothing of the rest of `workers`
but its errors.
"""
