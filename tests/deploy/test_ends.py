"""Whoever is told to end does so at once, in whatever moment of its start: no supervisor has to kill it."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.receiver.signing import SECRET
from tests.support.deployment import Deployment
from tests.support.processes import Process

MOMENTS = 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "begun"), [(("serve", "--port", "0"), "listening on"), (("work",), "event=started")]
)
def test_told_to_end_at_any_moment_of_its_start_it_ends_at_once(
    deployment: Deployment, start_process: Callable[..., Process], command: tuple[str, ...], begun: str
) -> None:
    def start() -> Process:
        return start_process(*command, env={**deployment.env, "WEBHOOK_SIGNING_SECRET": SECRET})

    began = time.monotonic()
    first = start()
    first.wait_for_output(begun)
    whole = time.monotonic() - began
    first.stop()

    for moment in range(MOMENTS):
        process = start()
        time.sleep(whole * moment / MOMENTS)
        # stop() gives it 20 s, kills it then, and raises.
        assert process.stop() in {0, -signal.SIGTERM}, process.output
        assert "Traceback" not in process.output
