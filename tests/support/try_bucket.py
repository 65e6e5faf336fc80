"""`make try-bucket STORAGE_URL=…`: whether a store of yours does what is needed, in a minute.

Everything happens below a prefix of its own that is emptied again. The variables are those of `work`.
"""

import os
import sys
import time

import click

from tests.support.protocol import failures
from workers.bucket import layout
from workers.bucket.opening import open_bucket
from workers.bucket.probe import probe
from workers.errors import WorkerError


@click.command()
@click.argument("url", metavar="STORAGE_URL")
def main(url: str) -> None:
    """Try the bucket at STORAGE_URL; a line for each check, exit code 1 where one failed."""
    failed = 0
    try:
        for remark in probe(open_bucket(url, os.environ)):
            click.echo(f"warning  {remark}")
        folder = layout.trial(time.time())
        bucket = open_bucket(f"{url.rstrip('/')}/{folder}", os.environ)
        started = time.monotonic()
        for name, wrong in failures(bucket):
            failed += bool(wrong)
            said = f"FAILED   {name}: {wrong}" if wrong else f"ok       {name}"
            click.echo(f"{said} ({time.monotonic() - started:.1f} s)")
            started = time.monotonic()
        open_bucket(url, os.environ).delete_tree(folder)
    except WorkerError as error:
        click.echo(f"FAILED   {error}")
        failed += 1
    sys.exit(int(failed > 0))


if __name__ == "__main__":
    main()
