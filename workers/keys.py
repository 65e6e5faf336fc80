"""How often a key was seen before, in few bytes a key: what numbers repeated keys across a whole result file."""

from array import array
from hashlib import blake2b

DIGEST_BYTES = 16
NO_KEY = bytes(DIGEST_BYTES)

_SHARDS = 256
_FIRST_SLOTS = 16


def digest(key: str, *, ignores_case: bool = False) -> bytes:
    """16 bytes that stand for a key; where the bucket ignores case, the same ones for keys that differ only in it."""
    if ignores_case:
        key = key.lower()
    return blake2b(key.encode(), digest_size=DIGEST_BYTES).digest()


class KeyCounter:
    """Numbers the occurrences of keys, told as 16-byte digests.

    Open addressing over arrays of 64-bit words, in shards that grow one at a time: at most 32 bytes a key, where a
    set of the same digests takes about 120. The few keys that repeat stand in a dict.
    """

    def __init__(self) -> None:
        self._shards = [_Shard() for _ in range(_SHARDS)]
        self._repeats: dict[int, int] = {}

    def number(self, digests: bytes) -> dict[int, int]:
        """Count digests that stand side by side; `NO_KEY` stands for a line without a key.

        Returns the occurrence (2, 3, …) of each position that repeats a key counted before, in this call or an
        earlier one. Positions that are not in it are first occurrences.

        Raises:
            ValueError: not a whole number of digests.
        """
        if len(digests) % DIGEST_BYTES:
            raise ValueError("not a whole number of digests")
        words = array("Q", digests)
        shards, repeats = self._shards, self._repeats
        numbered: dict[int, int] = {}
        for position, (low, high) in enumerate(zip(words[::2], words[1::2], strict=True)):
            if not high:
                if not low:
                    continue
                high = 1  # noqa: PLW2901 - 0 marks an empty slot
            shard = shards[low % _SHARDS]
            highs, lows, size = shard.highs, shard.lows, shard.size
            slot = high % size
            while highs[slot]:
                if highs[slot] == high and lows[slot] == low:
                    key = high << 64 | low
                    repeats[key] = numbered[position] = repeats.get(key, 1) + 1
                    break
                slot = slot + 1 if slot + 1 < size else 0
            else:
                highs[slot], lows[slot] = high, low
                shard.room -= 1
                if not shard.room:
                    shard.grow()
        return numbered


class _Shard:
    __slots__ = ("highs", "lows", "room", "size")

    def __init__(self) -> None:
        self._allocate(_FIRST_SLOTS)

    def _allocate(self, size: int) -> None:
        self.size = size
        self.room = size * 4 // 5
        self.lows = array("Q", bytes(8 * size))
        self.highs = array("Q", bytes(8 * size))

    def grow(self) -> None:
        old = zip(self.lows, self.highs, strict=True)
        self._allocate(self.size * 3 // 2)
        lows, highs, size = self.lows, self.highs, self.size
        for low, high in old:
            if high:
                slot = high % size
                while highs[slot]:
                    slot = slot + 1 if slot + 1 < size else 0
                highs[slot], lows[slot] = high, low
                self.room -= 1
