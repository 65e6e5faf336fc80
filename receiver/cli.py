"""`batch-receiver`: one command line, each subcommand loaded from the room that owns it only when it is called."""

import importlib
import sys

import click

from receiver.command_line import for_a_project, prepare, with_environment

# name: (where the click command stands, its line in --help). Loading lazily keeps the public edge free of the
# bucket and HTTP libraries that only the workers need.
COMMANDS = {
    "serve": ("receiver.app_cli:serve", "Run the webhook endpoint."),
    "register": ("receiver.registration.cli:register", "Subscribe a URL to Gemini's batch events, once."),
    "webhooks": ("receiver.registration.cli:webhooks", "List, get, ping, rotate or delete webhooks."),
    "work": ("workers.cli:work", "Run workers that fetch, fan out and commit batches."),
    "process": ("workers.cli:process", "Process one batch here and now, without Redis or workers."),
    "replay": ("workers.cli:replay", "Enqueue a batch again, also after it failed for good."),
    "forget": ("workers.cli:forget", "Remove a batch's jobs that wait or failed for good."),
    "status": (
        "workers.status_cli:status",
        "Show one batch, or what waits, runs, failed and was committed lately.",
    ),
    "reconcile": ("workers.cli:reconcile_now", "Enqueue batches that ended without our being told."),
    "verify": ("workers.verify.cli:verify_batch", "Check a batch in the bucket, and against your requests."),
    "console": ("console.cli:console", "Show the operations page, on this machine only."),
    "doctor": ("console.doctor.cli:doctor", "Look at everything that makes a deployment fail."),
    "check": ("sender.check_cli:check", "Check a request file before it is submitted."),
    "submit": ("sender.submit_cli:submit", "Make request files batches, exactly once."),
    "resubmit": ("sender.resubmit_cli:resubmit", "Submit again what has no good result."),
    "batches": ("sender.batches_cli:batches", "List, get, watch, cancel or delete batches."),
    "export": ("sender.export_cli:export", "Write batches in the bucket as one table."),
    "emulator": ("emulator.cli:emulator", "Run a local Gemini to develop and test against."),
    "demo": ("emulator.demo.cli:demo", "Show the whole flow on this machine, end to end."),
}


class LazyGroup(click.Group):
    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return with_environment(for_a_project(command, name), name)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="batch-receiver")
@click.pass_context
def main(context: click.Context) -> None:
    """Turn finished Gemini batches into files in your bucket.

    Settings come from the environment, and from a file .env in the working directory.

    Example: batch-receiver demo
    """
    prepare(context.invoked_subcommand or "")


if __name__ == "__main__":
    sys.exit(main())
