"""Bodies of answers: small ones in memory, large ones in a file that has no name and ends with its last use."""

import gc
import tempfile
from array import array
from pathlib import Path

import pytest

from workers.errors import Transient
from workers.gemini.spool import Elements, Mapped, Spool

LARGE = bytes(range(256)) * 50_000
PIECES = [LARGE[at : at + 65_536] for at in range(0, len(LARGE), 65_536)]


def spooled(*pieces: bytes) -> Spool:
    spool = Spool()
    for piece in pieces:
        spool.write(piece)
    return spool


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_small_body_stays_in_memory() -> None:
    assert spooled().body() == b""
    assert spooled(b"ab", b"", b"c").body() == b"abc"


@pytest.mark.parametrize("pieces", [PIECES, [LARGE], [LARGE, b"", b"x"]])
def test_a_large_body_is_the_same_bytes_in_a_file(pieces: list[bytes]) -> None:
    body = spooled(*pieces).body()

    assert isinstance(body, Mapped)
    assert len(body) == len(b"".join(pieces))
    assert body.view[:] == b"".join(pieces)


def test_the_file_has_no_name_and_is_closed_with_its_last_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gc.collect()
    before = open_files()

    body = spooled(LARGE).body()
    assert list(tmp_path.iterdir()) == []
    assert isinstance(body, Mapped)
    elements = Elements(body, array("Q", [0, 3, 5, 6]))
    del body
    assert [bytes(element) for element in elements] == [LARGE[:3], LARGE[5:6]]
    del elements
    gc.collect()

    assert open_files() == before


def test_elements_are_counted_without_being_read_and_read_as_often_as_wanted() -> None:
    bounds = array("Q", [at for n in range(1000) for at in (n * 12_000, n * 12_000 + 12_000)])
    body = spooled(LARGE).body()
    assert isinstance(body, Mapped)

    elements = Elements(body, bounds)

    assert len(elements) == 1000
    for _ in range(2):
        assert b"".join(bytes(element) for element in elements) == LARGE[:12_000_000]
    assert not Elements(body, array("Q"))


def test_no_room_for_a_large_body_can_heal_and_says_where_room_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))

    with pytest.raises(Transient, match=r"No room .*full.*TMPDIR"):
        spooled(*PIECES)
