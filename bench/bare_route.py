"""What a receiver is measured against: a Starlette route that answers 200, with the receiver's uvicorn settings.

The parser is uvicorn's faster one, httptools. `python -m bench.bare_route PORT KIND`, KIND being `bare`; `verified`, by
the `standardwebhooks` package; or `enqueued`, which also enqueues as RQ's documentation does, in a thread and with the
batch as the job's id.
"""

import os
import sys

import uvicorn
from redis import Redis
from rq import Queue
from rq.exceptions import DuplicateJobError
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def application(kind: str) -> Starlette:
    webhook = Webhook(os.environ["WEBHOOK_SIGNING_SECRET"])
    queue = Queue("bare", connection=Redis.from_url(os.environ["REDIS_URL"]))

    async def bare(request: Request) -> Response:
        await request.body()
        return Response()

    async def verified(request: Request) -> Response:
        try:
            webhook.verify(await request.body(), dict(request.headers))
        except WebhookVerificationError:
            return Response(status_code=401)
        return Response()

    def enqueue(batch: str) -> None:
        try:
            queue.enqueue("tasks.process", batch, job_id=f"batch-{batch}", unique=True)
        except DuplicateJobError:
            return

    async def enqueued(request: Request) -> Response:
        try:
            event = webhook.verify(await request.body(), dict(request.headers))
        except WebhookVerificationError:
            return Response(status_code=401)
        await run_in_threadpool(enqueue, event["data"]["id"])
        return Response()

    endpoint = {"bare": bare, "verified": verified, "enqueued": enqueued}[kind]
    return Starlette(routes=[Route("/webhooks/gemini", endpoint, methods=["POST"])])


def main(port: str, kind: str) -> None:
    uvicorn.run(
        application(kind),
        port=int(port),
        loop="uvloop",
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=1024,
        timeout_keep_alive=130,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
