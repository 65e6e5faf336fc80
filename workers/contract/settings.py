"""The settings: each declared once, with its name, who reads it, what it may be, its default and one sentence.

The views of the processes, the tables of the documentation, `deploy/.env.example` and what `--help` says of the
environment come from here. `SETTINGS` has all of them, in the order in which they stand here and are shown.
"""

from collections.abc import Mapping
from typing import Any

from workers.contract.setting import kinds
from workers.contract.setting.reading import Setting

_AT_WORK = ("work", "process", "replay", "reconcile")
_KEY_IS_READ_BY = (*_AT_WORK, "register", "webhooks", "submit", "resubmit", "batches")

REDIS_URL = Setting(
    name="REDIS_URL",
    used_by=("serve", "work", "replay", "forget", "status", "reconcile", "console"),
    kind=kinds.redis_url(),
    default="redis://127.0.0.1:6379/0",
    about="Where Redis is: `redis://`, `rediss://`, `unix://`, or `redis+sentinel://host:port,host:port/service/0`",
    is_secret=True,
)
QUEUE_PREFIX = Setting(
    name="QUEUE_PREFIX",
    used_by=("serve", "work", "replay", "forget", "status", "reconcile", "console"),
    kind=kinds.prefix(),
    default="batch-receiver",
    about="What queues, job ids and keys in Redis begin with, so that a database can be shared",
)
WEBHOOK_SIGNING_SECRET = Setting(
    name="WEBHOOK_SIGNING_SECRET",
    used_by=("serve",),
    kind=kinds.text(),
    about="One or more signing secrets (`whsec_…`), separated by spaces",
    is_secret=True,
)
WEBHOOK_SIGNING_SECRET_FILE = Setting(
    name="WEBHOOK_SIGNING_SECRET_FILE",
    used_by=("serve",),
    kind=kinds.text(),
    about="The same from a file, one a line; a changed file is picked up within seconds, without a restart",
    project_key="signing_secret_file",
)
WEBHOOK_DYNAMIC = Setting(
    name="WEBHOOK_DYNAMIC",
    used_by=("serve",),
    kind=kinds.switch(),
    default="off",
    about="Whether to accept webhooks that a batch names itself, signed with Google's keys: `on` or `off`",
)
WEBHOOK_JWKS_URL = Setting(
    name="WEBHOOK_JWKS_URL",
    used_by=("serve",),
    kind=kinds.web_url(),
    default="https://generativelanguage.googleapis.com/.well-known/jwks.json",
    about="Where the public keys of dynamic webhooks are",
)
WEBHOOK_AUDIENCE = Setting(
    name="WEBHOOK_AUDIENCE",
    used_by=("serve",),
    kind=kinds.text(),
    about="The `aud` to demand of a JWT; without it no JWT is accepted",
)
WEBHOOK_PATH = Setting(
    name="WEBHOOK_PATH",
    used_by=("serve", "register"),
    kind=kinds.url_path(taken=frozenset({"/healthz", "/readyz"})),
    default="/webhooks/gemini",
    about="The path of the webhook's address",
    project_key="path",
)
WEBHOOK_TOLERANCE_SECONDS = Setting(
    name="WEBHOOK_TOLERANCE_SECONDS",
    used_by=("serve",),
    kind=kinds.whole(least=1, most=86_400),
    default="300",
    about="How old a signature may be",
)
WEBHOOK_MAX_BODY_BYTES = Setting(
    name="WEBHOOK_MAX_BODY_BYTES",
    used_by=("serve",),
    kind=kinds.size(least=1024, most=64 << 20),
    default="262144",
    about="The largest delivery that is read",
)
PORT = Setting(
    name="PORT",
    used_by=("serve", "console"),
    kind=kinds.whole(least=0, most=65_535),
    default="8080",
    about="The port to listen on where `--port` is not given; for `console` it is 8090",
)
GOOGLE_API_KEY = Setting(
    name="GOOGLE_API_KEY",
    used_by=_KEY_IS_READ_BY,
    kind=kinds.key(),
    about="The API key of the project that runs the batches",
    is_secret=True,
)
GEMINI_API_KEY = Setting(
    name="GEMINI_API_KEY",
    used_by=_KEY_IS_READ_BY,
    kind=kinds.key(),
    about="The same under its other name; with both set, `GOOGLE_API_KEY` counts, as in Google's SDK",
    missing="set it, or GOOGLE_API_KEY, to an API key of the project that runs the batches",
    is_secret=True,
    project_key="api_key_file",
)
GOOGLE_GEMINI_BASE_URL = Setting(
    name="GOOGLE_GEMINI_BASE_URL",
    used_by=_KEY_IS_READ_BY,
    kind=kinds.web_url(),
    default="https://generativelanguage.googleapis.com",
    about="Where Gemini is; plain http on this machine only",
    project_key="base_url",
)
STORAGE_URL = Setting(
    name="STORAGE_URL",
    used_by=(
        "work",
        "process",
        "status",
        "reconcile",
        "verify",
        "submit",
        "resubmit",
        "batches",
        "export",
        "console",
    ),
    kind=kinds.text(),
    about=(
        "The bucket: `file:///srv/results`, `s3://bucket/prefix`, `gs://…`, `az://…`; credentials and endpoint as"
        " usual for each cloud (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …: see docs/stores.md)"
    ),
    missing="say where results go, such as file:///srv/results or s3://bucket",
    project_key="storage",
)
OUTPUTS = Setting(
    name="OUTPUTS",
    used_by=("work", "process"),
    kind=kinds.some_of("objects", "parquet"),
    default="objects",
    about="What is made of a batch: `objects`, `parquet`, or `objects,parquet`",
    project_key="outputs",
)
BATCH_DISPLAY_NAME = Setting(
    name="BATCH_DISPLAY_NAME",
    used_by=("work", "process", "reconcile", "submit", "resubmit"),
    kind=kinds.text(),
    default="*",
    about="A pattern (`*` and `?`): batches with another display name are left alone",
    project_key="display_name",
)
PART_BYTES = Setting(
    name="PART_BYTES",
    used_by=("work", "process"),
    kind=kinds.size(),
    default="16MiB",
    about="How much of a result file is one part, one worker's share",
    project_key="part_bytes",
)
FANOUT_CONCURRENCY = Setting(
    name="FANOUT_CONCURRENCY",
    used_by=("work", "process"),
    kind=kinds.whole(least=1),
    about="Objects that a job writes into a store at the same time, without it 64; a folder's files come one by one",
)
RECONCILE_INTERVAL_SECONDS = Setting(
    name="RECONCILE_INTERVAL_SECONDS",
    used_by=("work",),
    kind=kinds.whole(least=0),
    default="900",
    about="How often Gemini is asked for finished batches that nobody told us of; `0` turns it off",
)
RECONCILE_REENABLE = Setting(
    name="RECONCILE_REENABLE",
    used_by=("work", "reconcile"),
    kind=kinds.switch(),
    default="off",
    about="Whether a webhook that Gemini disabled after failed deliveries is enabled again: `on` or `off`",
)
PROJECTS_FILE = Setting(
    name="PROJECTS_FILE",
    used_by=(
        *("serve", "work", "process", "replay", "forget", "status", "reconcile", "verify"),
        *("register", "webhooks", "submit", "resubmit", "batches", "export", "console", "doctor"),
    ),
    kind=kinds.text(),
    about="A file (TOML) that names several Gemini projects, each with its own path, secret, key and storage",
)

LOG_FORMAT = Setting(
    name="LOG_FORMAT",
    used_by=("serve", "work", "console"),
    kind=kinds.one_of("auto", "json", "text"),
    default="auto",
    about="How log lines are written: `json`, `text`, or `auto`, which is text on a terminal and JSON elsewhere",
)
HEARTBEAT_URL = Setting(
    name="HEARTBEAT_URL",
    used_by=("work", "reconcile"),
    kind=kinds.web_url(is_base=False),
    about="Fetched after each good look at Gemini for batches that nobody told us of, as healthchecks want it",
    is_secret=True,
)
NOTIFY_URL = Setting(
    name="NOTIFY_URL",
    project_key="notify_url",
    used_by=("work", "process", "reconcile"),
    kind=kinds.web_url(is_base=False),
    about="Where each commit is told, by a signed `POST`",
    is_secret=True,
)
NOTIFY_SECRET = Setting(
    name="NOTIFY_SECRET",
    project_key="notify_secret_file",
    used_by=("work", "process", "reconcile"),
    kind=kinds.signing_secret(),
    about="What those are signed with, `whsec_…`, as Standard Webhooks says",
    missing="set it to `whsec_` and the base64 of 24 to 64 random bytes, or leave NOTIFY_URL out",
    is_secret=True,
)
METRICS_ADDRESS = Setting(
    name="METRICS_ADDRESS",
    used_by=("serve",),
    kind=kinds.address(),
    about="Where `serve` answers `/metrics`, as `host:port`, on a network that is private; without it nowhere",
)
CONSOLE_PASSWORD = Setting(
    name="CONSOLE_PASSWORD",
    used_by=("console",),
    kind=kinds.text(),
    about="What the user `admin` signs in with; demanded on any address but this machine's own",
    is_secret=True,
)
CONSOLE_TRUST_USER_HEADER = Setting(
    name="CONSOLE_TRUST_USER_HEADER",
    used_by=("console",),
    kind=kinds.header(),
    about="The header in which a proxy that signs people in says who; where nobody can come past that proxy",
)
CONSOLE_READ_ONLY = Setting(
    name="CONSOLE_READ_ONLY",
    used_by=("console",),
    kind=kinds.switch(),
    default="off",
    about="Whether the console only shows, and changes nothing: `on` or `off`",
)

SETTINGS: tuple[Setting[Any], ...] = tuple(
    each for each in list(globals().values()) if isinstance(each, Setting)
)


def api_key(environment: Mapping[str, str]) -> str:
    """The key under either name, `GOOGLE_API_KEY` first. Raises `WrongSetting`."""
    return GOOGLE_API_KEY.find(environment) or GEMINI_API_KEY.read(environment)


def used_by(command: str) -> list[Setting[Any]]:
    """The settings that a command reads, in the order in which they are shown."""
    return [setting for setting in SETTINGS if command in setting.used_by]
