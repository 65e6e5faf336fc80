"""Bodies that come compressed although plain ones were asked for: the same bytes, however they are cut."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import GeminiUnavailable
from workers.gemini.encoding import decoded, is_plain


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(content) + packer.flush()


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("X-GZIP", gzip.compress),
    ("deflate", zlib.compress),
    ("Deflate", raw_deflate),
]


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(1, 3000), st.sampled_from(PACKERS))
def test_what_was_packed_comes_out_however_it_is_cut(
    content: bytes, size: int, times: int, packer: tuple[str, Callable[[bytes], bytes]]
) -> None:
    name, pack = packer

    assert b"".join(decoded(pieces(pack(content * times), size), name)) == content * times


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.integers(1, 50), st.integers(0, 20))
def test_gzip_may_have_several_members_and_zeros_behind_them(
    members: list[bytes], size: int, zeros: int
) -> None:
    packed = b"".join(map(gzip.compress, members)) + bytes(zeros)

    assert b"".join(decoded(pieces(packed, size), "gzip")) == b"".join(members)


def test_nothing_is_nothing() -> None:
    assert list(decoded(iter([]), "gzip")) == []


@pytest.mark.parametrize(("name", "pack"), PACKERS)
@pytest.mark.parametrize("left", [1, 2, 9, 40])
def test_what_is_cut_is_given_as_far_as_it_goes_and_is_no_end(
    name: str, pack: Callable[[bytes], bytes], left: int
) -> None:
    content = b"".join(str(number).encode() for number in range(10_000))

    got = b""
    with pytest.raises(GeminiUnavailable, match="compressed"):  # noqa: PT012
        for piece in decoded(pieces(pack(content)[:-left], 100), name):
            got += piece

    assert content.startswith(got)
    assert len(got) > 30_000


@pytest.mark.parametrize(
    ("name", "body"),
    [
        *(("gzip", b"plain"), ("deflate", b"\xff plain"), ("gzip", gzip.compress(b"a", mtime=0) + b"more")),
        ("deflate", zlib.compress(b"a") + b"more"),
        ("gzip", gzip.compress(b"a" * 1000, mtime=0)[:-8] + b"wrongsum"),
    ],
)
def test_what_is_not_packed_as_it_says_can_heal(name: str, body: bytes) -> None:
    with pytest.raises(GeminiUnavailable, match="compressed"):
        list(decoded(iter([body]), name))


@pytest.mark.parametrize("name", ["br", "zstd", "gzip, gzip", "gzip, br"])
def test_other_encodings_are_not_known(name: str) -> None:
    with pytest.raises(GeminiUnavailable, match="compressed"):
        list(decoded(iter([b""]), name))


@pytest.mark.parametrize(("name", "plain"), [(None, True), ("", True), ("Identity", True), ("gzip", False)])
def test_no_encoding_is_plain(name: str | None, plain: bool) -> None:
    assert is_plain(name) is plain


def test_a_bomb_is_unpacked_piece_by_piece() -> None:
    bomb = gzip.compress(bytes(100_000_000))

    tracemalloc.start()
    assert sum(len(piece) for piece in decoded(iter([bomb]), "gzip")) == 100_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 5_000_000
