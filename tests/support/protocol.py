"""What a bucket must keep, as checks that run against any of them: in the tests, and by hand with `make try-bucket`."""

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from workers.bucket.protocol import Bucket, MissingObject
from workers.errors import BucketUnavailable

_KIND = "application/octet-stream"
ODD_NAMES = [
    "%2Ehidden",
    "%2E%2E",
    "100%25",
    "@7",
    "a b",
    "a%2Fb",
    "a+b",
    "a~b",
    "key@2",
    "key@0123456789abcdef0123456789abcdef",
    "%C3%BC",
    "%F0%9F%98%80",
    "con",
    "key",
    "key.",
    "x" * 193,
    "'()*!",
    "trailing%20",
]


def _is_got_as_it_was_put(bucket: Bucket) -> None:
    for data in (b"one", b"", b"two!"):
        bucket.put("b1/a", data, _KIND)
        assert bucket.get("b1/a") == data
        assert bucket.size("b1/a") == len(data)
    assert b"".join(bucket.read("b1/a")) == b"two!"


def _is_none_where_missing(bucket: Bucket) -> None:
    bucket.put("b1/outputs/a.json", b"{}", _KIND)
    for name in ("b2/batch.json", "b1", "b1/outputs", "b1/outputs/a.json/b"):
        assert bucket.get(name) is None, name
        assert bucket.size(name) is None, name
    for use in (lambda: next(bucket.read("b1/no")), lambda: bucket.copy("b1/no", "b1/here", _KIND)):
        with suppress(MissingObject):
            use()
            raise AssertionError("no MissingObject")


def _keeps_names_as_they_are(bucket: Bucket) -> None:
    names = [f"b1/outputs/{name}.json" for name in ODD_NAMES]
    for number, name in enumerate(names):
        bucket.put(name, b"%d" % number, _KIND)
    assert sorted(name for name, _ in bucket.list("b1")) == sorted(names)
    assert [bucket.get(name) for name in names] == [b"%d" % number for number in range(len(names))]
    for number, name in enumerate(names):
        bucket.copy(name, f"{name}.copied", _KIND)
        assert bucket.get(f"{name}.copied") == b"%d" % number, name
    bucket.delete(names)
    assert len(list(bucket.list("b1"))) == len(names)


def _creates_once(bucket: Bucket) -> None:
    assert bucket.create("b1/batch.json", b"one", _KIND)
    assert not bucket.create("b1/batch.json", b"two", _KIND)
    assert bucket.get("b1/batch.json") == b"one"


def _creates_once_among_many_at_once(bucket: Bucket) -> None:
    for number in range(6):
        name = f"b{number}/batch.json"
        won = _at_once(lambda data, name: bucket.create(name, data, _KIND), name)
        assert won.count(True) == 1, f"{won.count(True)} of {len(won)} succeeded"
        assert bucket.get(name) == b"%d" % won.index(True)


def _replaces_what_was_seen(bucket: Bucket) -> None:
    assert not bucket.replace("b1/batch.json", b"", b"new", _KIND)
    assert bucket.get("b1/batch.json") is None
    bucket.put("b1/batch.json", b"one", _KIND)
    assert not bucket.replace("b1/batch.json", b"other", b"new", _KIND)
    assert bucket.replace("b1/batch.json", b"one", b"two", _KIND)
    assert not bucket.replace("b1/batch.json", b"one", b"three", _KIND)
    assert bucket.get("b1/batch.json") == b"two"


def _replaces_once_among_many_at_once(bucket: Bucket) -> None:
    for number in range(3):
        name = f"b{number}/batch.json"
        bucket.put(name, b"old", _KIND)
        won = _at_once(lambda data, name: bucket.replace(name, b"old", data, _KIND), name)
        assert won.count(True) == 1, f"{won.count(True)} of {len(won)} succeeded"
        assert bucket.get(name) == b"%d" % won.index(True)


def _at_once(call: Callable[[bytes, str], bool], name: str) -> list[bool]:
    def tried(number: int) -> bool:
        for _ in range(5):
            with suppress(BucketUnavailable):  # A conflict that says "try again".
                return call(b"%d" % number, name)
        return False

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(tried, range(8)))


def _writes_in_pieces(bucket: Bucket) -> None:
    for megabytes in (0, 1, 8, 21):
        with bucket.writer("b1/raw", _KIND) as writer:
            for number in range(megabytes):
                writer.write(bytes([number]) * (1 << 20))
        assert bucket.size("b1/raw") == megabytes << 20
    expected = b"".join(bytes([number]) * (1 << 20) for number in range(21))
    for start in (0, 9_000_000, (21 << 20) - 1, 21 << 20):
        assert b"".join(bucket.read("b1/raw", start=start)) == expected[start:], start


def _leaves_nothing_of_a_write_that_fails(bucket: Bucket) -> None:
    for megabytes in (1, 21):
        with suppress(LookupError), bucket.writer("b1/raw", _KIND) as writer:
            for _ in range(megabytes):
                writer.write(bytes(1 << 20))
            raise LookupError
    assert list(bucket.list("")) == []


def _copies(bucket: Bucket) -> None:
    bucket.put("_work/b1/a", b"one", _KIND)
    for _ in range(2):
        bucket.copy("_work/b1/a", "b1/deep/a", _KIND)
    bucket.put("_work/b1/a", b"other", _KIND)
    assert bucket.get("b1/deep/a") == b"one"
    bucket.copy("_work/b1/a", "b1/deep/a", _KIND)
    bucket.delete_tree("_work/b1")
    assert bucket.get("b1/deep/a") == b"other"


def _lists_and_deletes_more_than_a_page(bucket: Bucket) -> None:
    with bucket.outputs("b1") as sink:
        for number in range(1100):
            sink.put(f"outputs/{number}.json", b"%d" % number, _KIND)
    bucket.put("b10/a", b"1", _KIND)
    assert len(list(bucket.list("b1"))) == 1100
    names = [f"b1/outputs/{number}.json" for number in range(1100)]
    bucket.delete(["b1/missing", *names[:1000], "b9/missing"])
    bucket.delete(names[:10])
    assert len(list(bucket.list("b1"))) == 100
    bucket.delete_tree("b1")
    bucket.delete_tree("b7")
    assert list(bucket.list("")) == [("b10/a", 1)]


CHECKS: Mapping[str, Callable[[Bucket], None]] = {
    "is got as it was put": _is_got_as_it_was_put,
    "is none where missing": _is_none_where_missing,
    "keeps names as they are": _keeps_names_as_they_are,
    "creates once": _creates_once,
    "creates once among many at once": _creates_once_among_many_at_once,
    "replaces what was seen": _replaces_what_was_seen,
    "replaces once among many at once": _replaces_once_among_many_at_once,
    "writes in pieces, reads from any byte on": _writes_in_pieces,
    "leaves nothing of a write that fails": _leaves_nothing_of_a_write_that_fails,
    "copies": _copies,
    "lists and deletes more than a page": _lists_and_deletes_more_than_a_page,
}


def failures(bucket: Bucket, but: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """Each check (leaving out those named in `but`) with what is wrong, "" for nothing.

    In between, the bucket is emptied.
    """
    for name, check in CHECKS.items():
        if name in but:
            continue
        try:
            check(bucket)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and the others are tried too.
            yield name, f"{type(error).__name__}: {error}"
        else:
            yield name, ""
        bucket.delete([each for each, _ in bucket.list("")])
