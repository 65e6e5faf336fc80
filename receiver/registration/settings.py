"""What the registration needs to know: where Gemini is and with which key it is asked."""

from collections.abc import Mapping

from receiver.errors import SettingsError
from workers.gemini.access import DEFAULT_BASE_URL, Access, Secret, is_api_key, is_https_or_loopback


def read_access(environ: Mapping[str, str]) -> Access:
    """Read `GEMINI_API_KEY` (or `GOOGLE_API_KEY`) and `GOOGLE_GEMINI_BASE_URL`.

    Raises:
        SettingsError: the key is missing, or one of them is wrong.
    """
    api_key = (environ.get("GEMINI_API_KEY") or environ.get("GOOGLE_API_KEY") or "").strip()
    if not api_key:
        raise SettingsError("GEMINI_API_KEY is not set: webhooks belong to the project of an API key.")
    if not is_api_key(api_key):
        raise SettingsError("GEMINI_API_KEY holds characters that no API key has.")
    base_url = environ.get("GOOGLE_GEMINI_BASE_URL", "").strip().rstrip("/") or DEFAULT_BASE_URL
    if not is_https_or_loopback(base_url):
        raise SettingsError(
            "GOOGLE_GEMINI_BASE_URL must be an https address (plain http is accepted on loopback only)."
        )
    return Access(base_url, Secret(api_key))
