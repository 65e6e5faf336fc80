"""Where Gemini is, and with which key it is asked. Pure: who reads the settings gives the values."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"

_PORTS = {"http": 80, "https": 443}
# What stands in a shortened secret for the part that was left out.
_SHORTENED = re.compile(r"(?P<start>[^.…*•]*)[.…*•]+(?P<end>[^.…*•]*)")
_PREFIX = "whsec_"
_LEAST_KNOWN_CHARACTERS = 4


class Secret:
    """A string that shows itself only when it is asked for by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def masked_in(self, text: str) -> str:
        """`text`, which may quote the secret, without it."""
        return text.replace(self._value, "***") if self._value else text

    def is_shown_as(self, shortened: str) -> bool:
        """Whether `shortened` can be this secret with a part left out.

        Gemini lists signing secrets as `truncated_secret` and documents no form. Accepted are a start and an end
        around dots or asterisks (`whsec_Zm…9v`), one of them missing, and either alone. Fewer than four
        characters prove nothing.
        """
        bare, shortened = self._value.removeprefix(_PREFIX), shortened.removeprefix(_PREFIX)
        parts = _SHORTENED.fullmatch(shortened)
        if parts is None:
            known, fits = len(shortened), bare.startswith(shortened) or bare.endswith(shortened)
        else:
            known = len(parts["start"]) + len(parts["end"])
            fits = bare.startswith(parts["start"]) and bare.endswith(parts["end"])
        return fits and known >= _LEAST_KNOWN_CHARACTERS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('**********')"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Access:
    """Where Gemini is and with which key. `base_url` has no `/` at its end."""

    base_url: str
    api_key: Secret


def same_host(one: str, other: str) -> bool:
    """Whether two addresses have scheme, host and port in common, and name no user."""
    try:
        parts = urlsplit(one), urlsplit(other)
        first, second = ((p.scheme, p.hostname, p.port or _PORTS.get(p.scheme), p.username) for p in parts)
    except ValueError:
        return False
    return first == second and None not in first[:3] and first[3] is None
