"""The workers' commands as a person meets them: exit codes, one sentence on trouble, one document with --json."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from redis import Redis

from emulator.demo.local_redis import free_port, start_redis
from receiver.cli import main
from tests.support.deployment import Deployment, result_line
from tests.support.gemini import API_KEY
from tests.support.queues import BATCHES, queue
from workers import contract
from workers.contract import Queues

COMMANDS = ["work", "process", "replay", "status"]
GOOD: dict[str, str | None] = {
    "GEMINI_API_KEY": API_KEY,
    "GOOGLE_API_KEY": None,
    "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1",
    "REDIS_URL": None,
    "STORAGE_URL": None,
}


def sentences(output: str) -> list[str]:
    return [line for line in output.splitlines() if line]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_and_needs_no_settings(command: str) -> None:
    shown = CliRunner().invoke(main, [command, "--help"], env=dict.fromkeys(GOOD))

    assert shown.exit_code == 0
    assert re.search(rf"Example: batch-receiver {command}\b", shown.output)


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        *[("work", name, "") for name in ("GEMINI_API_KEY", "STORAGE_URL")],
        ("work", "REDIS_URL", "http://127.0.0.1"),
        ("work", "PART_BYTES", "lots"),
        ("work", "OUTPUTS", "csv"),
        ("work", "FANOUT_CONCURRENCY", "0"),
        ("work", "RECONCILE_INTERVAL_SECONDS", "-1"),
        ("process", "GEMINI_API_KEY", ""),
        ("process", "STORAGE_URL", "ftp://example.com/x"),
        ("process", "STORAGE_URL", "file://host/path"),
        ("process", "GOOGLE_GEMINI_BASE_URL", "http://example.com"),
        ("process", "GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:port"),
        ("replay", "REDIS_URL", "nonsense"),
        ("replay", "REDIS_URL", "redis://127.0.0.1:port"),
        ("status", "STORAGE_URL", ""),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_it_and_exit_code_2(
    redis_url: str, tmp_path: Path, command: str, name: str, value: str
) -> None:
    arguments = [command] if command in {"work", "status"} else [command, "abc"]
    settings = {**GOOD, "REDIS_URL": redis_url, "STORAGE_URL": tmp_path.as_uri(), name: value}

    ended = CliRunner().invoke(main, arguments, env=settings)

    assert (ended.exit_code, ended.stdout) == (2, "")
    (line,) = sentences(ended.stderr)
    assert line.startswith("Error: ")
    assert name in line
    assert line.endswith(".")
    assert API_KEY not in line


@pytest.mark.parametrize("command", ["process", "replay", "status"])
@pytest.mark.parametrize("batch", ["../etc", "files/abc", "a b", "a" * 129])
def test_what_is_no_batch_is_wrong_usage(command: str, batch: str) -> None:
    ended = CliRunner().invoke(main, [command, batch], env=GOOD)

    assert ended.exit_code == 2
    assert "batches/<id> or the bare id" in ended.stderr


@pytest.mark.parametrize(
    "arguments", [["work", "--workers", "0"], ["process"], ["replay"], ["status", "a", "b"]]
)
def test_wrong_arguments_are_wrong_usage(arguments: list[str]) -> None:
    ended = CliRunner().invoke(main, arguments, env=GOOD)

    assert ended.exit_code == 2
    assert ended.stderr.startswith("Usage: ")


@pytest.mark.parametrize("arguments", [["replay", "abc"], ["status"]])
def test_a_redis_that_does_not_answer_is_named(tmp_path: Path, arguments: list[str]) -> None:
    away = f"redis://:hidden@127.0.0.1:{free_port()}/0"

    ended = CliRunner().invoke(
        main, arguments, env={**GOOD, "REDIS_URL": away, "STORAGE_URL": tmp_path.as_uri()}
    )

    assert (ended.exit_code, ended.stdout) == (2, "")
    (line,) = sentences(ended.stderr)
    assert "REDIS_URL" in line
    assert "hidden" not in line


def test_redis_may_listen_on_a_socket_file(deployment: Deployment, tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    deployment.gemini.put_batch(result_line("a"), batch_id="abc")
    server = start_redis(tmp_path / "redis", free_port(), "--unixsocket", str(socket))
    try:
        ended = deployment.run("replay", "abc", REDIS_URL=f"unix://{socket}")
    finally:
        server.terminate()
        server.wait()

    assert (ended.returncode, ended.output) == (0, "abc is enqueued.\n")


def test_a_batch_is_processed_in_the_foreground_without_redis(deployment: Deployment) -> None:
    batch = deployment.gemini.put_batch(result_line("a") + b"junk\n", stats={"requestCount": "2"})

    ended = deployment.run("process", f"batches/{batch}", REDIS_URL="redis://127.0.0.1:1/0")

    assert ended.returncode == 0
    first, warning = sentences(ended.output)[0], sentences(ended.output)[1:]
    assert first == f"{batch} committed: succeeded, 2 results (1 succeeded, 0 failed, 1 invalid)."
    assert any("1 lines are invalid" in line for line in warning)
    assert deployment.wait_for_commit(batch, seconds=0)["trigger"] == "process"


def test_processing_prints_the_summary_as_json_and_does_nothing_twice(deployment: Deployment) -> None:
    batch = deployment.gemini.put_batch(b"".join(result_line(n, "x" * 500) for n in range(100)))

    first = deployment.run("process", batch, "--json", PART_BYTES="20k")
    second = deployment.run("process", batch, "--json")

    assert (first.returncode, second.returncode) == (0, 0)
    assert json.loads(first.output) == deployment.wait_for_commit(batch, seconds=0)
    assert len(json.loads(first.output)["parts"]) > 2
    assert second.output == first.output


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        ("missing", "can't read the batch"),
        ("running", "the batch is running"),
        ("gone", "is gone"),
        ("unavailable", "503"),
        ("elsewhere", "BATCH_DISPLAY_NAME"),
    ],
)
def test_a_batch_that_can_not_be_processed_is_one_sentence_and_exit_code_1(
    deployment: Deployment, prepare: str, said: str
) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))
    settings = {}
    match prepare:
        case "missing":
            batch = "nobodys"
        case "running":
            deployment.gemini.change(batch, "RUNNING")
        case "gone":
            deployment.gemini.expire_output(batch)
        case "unavailable":
            deployment.gemini.fault("status", batch, value=503)
        case _:
            settings["BATCH_DISPLAY_NAME"] = "prod-*"

    ended = deployment.run("process", batch, "--json", **settings)

    assert ended.returncode == 1
    (line,) = sentences(ended.output)
    assert line.startswith("Error: ")
    assert said in line
    assert not (deployment.batch_folder(batch) / "batch.json").exists()


@pytest.mark.parametrize("arguments", [["process", "abc"], ["reconcile"], ["webhooks", "list"], ["work"]])
def test_a_refused_key_has_the_same_exit_code_in_every_command(
    deployment: Deployment, arguments: list[str]
) -> None:
    ended = deployment.run(*arguments, GEMINI_API_KEY="another-key")

    assert ended.returncode == 2
    assert "Gemini refused the API key (400), check GEMINI_API_KEY" in sentences(ended.output)[-1]


def test_a_batch_that_nobody_knows_is_not_replayed_unless_that_is_meant(
    deployment: Deployment, redis_client: Redis
) -> None:
    refused = deployment.run("replay", "mispselt")
    assert (refused.returncode, "may be misspelt" in refused.output) == (1, True)
    assert redis_client.keys() == []

    assert deployment.run("replay", "mispselt", "--force").output == "mispselt is enqueued.\n"
    assert deployment.run("replay", "mispselt").output == "mispselt waits or runs already.\n"
    assert len(deployment.gemini.requests("/batches/mispselt")) == 1


@pytest.mark.parametrize("why", ["away", "no key", "refused"])
def test_a_batch_is_replayed_where_gemini_can_not_be_asked(deployment: Deployment, why: str) -> None:
    settings = {
        "away": {"GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1"},
        "no key": {"GEMINI_API_KEY": ""},
        "refused": {"GEMINI_API_KEY": "another-key"},
    }
    assert deployment.run("replay", "abc", **settings[why]).output == "abc is enqueued.\n"


def test_a_replay_enqueues_a_batch_once(deployment: Deployment, redis_client: Redis) -> None:
    deployment.gemini.put_batch(result_line("a"), batch_id="abc")
    first, second = deployment.run("replay", "batches/abc"), deployment.run("replay", "abc", "--json")

    assert (first.returncode, first.output) == (0, "abc is enqueued.\n")
    assert second.returncode == 0
    assert json.loads(second.output) == {"batch": "abc", "status": "duplicate"}
    assert queue(redis_client, BATCHES).get_job_ids() == ["batch-receiver-batch-abc"]
    assert Queues(redis_client).announced("abc").triggers == {contract.Trigger.REPLAY}


def test_a_batch_is_forgotten_once_and_a_second_time_is_a_failure_with_its_document(
    deployment: Deployment,
) -> None:
    deployment.run("replay", "abc", "--force")
    first, second = deployment.run("forget", "abc", "--json"), deployment.run("forget", "abc", "--json")

    assert (first.returncode, json.loads(first.output)) == (0, {"batch": "abc", "forgotten": 1})
    assert second.returncode == 1
    error, document = sorted(sentences(second.output))
    assert json.loads(document) == {"batch": "abc", "forgotten": 0}
    assert error == "Error: There is no job of abc that waits or failed."
    plain = deployment.run("forget", "abc")
    assert (plain.returncode, sentences(plain.output)) == (1, [error])


def test_the_status_of_a_batch_is_shown_and_printed_as_json(deployment: Deployment) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))
    deployment.run("process", batch)

    shown, document = deployment.run("status", batch), deployment.run("status", batch, "--json")

    assert shown.returncode == document.returncode == 0
    assert shown.output.startswith(f"{batch}: committed\n")
    assert "1 results, 1 succeeded" in shown.output
    assert json.loads(document.output)["summary"]["counts"]["total"] == 1


def test_the_status_of_an_unknown_batch_is_a_failure_with_its_document(deployment: Deployment) -> None:
    ended = deployment.run("status", "abc", "--json")

    assert ended.returncode == 1
    document, error = sentences(ended.output)
    if document.startswith("Error"):
        document, error = error, document
    assert json.loads(document)["state"] == "unknown"
    assert "Nothing is known of abc" in error


def test_the_status_of_everything_is_shown_and_printed_as_json(deployment: Deployment) -> None:
    batch = deployment.gemini.put_batch(result_line("a"))
    deployment.run("process", batch)
    deployment.run("replay", "abc", "--force")

    shown, document = deployment.run("status"), deployment.run("status", "--json")

    assert shown.returncode == document.returncode == 0
    assert "waiting: 1\n  batch-receiver-batch-abc  waiting" in shown.output
    assert batch in shown.output
    found = json.loads(document.output)
    assert found["totals"] == {"waiting": 1, "running": 0, "failed": 0}
    assert [entry["batch"] for entry in found["committed"]] == [batch]
