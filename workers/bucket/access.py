"""How a store is reached: each cloud's own variables as obstore's settings, checked before anything is asked.

obstore reads many of them by itself, unchecked, and only from the process's own environment: so every one is read here.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from workers.bucket.endpoint import check_inside, content, endpoint, is_loopback, plain, readable
from workers.bucket.protocol import check_name
from workers.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Access:
    """Settings of obstore, and what is said about those that were left out."""

    config: dict[str, str] = field(repr=False)
    plain_http: bool = False
    remarks: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    """The variables that they come from."""


_Check = Callable[[str, str], str]


def _boolean(name: str, value: str) -> str:
    lowered = value.lower()
    if lowered in {"1", "true", "on", "yes"}:
        return "true"
    if lowered in {"0", "false", "off", "no"}:
        return "false"
    raise SettingsError(f"{name} must be true or false.")


def _base64(name: str, value: str) -> str:
    try:
        base64.b64decode(plain(name, value), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"{name} is no account key: it must be base64.") from None
    return value


def _sas(name: str, value: str) -> str:
    token = plain(name, value).removeprefix("?")
    if not all("=" in part for part in token.split("&")):
        raise SettingsError(f"{name} is no SAS token: it must read like sv=…&sig=….")
    return token


def _authority(name: str, value: str) -> str:
    """Azure's SDKs take a bare host too."""
    return endpoint(name, value if "://" in value else f"https://{value}")


def _as_it_is(_: str, value: str) -> str:
    return value


# Of several variables for the same setting the last one that is set counts.
VARIABLES: dict[str, dict[str, tuple[str, _Check]]] = {
    "s3": {
        "AWS_ACCESS_KEY_ID": ("access_key_id", plain),
        "AWS_SECRET_ACCESS_KEY": ("secret_access_key", plain),
        "AWS_SESSION_TOKEN": ("session_token", plain),
        "AWS_DEFAULT_REGION": ("region", plain),
        "AWS_REGION": ("region", plain),
        "AWS_ENDPOINT": ("endpoint", endpoint),
        "AWS_ENDPOINT_URL": ("endpoint", endpoint),
        "AWS_ENDPOINT_URL_S3": ("endpoint", endpoint),
        "AWS_ENDPOINT_URL_STS": ("sts_endpoint", endpoint),
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": ("virtual_hosted_style_request", _boolean),
        "AWS_WEB_IDENTITY_TOKEN_FILE": ("web_identity_token_file", readable),
        "AWS_ROLE_ARN": ("role_arn", plain),
        "AWS_ROLE_SESSION_NAME": ("role_session_name", plain),
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": ("container_credentials_relative_uri", plain),
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": ("container_credentials_full_uri", endpoint),
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": ("container_authorization_token_file", readable),
        "AWS_SERVER_SIDE_ENCRYPTION": ("server_side_encryption", plain),
        "AWS_SSE_KMS_KEY_ID": ("sse_kms_key_id", plain),
        "AWS_S3_EXPRESS": ("s3_express", _boolean),
        "AWS_DISABLE_BULK_DELETE": ("disable_bulk_delete", _boolean),
    },
    "gs": {
        "GOOGLE_SERVICE_ACCOUNT": ("service_account", _as_it_is),
        "GOOGLE_SERVICE_ACCOUNT_PATH": ("service_account", _as_it_is),
        "GOOGLE_SERVICE_ACCOUNT_KEY": ("service_account_key", _as_it_is),
        "GOOGLE_APPLICATION_CREDENTIALS": ("application_credentials", _as_it_is),
        "GOOGLE_BEARER_TOKEN": ("bearer_token", plain),
        "GOOGLE_BASE_URL": ("base_url", endpoint),
    },
    "az": {
        "AZURE_STORAGE_ACCOUNT": ("account_name", plain),
        "AZURE_STORAGE_ACCOUNT_NAME": ("account_name", plain),
        "AZURE_STORAGE_KEY": ("account_key", _base64),
        "AZURE_STORAGE_ACCESS_KEY": ("account_key", _base64),
        "AZURE_STORAGE_ACCOUNT_KEY": ("account_key", _base64),
        "AZURE_STORAGE_SAS_TOKEN": ("sas_key", _sas),
        "AZURE_STORAGE_TOKEN": ("token", plain),
        "AZURE_STORAGE_CONNECTION_STRING": ("connection_string", _as_it_is),
        "AZURE_ENDPOINT": ("endpoint", endpoint),
        "AZURE_STORAGE_ENDPOINT": ("endpoint", endpoint),
        "AZURE_STORAGE_USE_EMULATOR": ("use_emulator", _boolean),
        "AZURE_CLIENT_ID": ("client_id", plain),
        "AZURE_CLIENT_SECRET": ("client_secret", plain),
        "AZURE_TENANT_ID": ("tenant_id", plain),
        "AZURE_AUTHORITY_HOST": ("authority_host", _authority),
        "AZURE_FEDERATED_TOKEN_FILE": ("federated_token_file", readable),
        "AZURE_MSI_ENDPOINT": ("identity_endpoint", endpoint),
        "IDENTITY_ENDPOINT": ("identity_endpoint", endpoint),
    },
}

ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ENDPOINT"}

_CREDENTIALS = {
    *("access_key_id", "secret_access_key", "session_token", "web_identity_token_file", "role_arn"),
    *("service_account", "service_account_key", "application_credentials", "bearer_token"),
    *("account_key", "sas_key", "token", "connection_string", "client_id", "client_secret", "tenant_id"),
    "federated_token_file",
}

# What the clouds' own tools read and obstore does not, and what to set instead.
UNREAD: dict[str, dict[str, str]] = {
    "s3": {
        "AWS_PROFILE": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's role",
        "AWS_DEFAULT_PROFILE": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's role",
        "AWS_SHARED_CREDENTIALS_FILE": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "AWS_CONFIG_FILE": "AWS_REGION and AWS_ENDPOINT_URL",
        "AWS_CA_BUNDLE": "SSL_CERT_FILE",
        "AWS_USE_FIPS_ENDPOINT": "AWS_ENDPOINT_URL",
        "AWS_USE_DUALSTACK_ENDPOINT": "AWS_ENDPOINT_URL",
    },
    "gs": {"STORAGE_EMULATOR_HOST": "GOOGLE_BASE_URL, for a server that speaks the XML API"},
    "az": {
        "AZURE_CLIENT_CERTIFICATE_PATH": "AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_USERNAME": "AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
    },
}


def access(url: str, env: Mapping[str, str]) -> Access:
    """What reaches the store at `url`.

    Args:
        url: `s3://`, `gs://` or `az://bucket/prefix`.
        env: the variables; white space around a value is no part of it, and an empty one is none.

    Raises:
        SettingsError: with these it can never be reached; names the variable to correct.
    """
    parts = urlsplit(url)
    if not parts.netloc:
        raise SettingsError(f"STORAGE_URL names no bucket: it must be {parts.scheme}://bucket/prefix.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError("STORAGE_URL holds more than a bucket and a prefix: credentials go elsewhere.")
    prefix = parts.path.removeprefix("/").removesuffix("/")
    try:
        check_name(prefix or "none")
    except ValueError:
        raise SettingsError(
            "STORAGE_URL has an empty, . or .. segment in its prefix: leave it out."
        ) from None
    if parts.scheme == "az" and any(segment.endswith(".") for segment in prefix.split("/")):
        raise SettingsError("STORAGE_URL has a segment that ends in a dot, which Azure drops: leave it out.")
    given = {name: value.strip() for name in VARIABLES[parts.scheme] if (value := env.get(name, "")).strip()}
    names: dict[str, str] = {}  # Which variable a setting comes from.
    config: dict[str, str] = {}
    for name, (key, check) in VARIABLES[parts.scheme].items():
        if name in given:
            names[key], config[key] = name, check(name, given[name])
    _COMPLETED[parts.scheme](parts.netloc, config, names)
    remarks = (
        f"{name} is not read: set {instead}."
        for name, instead in UNREAD[parts.scheme].items()
        if env.get(name, "").strip()
    )
    address = config.get("endpoint") or config.get("base_url") or ""
    local = address.startswith("http://") or config.get("use_emulator") == "true"
    credentials = tuple(name for key, name in names.items() if key in _CREDENTIALS)
    return Access(config, local, tuple(remarks), credentials)


def _s3(bucket: str, config: dict[str, str], names: Mapping[str, str]) -> None:
    for one, other in (
        ("access_key_id", "AWS_SECRET_ACCESS_KEY"),
        ("secret_access_key", "AWS_ACCESS_KEY_ID"),
    ):
        if one in config and VARIABLES["s3"][other][0] not in config:
            raise SettingsError(f"{other} is missing: the credentials are incomplete.")
    if bucket.endswith("--x-s3"):  # S3 Express One Zone, where requests are signed with a session's keys.
        config["s3_express"] = "true"
    if "endpoint" not in config:
        return
    address = config["endpoint"]
    check_inside(names["endpoint"], address, bucket, "bucket")
    scheme, _, rest = address.partition("://")
    if config.get("virtual_hosted_style_request") == "true" and not rest.startswith(f"{bucket}."):
        address = f"{scheme}://{bucket}.{rest}"
    config["endpoint"] = address


def _gs(_: str, config: dict[str, str], names: Mapping[str, str]) -> None:
    base = config.get("base_url")
    if "service_account_key" in config:
        name = names["service_account_key"]
        account = _google_json(name, "is", config["service_account_key"].encode())
        _check_service_account(name, "is", account)
    for key in ("service_account", "application_credentials"):
        if key not in config:
            continue
        name, path = names[key], config[key]
        if path.startswith("{"):
            raise SettingsError(f"{name} must name a file: JSON itself goes into GOOGLE_SERVICE_ACCOUNT_KEY.")
        says = f"names {path}, which is"
        account = _google_json(name, says, content(name, path))
        if key == "application_credentials" and account.get("type") == "authorized_user":
            continue
        _check_service_account(name, says, account)
        if key == "application_credentials" and "service_account" not in config:
            # obstore heeds `gcs_base_url` and `disable_oauth` of a file only there.
            config["service_account"] = config.pop(key)
            key = "service_account"  # noqa: PLW2901
        if not base and account.get("gcs_base_url"):
            base = endpoint(f"gcs_base_url in the file of {name}", str(account["gcs_base_url"]))
    if not base:
        return
    if base.startswith("http://") and not is_loopback(base):
        raise SettingsError(
            "GOOGLE_BASE_URL must begin with https://, as it gets a token: http:// is for this machine."
        )
    config["base_url"] = base


def _google_json(name: str, says: str, text: bytes) -> Mapping[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        raise SettingsError(f"{name} {says} no JSON: it must be a service account's key.") from None
    if not isinstance(found, dict):
        raise SettingsError(f"{name} {says} no JSON object: it must be a service account's key.")
    return found


def _check_service_account(name: str, says: str, account: Mapping[str, object]) -> None:
    kind = account.get("type", "service_account")
    if kind != "service_account":
        raise SettingsError(
            f"{name} {says} of type {str(kind)[:40]}: only a service account's key can be used, "
            "or none where the cloud gives credentials to the machine."
        )
    for field_ in ("client_email", "private_key_id", "private_key"):
        if not isinstance(account.get(field_), str):
            raise SettingsError(f"{name} {says} no service account's key: {field_} is missing.")
    key = str(account["private_key"])
    if not account.get("disable_oauth") and "-----BEGIN" not in key:
        raise SettingsError(f"{name} {says} no service account's key: its private_key is no PEM.")


def _az(container: str, config: dict[str, str], names: Mapping[str, str]) -> None:
    connection = config.pop("connection_string", None)
    if connection is not None:
        config.update(_connection_string(names["connection_string"], connection))
    if config.get("use_emulator") == "true":
        return
    if "account_name" not in config:
        raise SettingsError("AZURE_STORAGE_ACCOUNT_NAME is missing: set it to the storage account's name.")
    address = config.get("endpoint")
    if address and config["account_name"] != container:
        check_inside(
            names.get("endpoint", "AZURE_STORAGE_CONNECTION_STRING"), address, container, "container"
        )


def _connection_string(name: str, value: str) -> dict[str, str]:
    """Azure's own form: `AccountName=…;AccountKey=…;EndpointSuffix=…`, in any order."""
    pairs = (part.partition("=") for part in value.split(";") if part.strip())
    found = {key.strip().lower(): text.strip() for key, _, text in pairs}
    if found.get("usedevelopmentstorage", "").lower() == "true":
        return {"use_emulator": "true"}
    account = found.get("accountname", "")
    if not account or not found.keys() & {"accountkey", "sharedaccesssignature"}:
        raise SettingsError(f"{name} must hold AccountName and AccountKey or SharedAccessSignature.")
    config = {"account_name": plain(name, account)}
    if "accountkey" in found:
        config["account_key"] = _base64(name, found["accountkey"])
    else:
        config["sas_key"] = _sas(name, found["sharedaccesssignature"])
    suffix, protocol = found.get("endpointsuffix", ""), found.get("defaultendpointsprotocol", "https")
    if found.get("blobendpoint"):
        config["endpoint"] = endpoint(name, found["blobendpoint"])
    elif suffix and suffix != "core.windows.net":
        config["endpoint"] = endpoint(name, f"{protocol}://{account}.blob.{suffix}")
    return config


_COMPLETED = {"s3": _s3, "gs": _gs, "az": _az}
