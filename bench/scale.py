"""How much is measured: all of it, or a smoke run."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scale:
    """Amounts of keys, rounds and seconds. `disk` and `ram` are folders for what is written, `ram` maybe missing."""

    disk: Path
    ram: Path | None
    rounds: int = 3
    folder_keys: int = 100_000
    s3_keys: int = 20_000
    boto3_keys: int = 2_000
    scaling_keys: int = 10_000
    slow_keys: int = 3_000
    large_bytes: int | None = 2_000_000_000
    latency_batches: int = 40
    small_batches: int = 300
    load_seconds: float = 2.0


def quick(disk: Path, ram: Path | None) -> Scale:
    """Under a minute, and figures that mean little."""
    return Scale(
        disk=disk,
        ram=ram,
        rounds=1,
        folder_keys=3_000,
        s3_keys=1_000,
        boto3_keys=200,
        scaling_keys=1_000,
        slow_keys=200,
        large_bytes=None,
        latency_batches=5,
        small_batches=20,
        load_seconds=0.5,
    )
