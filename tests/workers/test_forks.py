"""Processes that are told to end in the moment in which they begin."""

import subprocess
import sys
from textwrap import dedent

from tests.support.processes import ROOT

TIMES = 60


def test_a_scheduler_that_is_stopped_as_soon_as_it_is_begun_ends(redis_url: str) -> None:
    """Python forgets in a child what came for it before its first instruction."""
    told = dedent(
        f"""
        import os
        from redis import Redis
        from rq.serializers import JSONSerializer
        from rq.utils import now
        from workers.contract import Queues
        from workers.forks import end_with_parent
        from workers.worker import BatchWorker

        os.register_at_fork(after_in_child=end_with_parent)
        connection = Redis.from_url({redis_url!r})
        worker = BatchWorker(Queues(connection).names, connection=connection, serializer=JSONSerializer)
        worker._install_signal_handlers()
        worker._start_scheduler(False, "WARNING")
        worker.stop_scheduler()
        for _ in range({TIMES}):
            worker.last_cleaned_at = now()
            connection.flushall()
            worker.run_maintenance_tasks()
            assert worker.scheduler._process.is_alive()
            worker.stop_scheduler()
            print("ended", flush=True)
        """
    )
    ended = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert ended.stdout.count("ended") == TIMES, ended.stderr
