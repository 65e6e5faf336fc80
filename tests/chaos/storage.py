"""Where the batches of a run go: a folder, or a store that may be killed, filled, or cut off."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from tests.chaos.schedule import Fault
from tests.support.relay import SILENCE, Relay, Request, relay
from tests.support.s3 import Weed, weed_server
from tests.support.scripted import Answer
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket

DISTURBED, CALM = "bucket", "calm"

_DISK_MB = 256


class InFolder:
    """Two folders."""

    env: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, name: str) -> str:
        return (self._folder / name).as_uri()

    def bucket(self, name: str) -> Bucket:
        return open_bucket(self.url(name), {})

    def left_over(self) -> str | None:
        """What there should not be in the end."""
        folders = (self._folder / DISTURBED / name for name in ("_work", ".staging"))
        return next((folder.name for folder in folders if folder.exists()), None)

    def copied(self, name: str) -> Path:
        """A folder with every object."""
        return self._folder / name

    def strike(self, fault: Fault, force: float) -> bool:
        """Nothing but stores can be struck like this."""
        raise AssertionError((fault, force))

    def calm_down(self) -> int:
        return 0


class InStore:
    """Two prefixes of a bucket on SeaweedFS, behind a relay. `env` goes through the relay, `bucket` past it."""

    def __init__(self, folder: Path, weed: Weed, between: Relay, disk: Path | None) -> None:
        self._folder = folder
        self._weed = weed
        self._between = between
        self._disk = disk
        self._to_cut = self._cut = 0
        self._disturbed = self.bucket(DISTURBED)
        between.answer = self._answer
        self.env: Mapping[str, str] = {**weed.s3.env, "AWS_ENDPOINT_URL": between.url}

    def url(self, name: str) -> str:
        return f"{self._weed.s3.url}/{name}"

    def bucket(self, name: str) -> Bucket:
        return open_bucket(self.url(name), self._weed.s3.env)

    def left_over(self) -> str | None:
        return next((name for name, _ in self._disturbed.list("_work")), None)

    def copied(self, name: str) -> Path:
        bucket, folder = self.bucket(name), self._folder / f"copy of {name}"
        for each, _ in bucket.list(""):
            path = folder / each
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bucket.get(each) or b"")
        return folder

    def strike(self, fault: Fault, force: float) -> bool:
        """Returns when the store is as before; connections are cut afterwards, and counted in `calm_down`."""
        if fault is Fault.STORE_KILLED:
            self._restart(5 * force)
        elif fault is Fault.STORE_FULL:
            return self._fill(2 + 8 * force)
        else:
            self._to_cut += round(10 + 60 * force)
        return True

    def calm_down(self) -> int:
        """No more cuts; how many there were."""
        self._to_cut = 0
        return self._cut

    def _restart(self, seconds: float) -> None:
        self._weed.kill()
        time.sleep(seconds)
        self._weed.start()

    def _fill(self, seconds: float) -> bool:
        if self._disk is None:
            return False
        ballast = self._disk / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file:
                while file.write(bytes(1 << 20)):
                    pass
        except OSError:
            time.sleep(seconds)
        ballast.unlink()
        # As its operator has to: goleveldb, where it keeps names, repeats the error of a full disk until it is opened
        # anew (syndtr/goleveldb #196), so that some folders could be written again and others never.
        self._restart(0.0)
        return True

    def _answer(self, request: Request) -> Answer | None:
        """Of two requests that are cut one has never come, and of the other the answer gets lost."""
        if not self._to_cut:
            return None
        self._to_cut, self._cut = self._to_cut - 1, self._cut + 1
        if self._to_cut % 2:
            return SILENCE
        whole = self._between.forward(request)
        return replace(whole, cut=len(whole.body) // 2) if whole.body else SILENCE


Storage = InFolder | InStore


@contextmanager
def in_store(folder: Path) -> Iterator[InStore]:
    """A store that ends with the block; its own files stand elsewhere, on a small disk where one may be mounted."""
    place = Path(tempfile.mkdtemp(prefix="store-"))
    options = ["-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(place)]
    has_disk = not subprocess.run(["mount", *options], check=False, capture_output=True).returncode
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        if has_disk:
            stack.callback(lambda: subprocess.run(["umount", place], check=True))
        weed = stack.enter_context(weed_server(place))
        stack.callback(shutil.copy, weed.log, folder / "logs" / "weed.log")
        between = stack.enter_context(relay(weed.s3.endpoint))
        yield InStore(folder, weed, between, place if has_disk else None)
