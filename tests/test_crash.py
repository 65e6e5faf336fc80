"""The enumeration of crashes and races, at some points of each kind; `make crash` takes all of them."""

import random
from pathlib import Path

import pytest

from tests.crash.__main__ import run, world
from tests.crash.harness import WAYS, Story
from tests.crash.kinds import KINDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_ends_the_same_wherever_a_worker_is_killed_or_overtaken(
    kind: str, way: str, tmp_path: Path
) -> None:
    with world(tmp_path) as here:
        points, troubles = run(here, kind, way, 4, random.Random(f"{kind} {way}"))

    assert troubles == []
    assert points == 4


@pytest.mark.parametrize("kind", ["failed", "many parts", "parquet"])
def test_a_batch_in_a_store_is_whole_or_visibly_not_done_after_whatever_request_a_worker_is_killed(
    kind: str, tmp_path: Path
) -> None:
    """`python -m tests.crash --storage s3` takes all of them."""
    with world(tmp_path, in_a_store=True) as here:
        points, troubles = run(here, kind, "killed", 12, random.Random(kind))

    assert troubles == []
    assert points == 12


def test_what_a_worker_leaves_undone_is_seen(tmp_path: Path) -> None:
    """Else the tests above could not fail."""
    with world(tmp_path) as here:
        story = Story(here, KINDS["many parts"], here.url("calm"))
        calls = story.count()
        story.put_right()
        whole = story.stored()
        assert story.trouble(whole) == []

        story.begin()
        story.in_a_child(calls.index("bucket.create") + 1)
        found = story.trouble(whole)

    assert "not in the bucket: crash/batch.json" in found
    assert any(sentence.startswith("left in Redis: ") for sentence in found)
    assert any(sentence.startswith("too many: _work/crash/") for sentence in found)
