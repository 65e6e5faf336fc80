"""Where everything of a batch stands in the bucket. Names are relative to `STORAGE_URL`."""

import re
import secrets

WORK = "_work"
OUTPUTS = "outputs"
MEDIA = "media"

JSON = "application/json"
JSON_LINES = "application/jsonl"
PARQUET = "application/vnd.apache.parquet"
BYTES = "application/octet-stream"

_TRIAL = re.compile(rf"({WORK}/_(?:probe/|try-)(?:(\d{{1,12}})-)?[^/]+)/")


def raw_part(part: int) -> str:
    """Relative to the batch's folder, as documents say it."""
    return f"raw/part-{part:05d}.jsonl"


def dataset_part(part: int) -> str:
    """Relative to the batch's folder."""
    return f"dataset/part-{part:05d}.parquet"


def inside(batch: str, name: str) -> str:
    return f"{batch}/{name}"


def summary(batch: str) -> str:
    """`batch.json`: its presence is the commit."""
    return f"{batch}/batch.json"


def manifest(batch: str) -> str:
    return f"{batch}/manifest.jsonl"


def index(day: str, batch: str) -> str:
    """The copy of `batch.json` by day of commit (`YYYY-MM-DD`, UTC)."""
    return f"_index/{day}/{batch}.json"


def work(batch: str) -> str:
    """What processing needs on the way; gone after the commit."""
    return f"{WORK}/{batch}"


def plan(batch: str) -> str:
    return f"{WORK}/{batch}/plan.json"


def source(batch: str) -> str:
    return f"{WORK}/{batch}/source.json"


def split(batch: str) -> str:
    """Present once the whole source is in `raw/`."""
    return f"{WORK}/{batch}/split.json"


def strays(batch: str) -> str:
    """Present once the batch's folder may hold objects that its results do not name."""
    return f"{WORK}/{batch}/strays.json"


def part(batch: str, number: int) -> str:
    """Present once this raw part is stored: what the fan-out and a restart need to know of it."""
    return f"{WORK}/{batch}/parts/{number:05d}.json"


def part_keys(batch: str, number: int) -> str:
    return f"{WORK}/{batch}/keys/{number:05d}.bin"


def part_manifest(batch: str, number: int, sha256: str) -> str:
    """Names the part's content, so that what was made of another source is never taken for it."""
    return f"{WORK}/{batch}/manifests/{number:05d}-{sha256[:16]}.jsonl"


def staged_dataset(batch: str, number: int, sha256: str) -> str:
    """Where a part's table waits for the commit."""
    return f"{WORK}/{batch}/dataset/{number:05d}-{sha256[:16]}.parquet"


def done_parts(batch: str) -> str:
    """The folder of `done` markers."""
    return f"{WORK}/{batch}/done"


def done(batch: str, number: int, sha256: str) -> str:
    """Present once a part's outputs, manifest and table are all stored."""
    return f"{WORK}/{batch}/done/{number:05d}-{sha256[:16]}.json"


def notices(batch: str | None = None) -> str:
    """The folder of commits that have to be told downstream, of one batch or of all."""
    return f"{WORK}/_notify/{batch}" if batch else f"{WORK}/_notify"


def notice(batch: str, revision: int) -> str:
    """Present until this revision was told downstream."""
    return f"{WORK}/_notify/{batch}/r{revision}.json"


def trial(now: float) -> str:
    """A folder in which to try what the bucket can do; its name says when that began, in seconds since 1970."""
    return f"{WORK}/_probe/{int(now)}-{secrets.token_hex(8)}"


def trial_of(name: str) -> tuple[str, float] | None:
    """The folder of a trial that the object `name` belongs to, and when it began; 0 where it does not say."""
    found = _TRIAL.match(name)
    return (found[1], float(found[2] or 0)) if found else None
