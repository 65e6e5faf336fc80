"""From `STORAGE_URL` to a bucket: the only place that looks at its scheme."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from workers.bucket.protocol import Bucket
from workers.errors import SettingsError

_OBJECT_STORES = ("s3", "gs", "az")


def open_bucket(
    url: str, env: Mapping[str, str], *, concurrency: int | None = None, make: bool = True
) -> Bucket:
    """The bucket at `url`: `file:///path`, `s3://`, `gs://` or `az://bucket/prefix`.

    Args:
        url: the value of STORAGE_URL.
        env: where credentials and endpoint are looked up, under each cloud's usual names.
        concurrency: how many objects a sink writes at once into a store; None for what measured best.
        make: whether a folder that is missing is created.

    Raises:
        SettingsError: the URL is none of these, a setting of its cloud can't work, or the folder is missing.
        BucketRefused: the folder cannot be created.
    """
    if not url.isprintable():
        raise SettingsError("STORAGE_URL holds a line end or another control character: leave it out.")
    if "${" in url:
        raise SettingsError("STORAGE_URL holds a ${…} that nobody has filled in: set that variable too.")
    if url.startswith("file:///~"):
        raise SettingsError("STORAGE_URL holds a ~ that nobody has filled in: give the whole path.")
    # Imported here: a folder needs no obstore, which takes longer to load than all the rest.
    try:
        parts = urlsplit(url)
    except ValueError:
        raise SettingsError("STORAGE_URL holds brackets where its bucket should be: correct it.") from None
    if parts.scheme == "file":
        from workers.bucket.folder import Folder  # noqa: PLC0415

        return Folder(url, make=make)
    if parts.scheme in _OBJECT_STORES:
        from workers.bucket.objectstore import ObjectStore  # noqa: PLC0415

        return ObjectStore(url, env, concurrency=concurrency)
    raise SettingsError(
        "STORAGE_URL must be file:///path, s3://bucket/prefix, gs://… or az://…, without quotes around it."
    )
