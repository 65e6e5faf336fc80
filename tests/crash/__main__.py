"""`python -m tests.crash`: every point at which a worker can be killed, or overtaken by another, one after the other.

For a small batch of each kind, at every call to the bucket, to Redis or to Gemini: the bucket is in the end the same
as without, nothing is left over, and nothing waits for ever. `--sample` takes some of the points, by `--seed`.
"""

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import click

from emulator.demo.local_redis import local_redis
from tests.crash.harness import WAYS, Story, World
from tests.crash.kinds import KINDS
from tests.support.gemini import Gemini
from tests.support.s3 import s3_server
from workers.errors import WorkerError


@contextmanager
def world(folder: Path, *, in_a_store: bool = False) -> Iterator[World]:
    """A Redis, a local Gemini and, if wanted, a store, until the block ends."""
    with ExitStack() as stack:
        redis_url = stack.enter_context(local_redis(folder))
        gemini = stack.enter_context(closing(Gemini(folder / "gemini.log")))
        store = None
        if in_a_store:
            (folder / "store").mkdir()
            store = stack.enter_context(s3_server(folder / "store"))
        yield World(gemini, redis_url, folder, store)


def run(
    here: World, name: str, way: str, points: int | None, chooser: random.Random
) -> tuple[int, list[str]]:
    """Run one kind in one way at all points, or at so many of them; how many, and what went wrong."""
    calm = Story(here, KINDS[name], here.url(f"{name} calm"))
    calls = calm.count()
    calm.meanwhile()
    calm.put_right()
    expected = calm.stored()
    story = Story(here, KINDS[name], here.url(f"{name} {way}"))
    numbers = list(range(1, len(calls) + 1))
    if points is not None and points < len(numbers):
        numbers = sorted(chooser.sample(numbers, points))
    troubles = [f"calm: {sentence}" for sentence in calm.trouble(expected)]
    for at in numbers:
        try:
            WAYS[way](story, at)
            found = story.trouble(expected)
        except (AssertionError, RuntimeError, WorkerError) as error:
            found = [str(error)]
        if found:
            troubles.append(
                f"{way} before call {at} of {len(calls)} ({calls[at - 1]}): {'; '.join(found[:4])}"
            )
    return len(numbers), troubles


@click.command()
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Only these kinds.")
@click.option("--way", "ways", multiple=True, type=click.Choice(list(WAYS)), help="Only these ways.")
@click.option("--sample", type=click.IntRange(1), help="So many points of each kind and way, not all.")
@click.option("--seed", default=1, show_default=True, type=int, help="Which points.")
@click.option(
    "--storage",
    default="folder",
    show_default=True,
    type=click.Choice(["folder", "s3"]),
    help="s3: SeaweedFS, and each request to it is a point.",
)
def main(kinds: tuple[str, ...], ways: tuple[str, ...], sample: int | None, seed: int, storage: str) -> None:
    chooser = random.Random(seed)
    total = wrong = 0
    with (
        tempfile.TemporaryDirectory(prefix="crash-") as folder,
        world(Path(folder), in_a_store=storage == "s3") as here,
    ):
        for name in kinds or KINDS:
            for way in ways or WAYS:
                begun = time.monotonic()
                points, troubles = run(here, name, way, sample, chooser)
                total, wrong = total + points, wrong + len(troubles)
                seconds = time.monotonic() - begun
                click.echo(f"{name}, {way}: {points} points, {len(troubles)} wrong, {seconds:.0f} s")
                for trouble in troubles:
                    click.echo(f"  {trouble}")
    click.echo(f"seed {seed}: {total} points, {wrong} wrong")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
