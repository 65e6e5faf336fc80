"""RQ's own pool of workers on empty jobs. `python -m bench.rq_pool REDIS_URL WORKERS JOBS` prints what they took."""

import os
import sys
import time

from redis import Redis
from rq import Queue
from rq.worker_pool import WorkerPool

from bench.stack import idle_workers, wait


def main(redis_url: str, workers: str, jobs: str) -> None:
    connection = Redis.from_url(redis_url)
    queue = Queue("empty", connection=connection)
    pool = WorkerPool([queue.name], connection=connection, num_workers=int(workers))
    pool.start_workers(burst=False, logging_level="ERROR")
    wait(lambda: idle_workers(connection) == int(workers), "idle workers")
    waiting = [Queue.prepare_data(os.getpid, result_ttl=0) for _ in range(int(jobs))]
    began = time.perf_counter()
    queue.enqueue_many(waiting)
    wait(
        lambda: not queue.count and not queue.started_job_registry.get_job_count(cleanup=False), "empty jobs"
    )
    print(time.perf_counter() - began)
    pool.stop_workers()
    for worker in pool.worker_dict.values():
        worker.process.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
