"""The product and what surrounds it: takes the events of a schedule, and says when everything has settled."""

import contextlib
import json
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import redis

from emulator.demo.local_redis import free_port
from tests.chaos.batches import PART_BYTES, Planned, Telling
from tests.chaos.processes import Crew, RedisServer, crew, kill, resident, still_running
from tests.chaos.schedule import OF_PROCESSES, OF_STORES, End, Event, Fault, Strike, Submit
from tests.chaos.storage import DISTURBED, InFolder, Storage, in_store
from tests.support.clock import ahead
from tests.support.gemini import Gemini
from tests.support.processes import Process
from workers.verify.verification import verify

POOLS = ("work-1", "work-2")
WORKERS_A_POOL = 2
RECONCILE_SECONDS = 8

# How long to look for somebody at work before a kill is let go.
_PREY_SECONDS = 2.0
_EVERYTHING_AT_GEMINI = "/v1beta/"
_DELIVERIES = "DELIVER"
_LOGGED = ("retry", "handed_back", "orphan_requeued", "failed", "committed", "in_parts")


class World:
    """Gemini outlives all faults; everything else may be killed. Close it in any case."""

    def __init__(self, folder: Path, storage: Storage, skew: int) -> None:
        """`skew`: seconds by which the second pool's clock is ahead."""
        self.folder = folder
        self._skew = skew
        self.storage = storage
        self._bucket = storage.bucket(DISTURBED)
        self.struck: Counter[Fault] = Counter()
        self.missed: Counter[Fault] = Counter()
        self.restarts: Counter[str] = Counter()
        self._logs = folder / "logs"
        self._starts = 0
        self._redis = RedisServer(folder / "redis")
        self._gemini = Gemini(
            self._logs / "gemini.log", "--seconds", "0.1", "--retry-first", "0.1", "--retry-max", "2"
        )
        self._hooks = f"http://127.0.0.1:{free_port()}/webhooks/gemini"
        self._secret = str(self._gemini.create_webhook(self._hooks)["new_signing_secret"])
        self._processes: dict[str, Process] = {}

    def start(self) -> None:
        self._redis.start()
        self._serve()
        for pool in POOLS:
            self._work(pool)

    def close(self) -> None:
        """End what still runs, whatever state it is in."""
        for process in self._processes.values():
            process.kill()
        self._redis.end(signal.SIGKILL)
        self._gemini.close()

    def take(self, event: Event) -> None:
        """Let an event of the schedule happen."""
        match event:
            case Submit(batch=batch):
                self._submit(batch)
            case End(batch=batch):
                self._gemini.change(batch.id, batch.state, announce=True)
            case Strike(fault=fault) if fault in OF_PROCESSES:
                (self.struck if self._strike_process(event) else self.missed)[fault] += 1
            case Strike(fault=fault, force=force) if fault in OF_STORES:
                (self.struck if self.storage.strike(fault, force) else self.missed)[fault] += 1
            case Strike():
                self._ask_for_trouble(event)
        self._revive()

    def calm_down(self) -> None:
        """No more faults; how often those at Gemini struck is counted."""
        for each in self._gemini.http.get("/_emulator/faults").json()["faults"]:
            fault = _asked_for(each)
            (self.struck if each["struck"] else self.missed)[fault] += each["struck"] or 1
        self._gemini.clear_faults()
        self.struck[Fault.STORE_CUT] = self.storage.calm_down()
        self._revive()

    def unsettled(self, batches: list[Planned]) -> str | None:
        """What is still to be waited for, in words; None when nothing is."""
        self._revive()
        pending = sum(each["state"] == "pending" for each in self._gemini.deliveries())
        if pending:
            return f"{pending} deliveries are pending"
        waiting = [each.id for each in batches if not self._is_final(each)]
        if waiting:
            return f"{len(waiting)} batches are not committed: {', '.join(waiting[:5])}"
        if leftover := self.storage.left_over():
            return f"{leftover} is still there"
        left = self.left_in_redis()
        return f"Redis still holds {', '.join(left[:5])}" if left else None

    def not_intact(self, batches: list[Planned]) -> list[str]:
        """Which commits are not whole, and what of them, as `verify` has it."""
        found = [verify(self._bucket, batch.id) for batch in batches]
        return [
            f"{report.batch} is not intact: {dict(report.findings.counts)}"
            for report in found
            if not report.is_intact
        ]

    def left_in_redis(self) -> list[str]:
        """Keys of jobs, queues, registries and announcements; reconcile's own comes and goes."""
        names = ("rq:job:*", "rq:queue:*", "rq:wip:*", "rq:failed:*", "rq:scheduled:*", "rq:executions:*")
        with redis.Redis.from_url(self._redis.url) as client:
            keys = [
                str(key.decode())
                for pattern in (*names, "batch-receiver:announced:*", "batch-receiver:orphans")
                for key in client.scan_iter(match=pattern, count=1000)
            ]
            running = client.exists("rq:job:reconcile")
        return [key for key in keys if not running or not _may_be_of_reconcile(key)]

    def stop(self) -> list[str]:
        """End the product as a supervisor does; what is wrong afterwards."""
        wrong = []
        for name, process in self._processes.items():
            status = process.stop()
            if status:
                wrong.append(f"{name} ended with {status}")
        left = still_running(str(self.folder))
        if left:
            wrong.append(f"processes {left} are still running")
        self._redis.end(signal.SIGTERM)
        return wrong

    def environment(self, bucket: str, redis_url: str) -> dict[str, str]:
        """What workers run with, for the disturbed and the calm run alike."""
        return {
            **self._gemini.env,
            **self.storage.env,
            "REDIS_URL": redis_url,
            "STORAGE_URL": self.storage.url(bucket),
            "PART_BYTES": str(PART_BYTES),
        }

    def run(self, name: str, args: list[str], env: Mapping[str, str]) -> Process:
        """A process that is ended with this world."""
        self._starts += 1
        process = Process(args, env, self._logs / f"{self._starts:03d}-{args[0]}.log")
        self._processes[name] = process
        return process

    def weigh(self) -> dict[str, int]:
        """Bytes resident in each long-lived process and its workers, and what Redis holds."""
        weights = {}
        for name, process in self._processes.items():
            pids = [process.pid, *crew(process).workers]
            weights[name] = max(map(resident, pids))
        with redis.Redis.from_url(self._redis.url) as client:
            weights["redis"] = int(client.info("memory")["used_memory"])
        return weights

    def logged(self) -> dict[str, int]:
        """How often the workers logged each event that matters here."""
        text = "".join(path.read_text(errors="replace") for path in sorted(self._logs.glob("*-work.log")))
        return {event: len(re.findall(rf"event={event}\b", text)) for event in _LOGGED}

    def unexpected(self) -> list[str]:
        """Lines that no process should ever log, whatever is done to it."""
        lines = []
        for path in sorted(self._logs.glob("*-serve.log")):
            lines += [line for line in path.read_text(errors="replace").splitlines() if "unexpected" in line]
        return lines

    def _serve(self) -> None:
        port = self._hooks.split(":")[2].split("/", maxsplit=1)[0]
        env = {
            "REDIS_URL": self._redis.url,
            "WEBHOOK_SIGNING_SECRET": self._secret,
            "WEBHOOK_DYNAMIC": "on",
            "WEBHOOK_JWKS_URL": self._gemini.jwks_url,
            "STARTED_IN": str(self.folder),
        }
        self.run("serve", ["serve", "--port", port], env).wait_for_output("listening on")

    def _work(self, pool: str) -> None:
        env = self.environment(DISTURBED, self._redis.url)
        env["RECONCILE_INTERVAL_SECONDS"] = str(RECONCILE_SECONDS)
        if pool != POOLS[0]:
            env |= ahead(self._skew, self.folder)
        started = self.run(pool, ["work", "--workers", str(WORKERS_A_POOL)], env)
        # It waits for a store whose connections are cut, which then are cut for nobody else.
        started.wait_for_output("event=started", seconds=180)

    def _revive(self) -> None:
        """As a supervisor does with what ended by itself."""
        starts: dict[str, Callable[[], None]] = {"serve": self._serve}
        starts |= {pool: partial(self._work, pool) for pool in POOLS}
        for name, start in starts.items():
            process = self._processes.get(name)
            if process and process.returncode is not None:
                self.restarts[name] += 1
                start()

    def _submit(self, batch: Planned) -> None:
        if batch.inline:
            self._gemini.put_operation(batch.body, batch_id=batch.id)
        else:
            self._put(batch)
        announce = partial(self._gemini.announce, batch.id)
        match batch.telling:
            case Telling.OFTEN:
                announce(times=4)
            case Telling.DYNAMIC:
                announce(kind="v1a", uris=[self._hooks])
            case Telling.CONTRADICTED:
                announce(type="batch.failed")
                announce()
            case Telling.ONCE | Telling.EARLY | Telling.HEALED:
                announce()
            case Telling.NEVER:
                pass

    def _put(self, batch: Planned) -> None:
        error = {"code": 13, "message": "internal"}
        state = {Telling.EARLY: "RUNNING", Telling.HEALED: "FAILED"}.get(batch.telling, batch.state)
        self._gemini.put_batch(
            batch.body,
            batch_id=batch.id,
            state=state,
            error=error if state == "FAILED" else None,
            display_name=batch.kind,
        )

    def _is_final(self, batch: Planned) -> bool:
        summary = self._bucket.get(f"{batch.id}/batch.json")
        return summary is not None and bool(json.loads(summary)["state"] == batch.state.lower())

    def _strike_process(self, strike: Strike) -> bool:
        name = POOLS[int(strike.force * len(POOLS))]
        pool, receiver = self._processes[name], self._processes["serve"]
        match strike.fault:
            case Fault.HORSE_KILLED:
                return self._hunt(lambda crew: crew.horses, strike.force)
            case Fault.WORKER_KILLED:
                return self._hunt(lambda crew: crew.busy, strike.force)
            case Fault.SCHEDULER_KILLED:
                return self._hunt(lambda crew: crew.schedulers, strike.force)
            case Fault.POOL_KILLED:
                pool.kill()
                self._work(name)
            case Fault.POOL_RESTARTED:
                pool.stop()
                self._work(name)
            case Fault.RECEIVER_KILLED:
                receiver.kill()
                self._serve()
            case Fault.RECEIVER_RESTARTED:
                receiver.stop()
                self._serve()
            case Fault.REDIS_KILLED | Fault.REDIS_RESTARTED:
                gently = strike.fault is Fault.REDIS_RESTARTED
                self._redis.end(signal.SIGTERM if gently else signal.SIGKILL)
                time.sleep(2 * strike.force)
                self._redis.start()
        return True

    def _crew(self, pool: str) -> Crew:
        return crew(self._processes[pool], self._redis.url)

    def _hunt(self, look: Callable[[Crew], list[int]], force: float) -> bool:
        deadline = time.monotonic() + _PREY_SECONDS
        while time.monotonic() < deadline:
            found = [pid for pool in POOLS for pid in look(self._crew(pool))]
            if found and kill(found[int(force * len(found))]):
                return True
            time.sleep(0.002)
        return False

    def _ask_for_trouble(self, strike: Strike) -> None:
        force, fault = strike.force, self._gemini.fault
        match strike.fault:
            case Fault.CUT:
                fault("cut", times=2, value=round(2_000 + force * 100_000))
            case Fault.RANGE_IGNORED:
                # Only a download that goes on asks for a range.
                fault("cut", times=1, value=round(2_000 + force * 50_000))
                fault("ignore_range", times=2)
            case Fault.STORM:
                seconds = str(1 + round(force * 2))
                fault(
                    "status",
                    _EVERYTHING_AT_GEMINI,
                    times=round(10 + force * 20),
                    value=429,
                    retry_after=seconds,
                )
            case Fault.UNAVAILABLE:
                fault("status", _EVERYTHING_AT_GEMINI, times=round(3 + force * 12), value=503)
            case Fault.DELAY:
                fault("delay", _EVERYTHING_AT_GEMINI, times=5, value=0.2 + force)
            case Fault.THROTTLE:
                fault("throttle", times=4, value=round(40_000 + force * 200_000))
            case Fault.LATE_OUTPUT:
                fault("late_output", times=round(2 + force * 4))
            case Fault.DUPLICATE:
                fault("duplicate", _DELIVERIES, times=3, value=round(1 + force * 4))
            case Fault.SLOW_DELIVERY:
                fault("delay", _DELIVERIES, times=4, value=0.5 + force * 2)


def _asked_for(fault: Mapping[str, object]) -> Fault:
    """The fault of the schedule behind one of Gemini's."""
    kind = str(fault["kind"])
    if kind == "status":
        return Fault.STORM if fault["value"] == 429 else Fault.UNAVAILABLE
    if kind == "delay":
        return Fault.SLOW_DELIVERY if fault["match"] == _DELIVERIES else Fault.DELAY
    return {
        "cut": Fault.CUT,
        "ignore_range": Fault.RANGE_IGNORED,
        "throttle": Fault.THROTTLE,
        "late_output": Fault.LATE_OUTPUT,
        "duplicate": Fault.DUPLICATE,
    }[kind]


def _may_be_of_reconcile(key: str) -> bool:
    return "reconcile" in key or key in {"rq:queue:batch-receiver-batches", "rq:wip:batches"}


@contextlib.contextmanager
def world(folder: Path, skew: int, *, in_a_store: bool) -> Iterator[World]:
    """A world that runs, and of which nothing runs afterwards."""
    with contextlib.ExitStack() as stack:
        storage = stack.enter_context(in_store(folder)) if in_a_store else InFolder(folder)
        made = World(folder, storage, skew)
        stack.callback(made.close)
        made.start()
        yield made
