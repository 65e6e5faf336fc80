"""What is fit to be shown on a terminal."""

import json


def printable(text: str) -> str:
    """On one line, and nothing in it that a terminal obeys: much of what is shown is anybody's text."""
    return text if text.isprintable() else json.dumps(text)
