"""What is particular to a folder: durability, what a killed writer leaves, full and forbidden disks."""

import errno
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from workers.bucket.folder import Folder
from workers.bucket.protocol import BucketRefused, DiskFull, NameTooLong
from workers.errors import BucketUnavailable, SettingsError, WorkerError

KIND = "application/json"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder((tmp_path / "bucket").as_uri())


def files(folder: Folder) -> list[str]:
    return sorted(str(path.relative_to(folder.root)) for path in folder.root.rglob("*"))


def in_a_child(script: str, *args: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A Python of its own; it says "ready" when it has come as far as it should."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", script, *args],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill_when_ready(child: subprocess.Popen[str]) -> None:
    with child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)


def test_a_missing_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    folder = Folder((tmp_path / "a" / "with space" / "c").as_uri())
    assert (tmp_path / "a" / "with space" / "c").is_dir()
    assert folder.url.endswith("/a/with%20space/c")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="something else"):
        Folder((tmp_path / "file").as_uri())


def test_files_are_named_as_the_objects_are(folder: Folder) -> None:
    folder.put("b1/outputs/a%2Fb@2~.json", b"{}", KIND)
    assert files(folder)[-1] == "b1/outputs/a%2Fb@2~.json"


def test_nothing_but_the_objects_stays_in_the_folder(folder: Folder) -> None:
    folder.put("_work/b1/state.json", b"{}", KIND)
    with folder.outputs("b1") as sink:
        sink.put("outputs/a.json", b"{}", KIND)
    assert not folder.ignores_case
    with pytest.raises(LookupError), folder.writer("b1/manifest.jsonl", KIND):
        raise LookupError
    folder.delete_tree("_work/b1")
    assert files(folder) == ["b1", "b1/outputs", "b1/outputs/a.json"]


def test_a_staged_file_is_no_object(folder: Folder) -> None:
    with folder.writer("b1/manifest.jsonl", KIND) as writer:
        writer.write(b"x")
        assert list(folder.list("")) == []
        assert folder.get("b1/manifest.jsonl") is None


def test_a_sweep_takes_what_a_killed_writer_left_and_spares_who_lives(folder: Folder) -> None:
    script = """
import sys
from workers.bucket.opening import open_bucket
with open_bucket(sys.argv[1], {}).writer("b1/raw/part-00000.jsonl", "") as writer:
    writer.write(bytes(3 << 20))
    print("ready", flush=True)
    sys.stdin.read()
"""
    kill_when_ready(in_a_child(script, folder.url))
    assert list(folder.list("")) == []
    assert len(list((folder.root / ".staging").iterdir())) == 1

    with folder.writer("b1/raw/part-00000.jsonl", KIND) as writer:
        assert folder.sweep_staging() == 1
        writer.write(b"alive")
    assert files(folder) == ["b1", "b1/raw", "b1/raw/part-00000.jsonl"]


def test_outputs_cut_short_by_a_kill_are_made_whole_by_the_next_run(folder: Folder) -> None:
    script = """
import os, sys
from workers.bucket.opening import open_bucket
real = os.write
def cut(file, data):
    real(file, data[:3])
    print("ready", flush=True)
    sys.stdin.read()
os.write = cut
with open_bucket(sys.argv[1], {}, concurrency=1).outputs("b1") as sink:
    for number in range(64):
        sink.put(f"outputs/{number}.json", b"whole document", "")
"""
    kill_when_ready(in_a_child(script, folder.url))
    assert list(folder.list("")) == [("b1/outputs/0.json", 3)]
    with folder.outputs("b1") as sink:
        for number in range(64):
            sink.put(f"outputs/{number}.json", b"whole document", KIND)
    assert {size for _, size in folder.list("")} == {14}
    assert len(list(folder.list("b1"))) == 64
    assert not (folder.root / ".staging").exists()


def test_an_output_that_is_right_already_is_not_written_again(folder: Folder) -> None:
    def write() -> os.stat_result:
        with folder.outputs("b1") as sink:
            sink.put("outputs/a.json", b"{}", KIND)
        return (folder.root / "b1" / "outputs" / "a.json").stat()

    first, second = write(), write()
    assert (first.st_ino, first.st_mtime_ns) == (second.st_ino, second.st_mtime_ns)


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_data_and_directories_are_synced_before_the_marker_is_renamed(folder: Folder, tmp_path: Path) -> None:
    script = """
import sys
from workers.bucket.opening import open_bucket
bucket = open_bucket(sys.argv[1], {})
with bucket.outputs("b1") as sink:
    sink.put("outputs/a.json", b"{}", "")
    sink.put("media/a/0.png", b"png", "")
bucket.put("b1/batch.json", b"{}", "")
"""
    trace = tmp_path / "trace"
    calls = "trace=openat,write,fsync,syncfs,rename,renameat,renameat2,mkdir,mkdirat,close"
    strace = ("strace", "-f", "-y", "-qq", "-e", calls, "-o", str(trace))
    with in_a_child(script, folder.url, prefix=strace) as child:
        assert child.wait(60) == 0
    text = re.sub(r"^\d+ +", "", trace.read_text(), flags=re.MULTILINE).replace(str(folder.root), "ROOT")

    def place(pattern: str) -> int:
        found = re.search(pattern, text, re.MULTILINE)
        assert found, f"{pattern} is not in\n{text}"
        return found.start()

    rename = r'^rename\("ROOT/\.staging/\w+", "ROOT/b1/batch\.json"\) += 0'
    order = [
        place(r"^write\(\d+<ROOT/b1/media/a/0\.png>"),
        place(r"^syncfs\(\d+<ROOT/b1>\) += 0|^syncfs\(\d+<ROOT/b1> <unfinished"),
        place(r"^write\(\d+<ROOT/\.staging/\w+>"),
        place(r"^fsync\(\d+<ROOT/\.staging/\w+>\) += 0"),
        place(rename),
        place(rename) + place_after(text, rename, r"^fsync\(\d+<ROOT/b1>\) += 0"),
        place(rename) + place_after(text, rename, r"^fsync\(\d+<ROOT>\) += 0"),
    ]
    assert order == sorted(order)


def place_after(text: str, start: str, pattern: str) -> int:
    found = re.search(start, text, re.MULTILINE)
    assert found
    later = re.search(pattern, text[found.start() :], re.MULTILINE)
    assert later, f"no {pattern} after {start}"
    return later.start()


def put_of_a_megabyte(folder: Folder) -> None:
    folder.put("b1/raw/part-00000.jsonl", bytes(1 << 20), KIND)


def writer_of_megabytes(folder: Folder) -> None:
    with folder.writer("b1/raw/part-00000.jsonl", KIND) as writer:
        for _ in range(5):
            writer.write(bytes(1 << 20))


def outputs_of_a_megabyte(folder: Folder) -> None:
    with folder.outputs("b1") as sink:
        for number in range(500):
            sink.put(f"outputs/{number}.json", bytes(1 << 20), KIND)


WRITES = [put_of_a_megabyte, writer_of_megabytes, outputs_of_a_megabyte]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", mount], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("only root may mount a small disk")
    yield mount
    subprocess.run(["umount", mount], check=True)


@pytest.mark.parametrize("write", WRITES)
def test_a_full_disk_is_said_in_one_sentence(small_disk: Path, write: Callable[[Folder], None]) -> None:
    folder = Folder(small_disk.as_uri())
    with pytest.raises(
        DiskFull, match=r"^No room left in file://[^\n]*: free space, then replay the batch\.$"
    ):
        write(folder)
    assert not (small_disk / ".staging").exists()
    assert folder.get("b1/raw/part-00000.jsonl") is None


@pytest.mark.parametrize("write", WRITES)
def test_a_limit_on_the_size_of_files_counts_as_no_room(
    folder: Folder, write: Callable[[Folder], None]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, hard))
    try:
        with pytest.raises(DiskFull):
            write(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [name for name, _ in folder.list("b1/raw")] == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EIO, errno.EMLINK, errno.EINVAL])
def test_without_hard_links_a_copy_has_bytes_of_its_own(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    folder.put("_work/b1/a", b"x" * 3_000_000, KIND)
    monkeypatch.setattr(os, "link", refuse)

    folder.copy("_work/b1/a", "b1/a", KIND)

    assert folder.get("b1/a") == b"x" * 3_000_000
    assert not (folder.root / "b1/a").samefile(folder.root / "_work/b1/a")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EIO, errno.EMLINK, errno.EINVAL])
def test_without_hard_links_an_object_is_created_once_all_the_same(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)

    assert folder.create("b1/batch.json", b"one", KIND)
    assert not folder.create("b1/batch.json", b"two", KIND)
    assert folder.get("b1/batch.json") == b"one"
    assert files(folder) == ["b1", "b1/batch.json"]


def test_a_copy_is_a_second_name_of_the_same_file(folder: Folder) -> None:
    folder.put("_work/b1/a", b"x", KIND)

    folder.copy("_work/b1/a", "b1/a", KIND)

    assert (folder.root / "b1/a").samefile(folder.root / "_work/b1/a")


@pytest.mark.parametrize(
    ("number", "kind"),
    [("EACCES", BucketRefused), ("EROFS", BucketRefused), ("EDQUOT", DiskFull), ("EIO", BucketUnavailable)],
)
def test_what_the_system_says_is_translated_once(
    folder: Folder, number: str, kind: type[WorkerError]
) -> None:
    code: int = getattr(__import__("errno"), number)
    with pytest.raises(kind, match=r"^[^\n]+\.$"), folder.translated():
        raise OSError(code, os.strerror(code))


def fail_on_directories(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    real = os.fsync

    def fsync(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_file_system_that_does_not_sync_directories_is_used_and_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fail_on_directories(monkeypatch, number)
    folder = Folder((tmp_path / "new" / "bucket").as_uri())
    folder.put("b1/a", b"1", KIND)
    folder.put("b1/b", b"1", KIND)
    folder.copy("b1/a", "b1/c", KIND)
    assert folder.create("b1/batch.json", b"1", KIND)
    assert folder.replace("b1/batch.json", b"1", b"2", KIND)
    assert len(list(folder.list("b1"))) == 4
    (remark,) = folder.remarks
    assert "power" in remark
    assert folder.url in remark


def test_a_directory_that_can_t_be_synced_for_another_reason_is_an_error(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on_directories(monkeypatch, errno.EIO)
    with pytest.raises(BucketUnavailable, match="Input/output error"):
        folder.put("b1/a", b"1", KIND)


def test_a_file_that_can_t_be_synced_is_an_error(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BucketUnavailable, match="Invalid argument"):
        folder.put("b1/a", b"1", KIND)


LONG = "b1/outputs/" + "x" * 300 + ".json"


@pytest.mark.parametrize(
    "use",
    [
        lambda folder: folder.put(LONG, b"1", KIND),
        lambda folder: folder.create(LONG, b"1", KIND),
        lambda folder: folder.copy("b1/a", LONG, KIND),
        lambda folder: write_output(folder, LONG.removeprefix("b1/")),
    ],
)
def test_a_name_that_is_too_long_for_the_file_system_is_final_and_says_which(
    folder: Folder, use: Callable[[Folder], object]
) -> None:
    folder.put("b1/a", b"1", KIND)
    with pytest.raises(NameTooLong, match=r"^outputs/x{20,}…? is too long a name for file://[^\n]*\.$"):
        use(folder)


def write_output(folder: Folder, name: str) -> None:
    with folder.outputs("b1") as sink:
        sink.put(name, b"1", KIND)


def test_a_file_system_of_short_names_is_named_before_a_key_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not Folder(tmp_path.as_uri()).remarks
    monkeypatch.setattr(os, "pathconf", lambda *_: 143)
    (remark,) = Folder(tmp_path.as_uri()).remarks
    assert "143" in remark


def test_links_below_work_are_not_followed_and_go_with_it(folder: Folder, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "precious").write_text("x")
    folder.put("_work/b1/parts/0.json", b"1", KIND)
    for place in ("_work/link", "_work/b1/link", "_work/b1/parts/link"):
        (folder.root / place).symlink_to(others)
    (folder.root / "_work/b1/itself").symlink_to(folder.root / "_work/b1")
    (folder.root / "_work/b1/dangling").symlink_to(tmp_path / "nowhere")

    assert not [name for name, _ in folder.list("") if "precious" in name]
    assert not [name for name, _ in folder.list("_work/link")]
    folder.delete_tree("_work/b1")
    folder.delete_tree("_work/link")
    assert files(folder) == []
    assert (others / "precious").read_text() == "x"


def test_a_batch_that_was_moved_to_another_disk_is_found_through_its_link(
    folder: Folder, tmp_path: Path
) -> None:
    folder.put("b1/outputs/a.json", b"1", KIND)
    (folder.root / "b1").rename(tmp_path / "moved")
    (folder.root / "b1").symlink_to(tmp_path / "moved")
    assert list(folder.list("b1")) == list(folder.list("")) == [("b1/outputs/a.json", 1)]


@pytest.mark.parametrize("write", WRITES)
def test_a_folder_that_has_gone_is_not_made_again(folder: Folder, write: Callable[[Folder], None]) -> None:
    folder.root.rmdir()
    with pytest.raises(BucketUnavailable):
        write(folder)
    assert not folder.root.exists()
