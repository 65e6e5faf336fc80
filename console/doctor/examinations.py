"""What `doctor` looks at, in the order in which it is shown."""

from console.doctor.of_edge import of_ping, of_public_url
from console.doctor.of_gemini import (
    of_clock,
    of_events,
    of_key,
    of_keys_of_google,
    of_secret,
    of_state,
    of_url,
    of_webhook,
)
from console.doctor.of_redis import of_durability, of_memory, of_redis, of_rights
from console.doctor.of_settings import of_files, of_settings, of_versions
from console.doctor.of_work import of_bucket, of_reconcile, of_workers
from console.doctor.run import Examination

EXAMINATIONS = (
    Examination("settings", of_settings),
    Examination("file modes", of_files),
    Examination("redis", of_redis, of_all=True),
    Examination("redis durability", of_durability, of_all=True),
    Examination("redis memory", of_memory, of_all=True),
    Examination("redis rights", of_rights),
    Examination("bucket", of_bucket, acts=True),
    Examination("api key", of_key),
    Examination("webhook", of_webhook),
    Examination("webhook state", of_state),
    Examination("webhook events", of_events),
    Examination("webhook url", of_url),
    Examination("webhook secret", of_secret),
    Examination("public url", of_public_url, acts=True),
    Examination("ping", of_ping, acts=True),
    Examination("jwks", of_keys_of_google, of_all=True),
    Examination("clock", of_clock, of_all=True),
    Examination("workers", of_workers),
    Examination("reconcile", of_reconcile),
    Examination("versions", of_versions, of_all=True),
)
