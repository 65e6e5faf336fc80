"""The whole flow on this machine, shown end to end: a Redis, a local Gemini, a receiver and workers as real processes.

It starts the other rooms as a user would, by their commands, and reads their bucket. It must not import them.
"""
