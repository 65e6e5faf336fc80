"""How often a key was seen before, in few bytes a key: what numbers repeated keys across a whole result file."""

from hashlib import blake2b
from struct import iter_unpack

DIGEST_BYTES = 16
NO_KEY = bytes(DIGEST_BYTES)

_KEYS_A_BUCKET = 128  # Larger buckets take less memory, smaller ones less time.


def digest(key: str, *, ignores_case: bool = False) -> bytes:
    """16 bytes that stand for a key; where the bucket ignores case, the same ones for keys that differ only in it."""
    if ignores_case:
        key = key.lower()
    return blake2b(key.encode(), digest_size=DIGEST_BYTES).digest()


class KeyCounter:
    """Numbers the occurrences of keys, told as 16-byte digests.

    A hash table whose buckets are byte strings of digests, searched at the speed of memory: about 22 bytes a key,
    where a set of the same digests takes about 120. The few keys that repeat stand in a dict.
    """

    def __init__(self, kept: int = DIGEST_BYTES) -> None:
        """`kept`: how many bytes of each digest are looked at.

        Of ten, and so in 14 bytes a key, two of ten million keys are taken for one with a chance of 1 in 10**10.
        """
        self._kept = kept
        self._none = NO_KEY[:kept]
        self._told, self._held = f"{kept}s{DIGEST_BYTES - kept}x", f"{kept}s"
        self._buckets = [bytearray()]
        self._bytes = 0
        self._repeats: dict[bytes, int] = {}

    def number(self, digests: bytes) -> dict[int, int]:
        """Count digests that stand side by side; `NO_KEY` stands for a line without a key.

        Returns the occurrence (2, 3, …) of each position that repeats a key counted before, in this call or an
        earlier one. Positions that are not in it are first occurrences.

        Raises:
            ValueError: not a whole number of digests.
        """
        if len(digests) % DIGEST_BYTES:
            raise ValueError("not a whole number of digests")
        self._make_room(len(digests))
        buckets, repeats, kept, none = self._buckets, self._repeats, self._kept, self._none
        mask = len(buckets) - 1
        numbered: dict[int, int] = {}
        for position, (each,) in enumerate(iter_unpack(self._told, digests)):
            if each == none:
                continue
            bucket = buckets[hash(each) & mask]
            at = bucket.find(each)
            while at % kept and at > 0:  # Between two digests.
                at = bucket.find(each, at + 1)
            if at < 0:
                bucket += each
            else:
                repeats[each] = numbered[position] = repeats.get(each, 1) + 1
        return numbered

    def _make_room(self, more: int) -> None:
        """Have as many buckets, a power of two, as `more` bytes want. Moved one by one, nothing is held twice."""
        self._bytes += more  # Also what repeats, which needs no room; that does no harm.
        size = 1 << (self._bytes // (DIGEST_BYTES * _KEYS_A_BUCKET)).bit_length()
        if size <= len(self._buckets):
            return
        old, self._buckets = self._buckets, [bytearray() for _ in range(size)]
        while old:
            for (each,) in iter_unpack(self._held, old.pop()):
                self._buckets[hash(each) & (size - 1)] += each
