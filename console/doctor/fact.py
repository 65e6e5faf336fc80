"""What several checks need to know, found out once; and the word for a check that can't be made."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class CannotTell(Exception):
    """The check can't be made here; the message says why."""


class Fact(Generic[T]):
    """Something that several checks need, found out once, by whichever asks first."""

    def __init__(self, owner: str, find: Callable[[], T]) -> None:
        self._owner = owner
        self._find = find
        self._lock = threading.Lock()
        self._found: Future[T] | None = None

    def found(self) -> T:
        """For the check that answers for it. Raises what finding it out raised."""
        with self._lock:
            if self._found is None:
                self._found = Future()
                try:
                    self._found.set_result(self._find())
                except Exception as error:  # noqa: BLE001 - raised again below, for everybody who asks
                    self._found.set_exception(error)
        return self._found.result()

    def needed(self) -> T:
        """For all others. Raises `CannotTell` where it could not be found out."""
        try:
            return self.found()
        except CannotTell:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the owner's check tells it
            raise CannotTell(f"Can't be told before `{self._owner}` is mended.") from None
