"""Every operation under every fault, at each of its requests in turn: what it says is what is then there, or it heals.

The fault strikes once, so most of it is tried again unseen; what is told is transient, and the next try gives what the
operation promises.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest

from tests.support.relay import SILENCE, Relay, Request, error, relay
from tests.support.scripted import Answer
from tests.support.stores import Store
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket
from workers.errors import Transient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KIND = "application/json"
OLD, NEW = b"old", b"the new one"
LARGE = bytes(range(256)) * (40 << 10)  # 10 MiB: more than one part.


@dataclass(frozen=True)
class Operation:
    """`before` is what there is, `after` what there must be; `act` returns what it says, `says` what that must be.

    A creation that is tried again finds what it had created: `again`, else as `says`.
    """

    act: Callable[[Bucket], object]
    before: Mapping[str, bytes]
    after: Mapping[str, bytes]
    says: object = None
    again: object = None


def put_some(bucket: Bucket) -> None:
    with bucket.outputs("b") as sink:
        for number in range(3):
            sink.put(f"{number}%2F.json", NEW, KIND)


def write(bucket: Bucket) -> None:
    with bucket.writer("b/x", KIND) as writer:
        writer.write(LARGE)


THREE = {f"b/{number}%2F.json": NEW for number in range(3)}
OPERATIONS = {
    "get": Operation(lambda bucket: bucket.get("b/x"), {"b/x": OLD}, {"b/x": OLD}, OLD),
    "get what is missing": Operation(lambda bucket: bucket.get("b/x"), {}, {}),
    "size": Operation(lambda bucket: bucket.size("b/x"), {"b/x": OLD}, {"b/x": OLD}, 3),
    "read": Operation(lambda bucket: b"".join(bucket.read("b/x")), {"b/x": OLD}, {"b/x": OLD}, OLD),
    "list": Operation(lambda bucket: sorted(bucket.list("b")), {"b/x": OLD}, {"b/x": OLD}, [("b/x", 3)]),
    "put": Operation(lambda bucket: bucket.put("b/x", NEW, KIND), {"b/x": OLD}, {"b/x": NEW}),
    "put many": Operation(put_some, {}, THREE),
    "write in pieces": Operation(write, {"b/x": OLD}, {"b/x": LARGE}),
    "create": Operation(
        lambda bucket: bucket.create("b/x", NEW, KIND), {}, {"b/x": NEW}, says=True, again=False
    ),
    "create what is there": Operation(
        lambda bucket: bucket.create("b/x", NEW, KIND), {"b/x": OLD}, {"b/x": OLD}, says=False
    ),
    "replace": Operation(
        lambda bucket: bucket.replace("b/x", OLD, NEW, KIND),
        {"b/x": OLD},
        {"b/x": NEW},
        says=True,
        again=False,
    ),
    "copy": Operation(
        lambda bucket: bucket.copy("b/x%2F", "b/y", KIND), {"b/x%2F": OLD}, {"b/x%2F": OLD, "b/y": OLD}
    ),
    "delete": Operation(
        lambda bucket: bucket.delete([*THREE, "b/missing"]), {**THREE, "b/x": OLD}, {"b/x": OLD}
    ),
    "delete a folder": Operation(lambda bucket: bucket.delete_tree("b"), {**THREE, "c/x": OLD}, {"c/x": OLD}),
}

Fault = Callable[[Relay, Request], Answer | None]


def answering(answer: Answer) -> Fault:
    return lambda *_: answer


def lost(between: Relay, request: Request) -> Answer:
    """It is done, and nobody hears of it."""
    between.forward(request)
    return SILENCE


def cut(between: Relay, request: Request) -> Answer:
    whole = between.forward(request)
    return replace(whole, cut=len(whole.body) // 2) if whole.body else SILENCE


def late(*_: object) -> None:
    time.sleep(0.03)


FAULTS: Mapping[str, Fault] = {
    "409": answering(error(409, "ConditionalRequestConflict")),
    "409, aborted": answering(error(409, "OperationAborted")),
    "412": answering(error(412, "PreconditionFailed")),
    "429": answering(error(429, "TooManyRequests")),
    "500": answering(error(500, "InternalError")),
    "501": answering(error(501, "NotImplemented")),
    "503": answering(error(503, "SlowDown")),
    "cut off before": answering(SILENCE),
    "cut off after": lost,
    "cut off in the answer": cut,
    "30 ms": late,
    "a page of something between": answering(Answer(200, b"<html>", {"Content-Type": "text/html"})),
}


def fill(bucket: Bucket, objects: Mapping[str, bytes]) -> None:
    bucket.delete([name for name, _ in bucket.list("")])
    for name, data in objects.items():
        bucket.put(name, data, KIND)


def found(bucket: Bucket) -> dict[str, bytes | None]:
    return {name: bucket.get(name) for name, _ in bucket.list("")}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    "kind",
    [
        "seaweedfs",
        "azurite",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("moto", "s3rver", "gcs")),
    ],
)
def test_an_operation_that_meets_a_fault_says_what_is_there_or_can_be_tried_again(
    kind: str, name: str, fault: str, stores: Callable[[str], Store]
) -> None:
    store, operation = stores(kind), OPERATIONS[name]
    url, strike = store.fresh_url(), FAULTS[fault]
    direct = open_bucket(url, store.env)
    with relay(store.endpoint) as between:
        # Azurite's address ends in the account.
        address = between.url + store.endpoint[len("http://127.0.0.1") :].partition("/")[2].join(["/", ""])
        env = {key: value.replace(store.endpoint, address.rstrip("/")) for key, value in store.env.items()}
        fill(direct, operation.before)
        assert operation.act(open_bucket(url, env)) == operation.says
        requests = len(between.asked)
        assert requests
        assert found(direct) == operation.after

        for number in range(1, requests + 1):
            fill(direct, operation.before)
            bucket = open_bucket(url, env)  # One that has not learned yet what the store lacks.
            between.answer = at(between, number, strike)
            tried = attempt(operation, bucket)
            between.answer = lambda _: None
            if isinstance(tried, Transient):
                assert re.fullmatch(r"[^\n]+\.", str(tried))
                assert "GenericError" not in str(tried)
                is_gradual = name in {"put many", "delete"} or (kind, name) == ("gcs", "delete a folder")
                assert found(direct) in (operation.before, operation.after) or is_gradual
                said = operation.act(bucket)
                assert said in (
                    operation.says,
                    operation.says if operation.again is None else operation.again,
                )
            else:
                assert tried == operation.says
            assert found(direct) == operation.after, number


def at(between: Relay, number: int, strike: Fault) -> Callable[[Request], Answer | None]:
    """The fault at the `number`-th request from now on, and at no other."""
    left = [number]

    def answer(request: Request) -> Answer | None:
        left[0] -= 1
        return strike(between, request) if left[0] == 0 else None

    return answer


def attempt(operation: Operation, bucket: Bucket) -> object:
    """What it says, or why it can't now."""
    try:
        return operation.act(bucket)
    except Transient as error:
        return error
