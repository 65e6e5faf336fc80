"""What every bucket does alike: a folder and a real S3 server, and in the slow tests every other kind of server."""

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.s3 import S3
from tests.support.stores import Store
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket, MissingObject
from workers.errors import SettingsError

KIND = "application/octet-stream"
AWKWARD_NAMES = [
    "b1/outputs/%2Ehidden.json",
    "b1/outputs/100%25.json",
    "b1/outputs/@7.json",
    "b1/outputs/a b.json",
    "b1/outputs/a%2Fb.json",
    "b1/outputs/a~b.json",
    "b1/outputs/key@2.json",
    "b1/outputs/key@0123456789abcdef0123456789abcdef.json",
    "b1/outputs/%C3%BC.json",
]
BAD_NAMES = ["", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b", "/"]


SLOWLY = [pytest.param(name, marks=pytest.mark.slow) for name in ("moto", "s3rver", "azurite", "gcs")]


@pytest.fixture(params=["folder", "s3", *SLOWLY])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    if request.param == "folder":
        return open_bucket((tmp_path / "bucket").as_uri(), {})
    if request.param == "s3":
        s3: S3 = request.getfixturevalue("s3")
        return open_bucket(s3.fresh_url(), s3.env)
    store: Store = request.getfixturevalue("stores")(request.param)
    return open_bucket(store.fresh_url(), store.env)


def test_what_is_put_is_got_and_replaced_by_the_next_put(bucket: Bucket) -> None:
    bucket.put("b1/raw/part-00000.jsonl", b"one", KIND)
    assert bucket.get("b1/raw/part-00000.jsonl") == b"one"
    bucket.put("b1/raw/part-00000.jsonl", b"two!", KIND)
    assert bucket.get("b1/raw/part-00000.jsonl") == b"two!"
    assert bucket.size("b1/raw/part-00000.jsonl") == 4


def test_an_object_is_created_once_and_stays_as_it_was(bucket: Bucket) -> None:
    assert bucket.create("b1/batch.json", b"first", KIND)
    assert not bucket.create("b1/batch.json", b"second", KIND)
    assert bucket.get("b1/batch.json") == b"first"
    assert [name for name, _ in bucket.list("")] == ["b1/batch.json"]


def test_of_many_creations_at_once_one_succeeds(bucket: Bucket, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["bucket"] == "s3rver":
        pytest.skip("it ignores conditions, which is said at start")
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda n: bucket.create("b1/batch.json", b"%d" % n, KIND), range(8)))
    assert created.count(True) == 1
    assert bucket.get("b1/batch.json") == b"%d" % created.index(True)


def test_a_copy_stays_when_its_source_goes_or_changes(bucket: Bucket) -> None:
    bucket.put("_work/b1/a", b"one", KIND)
    bucket.put("_work/b1/b", b"two", KIND)
    bucket.copy("_work/b1/a", "b1/deep/a", KIND)
    bucket.copy("_work/b1/a", "b1/deep/a", KIND)
    bucket.copy("_work/b1/b", "b1/b", KIND)
    bucket.delete_tree("_work/b1")
    bucket.put("_work/b1/b", b"other", KIND)

    assert bucket.get("b1/deep/a") == b"one"
    assert bucket.get("b1/b") == b"two"
    assert sorted(name for name, _ in bucket.list("")) == ["_work/b1/b", "b1/b", "b1/deep/a"]


def test_a_copy_replaces_what_was_there(bucket: Bucket) -> None:
    bucket.put("b1/manifest.jsonl", b"old", KIND)
    bucket.put("_work/b1/new", b"new", KIND)

    bucket.copy("_work/b1/new", "b1/manifest.jsonl", KIND)

    assert bucket.get("b1/manifest.jsonl") == b"new"


def test_a_copy_of_what_is_missing_says_so(bucket: Bucket) -> None:
    with pytest.raises(MissingObject, match="_work/b1/nothing"):
        bucket.copy("_work/b1/nothing", "b1/here", KIND)

    assert list(bucket.list("")) == []


def test_what_is_missing_is_none_and_a_folder_is_no_object(bucket: Bucket) -> None:
    bucket.put("b1/outputs/a.json", b"{}", KIND)
    for name in ("b2/batch.json", "b1", "b1/outputs", "b1/outputs/a.json/b"):
        assert bucket.get(name) is None
        assert bucket.size(name) is None


def test_reading_what_is_missing_says_so(bucket: Bucket) -> None:
    with pytest.raises(MissingObject, match="b1/nothing"):
        next(bucket.read("b1/nothing"))


@pytest.mark.parametrize("start", [0, 1, 9_000_000, 9_999_999, 10_000_000, 11_000_000])
def test_an_object_is_read_in_pieces_from_any_byte_on(bucket: Bucket, start: int) -> None:
    data = bytes(range(250)) * 40_000
    bucket.put("b1/raw/part-00000.jsonl", data, KIND)
    pieces = list(bucket.read("b1/raw/part-00000.jsonl", chunk=700_000, start=start))
    assert b"".join(pieces) == data[start:]
    assert all(len(piece) <= 700_000 for piece in pieces)


def test_an_empty_object_is_an_object(bucket: Bucket) -> None:
    bucket.put("b1/manifest.jsonl", b"", KIND)
    assert bucket.get("b1/manifest.jsonl") == b""
    assert bucket.size("b1/manifest.jsonl") == 0
    assert list(bucket.read("b1/manifest.jsonl")) == []


@pytest.mark.parametrize("pieces", [0, 1, 3, 20])
def test_a_writer_stores_its_pieces_as_one_object(bucket: Bucket, pieces: int) -> None:
    data = bytes(range(256)) * 5_000
    with bucket.writer("b1/manifest.jsonl", KIND) as writer:
        for _ in range(pieces):
            writer.write(data)
        assert bucket.size("b1/manifest.jsonl") is None
    assert b"".join(bucket.read("b1/manifest.jsonl")) == data * pieces


@pytest.mark.parametrize("megabytes", [1, 30])
def test_a_writer_whose_block_fails_leaves_nothing(bucket: Bucket, megabytes: int) -> None:
    def write() -> None:
        with bucket.writer("b1/manifest.jsonl", KIND) as writer:
            for _ in range(megabytes):
                writer.write(bytes(1 << 20))
            raise OSError("of the caller")

    with pytest.raises(OSError, match="of the caller"):
        write()
    assert bucket.get("b1/manifest.jsonl") is None
    assert list(bucket.list("")) == []


def test_a_listing_holds_names_and_sizes_below_a_folder_sorted(bucket: Bucket) -> None:
    names = ["b1/a-x", "b1/a.json", "b1/a/z", "b1/a0", "b1/b/c/d", "b10/x", "b2/x", "_index/d/b1.json"]
    for size, name in enumerate(names):
        bucket.put(name, bytes(size), KIND)
    expected = sorted((name, size) for size, name in enumerate(names))
    assert sorted(bucket.list("")) == expected
    for prefix in ("b1", "b1/"):
        assert sorted(bucket.list(prefix)) == [item for item in expected if item[0].startswith("b1/")]
    assert list(bucket.list("b1/a")) == [("b1/a/z", 2)]
    assert list(bucket.list("b3")) == []


def test_names_are_kept_as_they_are(bucket: Bucket) -> None:
    for name in AWKWARD_NAMES:
        bucket.put(name, name.encode(), KIND)
    assert sorted(name for name, _ in bucket.list("b1")) == sorted(AWKWARD_NAMES)
    assert [bucket.get(name) for name in AWKWARD_NAMES] == [name.encode() for name in AWKWARD_NAMES]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_could_leave_its_place_is_refused(bucket: Bucket, name: str) -> None:
    uses: list[Callable[[], object]] = [
        lambda: bucket.get(name),
        lambda: bucket.size(name),
        lambda: next(bucket.read(name)),
        lambda: bucket.put(name, b"", KIND),
        lambda: bucket.writer(name, KIND).__enter__(),
        lambda: bucket.delete([name]),
        lambda: bucket.outputs(name).__enter__(),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="not an object's name"):
            use()
    for pair in ((name, "b1/a"), ("b1/a", name)):
        with pytest.raises(ValueError, match="not an object's name"):
            bucket.copy(*pair, KIND)
    with bucket.outputs("b1") as sink, pytest.raises(ValueError, match="not an object's name"):
        sink.put(name, b"", KIND)


def test_the_whole_bucket_is_never_deleted_as_a_tree(bucket: Bucket) -> None:
    with pytest.raises(ValueError, match="not an object's name"):
        bucket.delete_tree("")


def test_deleting_takes_what_is_there_and_minds_nothing_missing(bucket: Bucket) -> None:
    bucket.put("b1/a", b"1", KIND)
    bucket.put("b1/b", b"1", KIND)
    bucket.delete(["b1/missing", "b1/a", "b9/missing"])
    bucket.delete([])
    assert [name for name, _ in bucket.list("")] == ["b1/b"]


def test_deleting_a_tree_leaves_its_neighbours(bucket: Bucket) -> None:
    for name in ("_work/b1/state.json", "_work/b1/parts/x/y", "_work/b10/state.json"):
        bucket.put(name, b"1", KIND)
    bucket.delete_tree("_work/b1/")
    bucket.delete_tree("_work/b7")
    assert [name for name, _ in bucket.list("")] == ["_work/b10/state.json"]


def test_outputs_are_all_there_when_the_block_ends(bucket: Bucket) -> None:
    with bucket.outputs("b1") as sink:
        for number in range(300):
            sink.put(f"outputs/{number:03d}.json", str(number).encode(), KIND)
            sink.put(f"media/{number:03d}/0.png", b"png", KIND)
    assert len(list(bucket.list("b1/outputs"))) == len(list(bucket.list("b1/media"))) == 300
    assert bucket.get("b1/outputs/217.json") == b"217"


def test_outputs_written_again_end_as_the_last_run_wrote_them(bucket: Bucket) -> None:
    for documents in ([b"same", b"cut sh"], [b"same", b"cut short no more"], [b"same", b"less"]):
        with bucket.outputs("b1") as sink:
            for number, document in enumerate(documents):
                sink.put(f"outputs/{number}.json", document, KIND)
    assert sorted(bucket.list("")) == [("b1/outputs/0.json", 4), ("b1/outputs/1.json", 4)]
    assert bucket.get("b1/outputs/1.json") == b"less"


def test_two_sinks_may_write_the_same_at_once(bucket: Bucket) -> None:
    with bucket.outputs("b1") as one, bucket.outputs("b1") as other:
        for number in range(200):
            for sink in (one, other):
                sink.put(f"outputs/{number}.json", b"%d" % number * 500, KIND)
    assert [bucket.get(f"b1/outputs/{number}.json") for number in range(200)] == [
        b"%d" % number * 500 for number in range(200)
    ]
    assert len(list(bucket.list(""))) == 200


def test_a_block_of_outputs_that_fails_raises_its_own_error(bucket: Bucket) -> None:
    def write() -> None:
        with bucket.outputs("b1") as sink:
            sink.put("outputs/1.json", b"1", KIND)
            raise LookupError

    with pytest.raises(LookupError):
        write()


def test_large_outputs_stay_within_a_bound_of_memory(bucket: Bucket) -> None:
    if bucket.url.startswith("gs:"):
        pytest.skip("its server is in this process, and keeps everything in memory")
    tracemalloc.start()
    try:
        with bucket.outputs("b1") as sink:
            for number in range(40):
                sink.put(f"media/{number}/0.png", bytes([number]) * (5 << 20), KIND)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert len(list(bucket.list("b1"))) == 40


@pytest.mark.parametrize(
    "url", ["", "bucket", "ftp://host/x", "file://host/x", "file:x", "file:///x?y", "s3://", "s3:///prefix"]
)
def test_a_url_that_is_no_bucket_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^STORAGE_URL [^\n]*$"):
        open_bucket(url, {})


def test_credentials_in_the_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match="credentials") as caught:
        open_bucket("s3://key:hidden@bucket/prefix", {})
    assert "hidden" not in str(caught.value)
