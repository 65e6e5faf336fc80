"""`python -m tests.chaos`: batches under faults, then the same batches in peace, and the two buckets compared.

Uses this machine's loopback only, and ends only processes that it started. Exit code 0 where the buckets are equal
and nothing is left over, 1 otherwise.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import redis

from emulator.demo.local_redis import local_redis
from tests.chaos.batches import Planned
from tests.chaos.report import Report, count_files, differences
from tests.chaos.schedule import OF_PROCESSES, OF_STORES, SLOW_TO_HEAL, Fault, Schedule, plan
from tests.chaos.storage import CALM, DISTURBED
from tests.chaos.world import World, world
from workers.contract import Announcement, Queues, Trigger

# The rest of the time is for what has to be waited for: lost jobs, pauses between tries, the calm run.
_DISTURBED_SHARE = 0.45
# A killed worker's job is taken up after 20 to 50 seconds, on an idle machine.
_SETTLE_AT_LEAST_SECONDS = 120.0
_CALM_SECONDS, _CALM_SECONDS_A_BATCH = 60.0, 0.5


def run(
    seed: int,
    batches: int,
    seconds: float,
    kinds: Sequence[Fault],
    folder: Path,
    *,
    skew: int,
    in_a_store: bool,
) -> Report:
    """One run, with everything it needs below `folder`."""
    schedule = plan(seed, batches, seconds * _DISTURBED_SHARE, kinds=kinds)
    report = Report(
        seed,
        batches,
        kinds=dict(sorted(Counter(batch.kind for batch in schedule.batches).items())),
        tellings=dict(sorted(Counter(str(batch.telling) for batch in schedule.batches).items())),
    )
    begun = time.monotonic()
    with world(folder, skew, in_a_store=in_a_store) as here:
        report.memory = _disturb(here, schedule)
        here.calm_down()
        disturbed = time.monotonic()
        report.seconds["disturbed"] = round(disturbed - begun, 1)
        limit = max(_SETTLE_AT_LEAST_SECONDS, begun + seconds - disturbed)
        left = _settle(here, schedule.batches, limit)
        report.seconds["settled after"] = round(time.monotonic() - disturbed, 1)
        if left:
            report.wrong.append(f"not settled after {limit:.0f} s: {left}")
        report.wrong += here.stop()
        report.wrong += here.unexpected()
        report.wrong += here.not_intact(schedule.batches)
        report.faults = {
            str(fault): {"struck": here.struck[fault], "missed": here.missed[fault]} for fault in kinds
        }
        report.logged = here.logged()
        report.restarts = dict(here.restarts)
        calm = time.monotonic()
        report.wrong += _in_peace(here, schedule.batches)
        report.seconds["calm run"] = round(time.monotonic() - calm, 1)
        found = here.storage.copied(DISTURBED)
        report.wrong += differences(found, here.storage.copied(CALM))
        report.files = count_files(found)
    report.seconds["in all"] = round(time.monotonic() - begun, 1)
    return report


def _disturb(here: World, schedule: Schedule) -> dict[str, list[float]]:
    """What each process held after each quarter of the schedule, in MB."""
    weights: dict[str, list[float]] = {}
    begun = time.monotonic()
    quarters = [schedule.events[len(schedule.events) * n // 4 - 1] for n in range(1, 5)]
    for event in schedule.events:
        time.sleep(max(0.0, begun + event.at - time.monotonic()))
        here.take(event)
        if event in quarters:
            for name, held in here.weigh().items():
                weights.setdefault(name, []).append(round(held / 1e6, 1))
    return weights


def _settle(here: World, batches: list[Planned], seconds: float) -> str | None:
    deadline = time.monotonic() + seconds
    while left := here.unsettled(batches):
        if time.monotonic() > deadline:
            return left
        time.sleep(0.2)
    return None


def _in_peace(here: World, batches: list[Planned]) -> list[str]:
    """The same batches by one pool that nobody disturbs."""
    with local_redis(here.folder / "calm-redis") as url:
        with redis.Redis.from_url(url) as client:
            Queues(client).announce([Announcement(batch.id, Trigger.REPLAY) for batch in batches])
        process = here.run("calm", ["work", "--workers", "2", "--burst"], here.environment(CALM, url))
        status = process.wait(_CALM_SECONDS + _CALM_SECONDS_A_BATCH * len(batches))
    return [f"the calm run ended with {status}"] if status else []


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--batches", type=int, default=200)
    options.add_argument("--seconds", type=float, default=480, help="for faults and settling together")
    options.add_argument("--brief", action="store_true", help="without the faults that take a minute to heal")
    options.add_argument(
        "--soak", action="store_true", help="only faults that leave long-lived processes alive"
    )
    options.add_argument(
        "--storage",
        choices=["folder", "s3"],
        default="folder",
        help="s3: SeaweedFS, which gets its own faults",
    )
    options.add_argument("--skew", type=int, default=1, help="seconds by which one pool's clock is ahead")
    options.add_argument("--json", type=Path, help="also write the report there")
    options.add_argument("--keep", type=Path, help="a new folder for logs and buckets, which then stay")
    chosen = options.parse_args()
    spared = OF_PROCESSES - {Fault.HORSE_KILLED} if chosen.soak else SLOW_TO_HEAL if chosen.brief else set()
    in_a_store = chosen.storage == "s3"
    if not in_a_store:
        spared = spared | OF_STORES
    kinds = [fault for fault in Fault if fault not in spared]
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = chosen.keep or Path(temporary)
        report = run(
            chosen.seed,
            chosen.batches,
            chosen.seconds,
            kinds,
            folder.resolve(),
            skew=chosen.skew,
            in_a_store=in_a_store,
        )
    if chosen.json:
        chosen.json.write_text(report.to_json() + "\n")
    click.echo(report.to_text())
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
