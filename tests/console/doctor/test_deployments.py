"""Deployments that are broken on purpose: `doctor` names the fault, and in none of them more than two others.

Where it names a command that mends it, the command is run, and the fault is gone.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.console.doctor.conftest import UNUSED_SECRET, Healthy
from tests.support.relay import Relay, Request, relay
from tests.support.scripted import Answer
from tests.support.waiting import wait_until

Settings = Mapping[str, str]
NOWHERE = "http://127.0.0.1:1"


class Case(NamedTuple):
    """`fault` is the check that has to name it, `says` a part of its sentence; `breaks` gives doctor's settings."""

    fault: str
    says: str
    breaks: Callable[[Healthy, ExitStack], Settings]
    options: Callable[[Healthy], tuple[str, ...]] = lambda _: ()


def with_settings(**settings: str) -> Callable[[Healthy, ExitStack], Settings]:
    return lambda _healthy, _stack: settings


def with_webhook(**fields: object) -> Callable[[Healthy, ExitStack], Settings]:
    def breaks(healthy: Healthy, _: ExitStack) -> Settings:
        healthy.change_webhook(**fields)
        return {}

    return breaks


def with_redis(name: str, value: str) -> Callable[[Healthy, ExitStack], Settings]:
    def breaks(healthy: Healthy, _: ExitStack) -> Settings:
        healthy.redis.config_set(name, value)
        return {}

    return breaks


def readable_by_all(healthy: Healthy, _: ExitStack) -> Settings:
    healthy.secret_file.chmod(0o644)
    return {}


def without_rights(healthy: Healthy, stack: ExitStack) -> Settings:
    healthy.redis.acl_setuser(
        "poor", enabled=True, nopass=True, keys="*", commands=["+@all", "-rpush", "-xadd"]
    )
    stack.callback(healthy.redis.acl_deluser, "poor")
    return {"REDIS_URL": healthy.env["REDIS_URL"].replace("redis://", "redis://poor:none@")}


def in_no_folder(healthy: Healthy, _: ExitStack) -> Settings:
    file = healthy.folder / "a-file"
    file.touch()
    return {"STORAGE_URL": f"{file.as_uri()}/bucket"}


def of_another_project(healthy: Healthy, stack: ExitStack) -> Settings:
    healthy.gemini.put_batch(b"", display_name="somebody-else's")
    del stack
    return {"BATCH_DISPLAY_NAME": "ours-*"}


def unregistered(healthy: Healthy, _: ExitStack) -> Settings:
    healthy.gemini.http.delete(f"/v1beta/webhooks/{healthy.webhook}").raise_for_status()
    return {}


def registered_twice(healthy: Healthy, _: ExitStack) -> Settings:
    healthy.gemini.create_webhook(healthy.url)
    return {}


def at_another_path(healthy: Healthy, _: ExitStack) -> Settings:
    healthy.change_webhook(uri=healthy.url.replace("/webhooks/", "/hooks/"))
    return {}


def with_another_secret(healthy: Healthy, _: ExitStack) -> Settings:
    healthy.secret_file.write_text(UNUSED_SECRET + "\n")
    return {}


def somebody_else_answers(healthy: Healthy, stack: ExitStack) -> Settings:
    other: Relay = stack.enter_context(relay())
    other.answer = lambda _: Answer(200, b"<html>Welcome!</html>")
    healthy.change_webhook(uri=f"{other.url}/webhooks/gemini")
    return {}


def more_is_public(healthy: Healthy, stack: ExitStack) -> Settings:
    """A proxy that passes on what it should not."""
    upstream, _, path = healthy.url.partition("/webhooks/")
    proxy: Relay = stack.enter_context(relay(upstream))
    proxy.answer = lambda asked: Answer(200, b"secrets") if asked.method == "GET" else None
    healthy.change_webhook(uri=f"{proxy.url}/webhooks/{path}")
    return {}


def an_hour_ahead(healthy: Healthy, stack: ExitStack) -> Settings:
    """Gemini's clock is, as it is seen from here."""
    between: Relay = stack.enter_context(relay(healthy.gemini.url))

    def later(asked: Request) -> Answer:
        answer = between.forward(asked)
        date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
        return Answer(answer.status, answer.body, {**answer.headers, "Date": date})

    between.answer = later
    return {"GOOGLE_GEMINI_BASE_URL": between.url}


def without_workers(_healthy: Healthy, _stack: ExitStack) -> Settings:
    return {"QUEUE_PREFIX": "nobody-works-here", "RECONCILE_INTERVAL_SECONDS": "900"}


def long_ago(healthy: Healthy, _: ExitStack) -> Settings:
    healthy.reconciled(ago=86_400)
    return {}


EVENTS = ["batch.succeeded"]
CASES = {
    "a value of no kind": Case("settings", "PART_BYTES must be", with_settings(PART_BYTES="many")),
    "no bucket": Case("settings", "STORAGE_URL is not set", with_settings(STORAGE_URL="")),
    "no key": Case("settings", "GEMINI_API_KEY is not set", with_settings(GEMINI_API_KEY="")),
    "no form of a secret": Case(
        "settings",
        "not of the form whsec_",
        with_settings(WEBHOOK_SIGNING_SECRET="hush", WEBHOOK_SIGNING_SECRET_FILE=""),
    ),
    "no file of secrets": Case(
        "settings", "can't be read", with_settings(WEBHOOK_SIGNING_SECRET_FILE="/nowhere/secret")
    ),
    "a misspelt name": Case("settings", "STORAGE_URI is no setting of ours", with_settings(STORAGE_URI="x")),
    "a secret for all": Case("file modes", "Others than the owner may read", readable_by_all),
    "no Redis": Case("redis", "no connection", with_settings(REDIS_URL="redis://127.0.0.1:1/0")),
    "a Redis that forgets": Case("redis durability", "no append-only file", with_redis("appendonly", "no")),
    "a Redis that evicts": Case("redis memory", "allkeys-lru", with_redis("maxmemory-policy", "allkeys-lru")),
    "a Redis that is full": Case("redis memory", "nearly full", with_redis("maxmemory", "1mb")),
    "too few rights": Case("redis rights", "may not RPUSH, XADD", without_rights),
    "no folder": Case("bucket", "a-file", in_no_folder),
    "no such store": Case("bucket", "STORAGE_URL must be", with_settings(STORAGE_URL="ftp://somewhere")),
    "a key that is refused": Case(
        "api key", "refused the API key", with_settings(GEMINI_API_KEY="no-such-key")
    ),
    "a key of others": Case("api key", "display name like ours-*", of_another_project),
    "no webhook": Case(
        "webhook", "No webhook is registered", unregistered, lambda healthy: ("--url", healthy.url)
    ),
    "a disabled webhook": Case(
        "webhook state", "after failed deliveries", with_webhook(state="disabled_due_to_failed_deliveries")
    ),
    "too few events": Case("webhook events", "batch.failed", with_webhook(subscribed_events=EVENTS)),
    "two webhooks": Case("webhook url", "2 webhooks", registered_twice),
    "another path": Case("webhook url", "listens at /webhooks/gemini", at_another_path),
    "another secret": Case("webhook secret", "is not the one that", with_another_secret),
    "nobody at the address": Case(
        "public url", "can't be reached", with_webhook(uri=f"{NOWHERE}/webhooks/gemini")
    ),
    "somebody else at the address": Case("public url", "answers 200 to a post", somebody_else_answers),
    "too much at the address": Case("public url", "more than the webhook can be reached", more_is_public),
    "no keys of Google's": Case(
        "jwks",
        "does not answer",
        with_settings(WEBHOOK_DYNAMIC="on", WEBHOOK_JWKS_URL=f"{NOWHERE}/jwks.json"),
    ),
    "a wrong clock": Case("clock", "behind Gemini's", an_hour_ahead),
    "nobody works": Case("workers", "No pool of workers is alive", without_workers),
    "no reconcile": Case("reconcile", "1440 minutes ago", long_ago),
}
# What is left to a person: it takes root, or would go on for ever.
NOT_RUN = {"timedatectl set-ntp true", "batch-receiver work --workers 4"}


def test_there_is_nothing_to_say_about_a_deployment_without_a_fault(healthy: Healthy) -> None:
    checks = healthy.diagnose()

    assert healthy.bad(checks) == {}
    assert {name for name, check in checks.items() if check["status"] == "skipped"} == {"jwks"}


@pytest.mark.parametrize("name", CASES)
def test_the_fault_is_named_and_what_mends_it_does(healthy: Healthy, name: str) -> None:
    case = CASES[name]
    with ExitStack() as stack:
        settings = case.breaks(healthy, stack)
        checks = healthy.diagnose(*case.options(healthy), **settings)
        bad = healthy.bad(checks)

        assert case.says in bad.get(case.fault, ""), checks[case.fault]
        assert len(bad) <= 3, bad
        fix = checks[case.fault]["fix"]
        if fix and fix not in NOT_RUN:
            done = subprocess.run(
                ["sh", "-c", fix],
                env={**healthy.env, **settings},
                cwd=healthy.folder,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            mended = healthy.diagnose(*case.options(healthy), **settings)
            assert mended[case.fault]["status"] == "ok", mended[case.fault]


def test_there_are_at_least_twenty_of_them() -> None:
    assert len(CASES) >= 20


@contextmanager
def begun(command: str, env: Settings, folder: Path) -> Iterator[None]:
    """A command that goes on, and all that it starts."""
    process = subprocess.Popen(
        ["sh", "-c", f"exec {command}"],
        env=dict(env),
        cwd=folder,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def test_the_command_that_is_named_where_nobody_works_starts_workers(healthy: Healthy) -> None:
    settings = {"QUEUE_PREFIX": "somebody-works-here"}
    fix = healthy.diagnose(**settings)["workers"]["fix"]
    with begun(fix, {**healthy.env, **settings}, healthy.folder):
        wait_until(
            lambda: healthy.diagnose(**settings)["workers"]["status"] == "ok", seconds=60, what="workers"
        )
