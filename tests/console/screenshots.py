"""`python -m tests.console.screenshots FOLDER`: the pictures of the README, of a deployment that is made up."""

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import redis
from playwright.sync_api import expect

from emulator.demo.local_redis import local_redis
from tests.console.browsing import Tab, running_browser
from tests.console.conftest import Console
from tests.console.seeding import Seeds, lines
from tests.support.gemini import Gemini
from tests.support.processes import Process

PICTURES = (
    ("batches", "light", "/batches"),
    ("batch", "dark", "/batches/o08hk76gv328"),
    ("checks", "light", "/checks"),
)


def take(folder: Path) -> None:
    """Write the pictures into `folder`."""
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(local_redis(work / "redis", "--appendonly", "yes"))
        gemini = Gemini(work / "gemini.log", "--seconds", "0.1")
        stack.callback(gemini.close)
        seeds = Seeds(stack.enter_context(redis.Redis.from_url(url)))
        batch = gemini.put_batch(
            b"".join(lines(1240)), batch_id="o08hk76gv328", display_name="support-tickets"
        )
        bucket = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="results-")))
        env = {**gemini.env, "REDIS_URL": url, "STORAGE_URL": bucket.as_uri(), "PATH": os.environ["PATH"]}
        assert Process(["process", batch], env, work / "process.log").wait() == 0

        def start(*args: str, env: dict[str, str]) -> Process:
            process = Process([*args], {**env, **gemini.env}, work / f"{args[0]}.log")
            stack.callback(process.kill)
            return process

        gemini.create_webhook("http://127.0.0.1:8080/webhooks/gemini")
        workers = start("work", "--workers", "2", env=env)
        workers.wait_for_output("event=started")
        seeds.everything()
        seeds.committed(
            batch, ago=20, total=1245, failed=1, display_name="support-tickets", raw_bytes=500_000
        )
        console = Console(start, url, bucket)
        browser = stack.enter_context(running_browser())
        folder.mkdir(parents=True, exist_ok=True)
        for name, scheme, path in PICTURES:
            tab = Tab(browser, console.url, color_scheme=scheme)
            tab.open(path)
            expect(tab.page.locator("[data-badge=workers]")).to_be_visible()
            expect(tab.page.locator("#when[data-live]")).to_have_count(0, timeout=30_000)
            tab.page.screenshot(path=folder / f"{name}.png")


if __name__ == "__main__":
    take(Path(sys.argv[1]))
