"""Settings that change while `work` runs."""

from pathlib import Path

from tests.support.deployment import Deployment, result_line


def test_a_key_that_is_replaced_in_its_file_counts_without_a_restart(
    deployment: Deployment, tmp_path: Path
) -> None:
    first, second = (
        deployment.gemini.put_batch(result_line("a")),
        deployment.gemini.put_batch(result_line("a")),
    )
    key = tmp_path / "key"
    key.write_text(deployment.env.pop("GEMINI_API_KEY"))
    work = deployment.work("--workers", "1", GEMINI_API_KEY_FILE=str(key))
    deployment.run("replay", first, "--force")
    deployment.wait_for_commit(first)

    deployment.gemini.set(api_key="another-key")
    key.write_text("refused")
    work.wait_for_output("event=project_left_out project=default reason=.*refused the API key")
    key.write_text("another-key")
    work.wait_for_output("event=project_taken_on")

    deployment.run("replay", second, "--force")
    deployment.wait_for_commit(second)
    assert work.stop() == 0
