"""How fast something comes."""

from workers.errors import TooSlow


class Pace:
    """Bytes received over the time that was spent waiting for them, whoever else is slow."""

    def __init__(self, least_rate: float, seconds: float) -> None:
        """At least `least_rate` bytes a second, looked at whenever `seconds` were waited."""
        self._least_rate = least_rate
        self._seconds = seconds
        self._waited = 0.0
        self._received = 0

    def waited(self, seconds: float, received: int = 0) -> None:
        """Note a wait, and how many bytes it brought.

        Raises:
            TooSlow: the rate is below the least one.
        """
        self._waited += seconds
        self._received += received
        if self._waited < self._seconds:
            return
        rate = self._received / self._waited
        self._waited, self._received = 0.0, 0
        if rate < self._least_rate:
            raise TooSlow(f"Gemini sends the result file too slowly: {rate:.0f} bytes a second.")
