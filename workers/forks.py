"""What a process owes to those that it forks: no signal is lost between them, and none outlives the other."""

import contextlib
import ctypes
import signal
from collections.abc import Iterator

_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """A signal that comes during a fork waits until the child has handlers of its own; else Python forgets it there."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends (Linux; elsewhere RQ's own timeouts have to do).

    For `os.register_at_fork`. The parent's signal handlers are not the child's; until it has its own, a signal simply
    ends it.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
