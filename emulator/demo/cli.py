"""`batch-receiver demo`: the whole product on this machine, as processes, with the official SDK as its client."""

import importlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Self

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from emulator.demo import report as demo_report
from emulator.demo.jobs import EXAMPLES, Example, submit, write_requests
from emulator.demo.local_redis import NoRedisServerError, find_redis_server, free_port
from emulator.demo.processes import Broken, Processes
from emulator.demo.results import Landed, is_committed, look

_API_KEY = "demo-key"
_MARKER = ".batch-receiver-demo"
_RESULT_SECONDS = 60.0
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERRUPTED = 130
_LOG_LINES = 8


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Where the results go; emptied first if it is an earlier demo's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def demo(*, folder: Path, as_json: bool) -> None:
    """Show the whole flow on this machine, end to end.

    Starts Redis, a local Gemini, the receiver and two workers, submits the Batch API's own examples with `submit` and
    with the official SDK, and shows where each result landed. Needs no account, no key and no network.

    Example: batch-receiver demo --folder /tmp/demo-output
    """
    out = Console(stderr=as_json, highlight=False, soft_wrap=True)
    scratch = Path(tempfile.mkdtemp(prefix="batch-receiver-demo-"))
    keep = False
    try:
        _demonstrate(out, folder, scratch, as_json=as_json)
    except Broken as error:
        keep = _explain(error, scratch)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("Interrupted: all that the demo had started is stopped.", err=True)
        sys.exit(_INTERRUPTED)
    finally:
        if not keep:
            shutil.rmtree(scratch, ignore_errors=True)


def _demonstrate(out: Console, folder: Path, scratch: Path, *, as_json: bool) -> None:
    with _interruptible():
        _need_sdk()
        _empty(folder)
        with _Story(out) as story:
            landed = _play(story, folder, scratch)
    if as_json:
        click.echo(json.dumps(demo_report.document(folder, landed, story.seconds), indent=2))
    else:
        demo_report.show(out, folder, landed, story.seconds)
    missing = [sentence for each in landed for sentence in each.missing]
    if missing:
        raise Broken(*missing)


class _Story:
    """What the user sees while it happens: a line for each step done and, on a terminal, a bar below."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._begun = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=out,
            transient=True,
            auto_refresh=False,  # from the loops that wait: no thread, so processes can be started safely.
            disable=not out.is_terminal or out.is_dumb_terminal,
        )
        self._task = self._progress.add_task("Starting", total=len(EXAMPLES))

    def __enter__(self) -> Self:
        self._out.print(
            "[bold]batch-receiver demo[/]: all on this machine; no account, no key, no network.\n"
        )
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def tick(self) -> None:
        self._progress.refresh()

    def does(self, what: str) -> None:
        self._progress.update(self._task, description=what, refresh=True)

    def did(self, what: str, *, batches: int = 0) -> None:
        self._out.print(f"[dim]{self.seconds:5.1f} s[/]  {what}")
        self._progress.update(self._task, advance=batches, refresh=True)


def _play(story: _Story, folder: Path, scratch: Path) -> list[Landed]:
    processes = Processes(scratch, story.tick)
    try:
        gemini = _start(story, processes, folder, scratch)
        story.does("Submitting")
        batches = _submit_all(processes, gemini, folder, scratch)
        story.did(f"Submitted {len(batches)} batches, by `submit` and the SDK; webhooks do the rest.")
        story.does("Waiting for the bucket")
        _wait_for_commits(story, processes, folder, batches)
        _export(processes, folder, batches)
    finally:
        _stop(story, processes)
    return [look(folder, example, batch) for batch, example in batches.items()]


def _start(story: _Story, processes: Processes, folder: Path, scratch: Path) -> str:
    """Bring everything up; the local Gemini's URL.

    The receiver needs the secret that the registration gets, and the registration the receiver's URL: so the
    port is chosen first.
    """
    redis_port, port = free_port(), free_port()
    redis_url = f"redis://127.0.0.1:{redis_port}/0"
    redis = processes.start("Redis server", _redis_command(redis_port))
    emulator = processes.start_product("local Gemini", "emulator", "--port", "0", "--api-key", _API_KEY)
    gemini = processes.wait_until_said(emulator, r"listening on (http://\S+)")[1]
    processes.wait_until_said(redis, "(?i)ready to accept connections")
    story.did("Started Redis and a local Gemini.")

    access = {"GEMINI_API_KEY": _API_KEY, "GOOGLE_GEMINI_BASE_URL": gemini}
    secret = scratch / "whsec"
    url = f"http://127.0.0.1:{port}/webhooks/gemini"
    registration = processes.start_product(
        "registration", "register", "--url", url, "--secret-file", str(secret), settings=access
    )
    workers = processes.start_product(
        "workers",
        "work",
        "--workers",
        "2",
        settings={
            **access,
            "REDIS_URL": redis_url,
            "STORAGE_URL": folder.resolve().as_uri(),
            "RECONCILE_INTERVAL_SECONDS": "0",  # whatever arrives, a webhook has brought it.
        },
    )
    processes.wait_for_success(registration)
    story.did("Subscribed the receiver's URL; the signing secret is in a file.")

    receiver = processes.start_product(
        "receiver",
        "serve",
        "--port",
        str(port),
        settings={"REDIS_URL": redis_url, "WEBHOOK_SIGNING_SECRET_FILE": str(secret)},
    )
    processes.wait_until_said(receiver, "listening on http://")
    processes.wait_until_said(workers, "event=started")
    story.did("Started the receiver and two workers.")
    return gemini


def _redis_command(port: int) -> list[str]:
    try:
        server = find_redis_server()
    except NoRedisServerError as error:
        raise Broken(str(error)) from None
    return [server, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--daemonize", "no"]


def _submit_all(processes: Processes, gemini: str, folder: Path, scratch: Path) -> dict[str, Example]:
    """The examples by the id of their batch."""
    ours = {
        _submit(processes, example, gemini, folder, scratch): example
        for example in EXAMPLES
        if example.by_command
    }
    return ours | _submit_with_sdk(gemini, scratch)


def _submit(processes: Processes, example: Example, gemini: str, folder: Path, scratch: Path) -> str:
    """Make a batch of the example with the command `submit`; its id."""
    path = write_requests(example, scratch)
    submission = processes.start_product(
        "submission",
        *("submit", str(path), "--model", example.model, "--keep-input", "--json"),
        settings={
            "GEMINI_API_KEY": _API_KEY,
            "GOOGLE_GEMINI_BASE_URL": gemini,
            "STORAGE_URL": folder.resolve().as_uri(),
        },
    )
    processes.wait_for_success(submission)
    return processes.wait_until_said(submission, r'"batch":"(\w+)"')[1]


def _export(processes: Processes, folder: Path, batches: dict[str, Example]) -> None:
    """Make a table of what `submit` submitted."""
    for batch, example in batches.items():
        if example.by_command:
            bucket = folder.resolve()
            target = str(bucket / example.table)
            export = processes.start_product(
                *("export", "export", batch, "--format", "csv", "-o", target),
                settings={"STORAGE_URL": bucket.as_uri()},
            )
            processes.wait_for_success(export)


def _submit_with_sdk(gemini: str, scratch: Path) -> dict[str, Example]:
    genai: Any = importlib.import_module("google.genai")
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "GEMINI_"))]:
        del os.environ[name]  # the SDK would read the user's own project from them.
    options = {"base_url": gemini, "client_args": {"trust_env": False}}
    with genai.Client(api_key=_API_KEY, http_options=options) as client:
        try:
            others = [example for example in EXAMPLES if not example.by_command]
            return {submit(client, example, scratch): example for example in others}
        except (genai.errors.APIError, httpx.HTTPError) as error:
            raise Broken(f"The local Gemini did not take a batch: {error}.") from None


def _wait_for_commits(story: _Story, processes: Processes, folder: Path, batches: dict[str, Example]) -> None:
    """Until every batch has its `batch.json`, or for as long as is reasonable."""
    waiting = dict(batches)
    for _ in processes.polls(_RESULT_SECONDS):
        for batch in [batch for batch in waiting if is_committed(folder, batch)]:
            example = waiting.pop(batch)
            story.did(f"{example.display_name} is in the bucket.", batches=1)
        if not waiting:
            return
        processes.check()


def _stop(story: _Story, processes: Processes) -> None:
    """Not to be interrupted any more."""
    for number in _INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    try:
        story.does("Stopping")
    finally:
        processes.stop()


def _need_sdk() -> None:
    try:
        found = importlib.util.find_spec("google.genai")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise Broken("The official SDK is missing: pip install 'batch-receiver[demo]'.")


def _empty(folder: Path) -> None:
    """Make room for the results, at nobody's cost.

    Raises:
        Broken: the folder is somebody else's, or can't be written to.
    """
    marker = folder / _MARKER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = list(folder.iterdir())
        if found and marker not in found:
            raise Broken(
                f"{folder} holds something else than an earlier demo's results: choose another --folder."
            )
        for path in found:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != marker:
                path.unlink()
        marker.write_text("Results of `batch-receiver demo`, which empties this folder when it runs again.\n")
    except OSError as error:
        raise Broken(f"{folder} can't be used for the results: {error.strerror or error}.") from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """A closed terminal and SIGTERM end the demo as Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _explain(error: Broken, scratch: Path) -> bool:
    """Say what went wrong, and where the logs are; whether there are any."""
    for sentence in error.args:
        click.echo(f"Error: {sentence}", err=True)
    if error.log:
        for line in error.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]:
            click.echo(f"  {line}", err=True)
    (scratch / "whsec").unlink(missing_ok=True)
    if not any(scratch.iterdir()):
        return False
    click.echo(f"The logs are in {scratch}.", err=True)
    return True
