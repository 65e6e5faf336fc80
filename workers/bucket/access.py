"""How a store is reached: each cloud's own variables as obstore's settings, checked before anything is asked.

obstore reads many of them by itself, unchecked, and only from the process's own environment: so every one is read here.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from workers.bucket.protocol import check_name
from workers.bucket.values import (
    account,
    account_key,
    as_it_is,
    authority,
    boolean,
    check_inside,
    content,
    encryption,
    endpoint,
    is_in_figures,
    is_loopback,
    plain,
    readable,
    region,
    sas,
    unquoted,
)
from workers.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Access:
    """Settings of obstore, and what is said about those that were left out."""

    config: dict[str, str] = field(repr=False)
    plain_http: bool = False
    remarks: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    """The variables that they come from."""
    addresses: tuple[str, ...] = ()
    """The variables that say where the store is, and how one comes there."""
    unchecked: tuple[str, ...] = ()
    """Variables of the cloud that obstore may read, and that are not known here."""


_Check = Callable[[str, str], str]


# Of several variables for the same setting the last one that is set counts.
VARIABLES: dict[str, dict[str, tuple[str, _Check]]] = {
    "s3": {
        "AWS_ACCESS_KEY_ID": ("access_key_id", plain),
        "AWS_SECRET_ACCESS_KEY": ("secret_access_key", plain),
        "AWS_SESSION_TOKEN": ("session_token", plain),
        "AWS_SKIP_SIGNATURE": ("skip_signature", boolean),
        "AWS_DEFAULT_REGION": ("region", region),
        "AWS_REGION": ("region", region),
        "AWS_ENDPOINT": ("endpoint", endpoint),
        "AWS_S3_ENDPOINT": ("endpoint", endpoint),
        "AWS_ENDPOINT_URL": ("endpoint", endpoint),
        "AWS_ENDPOINT_URL_S3": ("endpoint", endpoint),
        "AWS_ENDPOINT_URL_STS": ("endpoint_url_sts", endpoint),
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": ("virtual_hosted_style_request", boolean),
        "AWS_WEB_IDENTITY_TOKEN_FILE": ("web_identity_token_file", readable),
        "AWS_ROLE_ARN": ("role_arn", plain),
        "AWS_ROLE_SESSION_NAME": ("role_session_name", plain),
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": ("container_credentials_relative_uri", plain),
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": ("container_credentials_full_uri", endpoint),
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": ("container_authorization_token_file", readable),
        "AWS_SERVER_SIDE_ENCRYPTION": ("server_side_encryption", encryption),
        "AWS_SSE_KMS_KEY_ID": ("sse_kms_key_id", plain),
        "AWS_S3_EXPRESS": ("s3_express", boolean),
        "AWS_DISABLE_BULK_DELETE": ("disable_bulk_delete", boolean),
    },
    "gs": {
        "GOOGLE_SERVICE_ACCOUNT": ("service_account", as_it_is),
        "GOOGLE_SERVICE_ACCOUNT_PATH": ("service_account", as_it_is),
        "GOOGLE_SERVICE_ACCOUNT_KEY": ("service_account_key", as_it_is),
        "GOOGLE_APPLICATION_CREDENTIALS": ("application_credentials", as_it_is),
        "GOOGLE_BEARER_TOKEN": ("bearer_token", plain),
        "GOOGLE_SKIP_SIGNATURE": ("skip_signature", boolean),
        "GOOGLE_BASE_URL": ("base_url", endpoint),
    },
    "az": {
        "AZURE_STORAGE_ACCOUNT": ("account_name", account),
        "AZURE_STORAGE_ACCOUNT_NAME": ("account_name", account),
        "AZURE_STORAGE_KEY": ("account_key", account_key),
        "AZURE_STORAGE_ACCESS_KEY": ("account_key", account_key),
        "AZURE_STORAGE_ACCOUNT_KEY": ("account_key", account_key),
        "AZURE_STORAGE_SAS_TOKEN": ("sas_key", sas),
        "AZURE_STORAGE_TOKEN": ("token", plain),
        "AZURE_SKIP_SIGNATURE": ("skip_signature", boolean),
        "AZURE_STORAGE_CONNECTION_STRING": ("connection_string", as_it_is),
        "AZURE_ENDPOINT": ("endpoint", endpoint),
        "AZURE_STORAGE_ENDPOINT": ("endpoint", endpoint),
        "AZURE_STORAGE_USE_EMULATOR": ("use_emulator", boolean),
        "AZURE_CLIENT_ID": ("client_id", plain),
        "AZURE_CLIENT_SECRET": ("client_secret", plain),
        "AZURE_TENANT_ID": ("tenant_id", plain),
        "AZURE_AUTHORITY_HOST": ("authority_host", authority),
        "AZURE_FEDERATED_TOKEN_FILE": ("federated_token_file", readable),
        "AZURE_MSI_ENDPOINT": ("identity_endpoint", endpoint),
        "IDENTITY_ENDPOINT": ("identity_endpoint", endpoint),
    },
}

KINDS = {"s3": "bucket", "gs": "bucket", "az": "container"}
ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ENDPOINT"}

_CREDENTIALS = {
    *("access_key_id", "secret_access_key", "session_token", "web_identity_token_file", "role_arn"),
    *("service_account", "service_account_key", "application_credentials", "bearer_token"),
    *("account_key", "sas_key", "token", "connection_string", "client_id", "client_secret", "tenant_id"),
    *("federated_token_file", "skip_signature"),
}
# Where the store is, beside what STORAGE_URL says; the first that is there.
_WHERE = {
    "s3": ("endpoint", "region"),
    "gs": ("base_url",),
    "az": ("connection_string", "endpoint", "account_name"),
}
_ELSE = {"s3": "AWS_REGION", "gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ACCOUNT_NAME"}
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
_FOREIGN = {**PREFIXES, "gs": "GOOGLE_S"}  # Gemini's variables begin with GOOGLE_ too.
_NAMES = {
    "s3": (re.compile(r"[A-Za-z0-9._-]+"), "letters, digits, dots, hyphens and underscores"),
    "gs": (re.compile(r"[a-z0-9._-]+"), "lower-case letters, digits, dots, hyphens and underscores"),
    "az": (re.compile(r"\$?[a-z0-9]+(-[a-z0-9]+)*"), "lower-case letters, digits and single hyphens"),
}
# Who names one needs the others.
_TOGETHER = {
    "s3": (
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
    ),
    "gs": (),
    "az": (
        ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_ID"),
        ("AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"),
        ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID"),
        ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_TENANT_ID"),
    ),
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
    scheme = parts.scheme
    if not parts.netloc:
        raise SettingsError(f"STORAGE_URL names no bucket: it must be {parts.scheme}://bucket/prefix.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError("STORAGE_URL holds more than a bucket and a prefix: credentials go elsewhere.")
    pattern, letters = _NAMES[scheme]
    if not pattern.fullmatch(parts.netloc):
        raise SettingsError(
            f"STORAGE_URL names no {KINDS[scheme]} that can be: only {letters} may stand there, "
            f"and a server's address in {ENDPOINTS[scheme]}."
        )
    path = unquote(parts.path).removeprefix("/")
    prefix = path.removesuffix("/")
    try:
        check_name(prefix or path or "none")
    except ValueError:
        raise SettingsError(
            "STORAGE_URL has an empty, . or .. segment in its prefix: leave it out."
        ) from None
    if scheme == "az" and any(segment.endswith(".") for segment in prefix.split("/")):
        raise SettingsError("STORAGE_URL has a segment that ends in a dot, which Azure drops: leave it out.")
    given = {
        name: unquoted(name, value)
        for name in (*VARIABLES[scheme], *UNREAD[scheme])
        if (value := env.get(name, "").strip())
    }
    names: dict[str, str] = {}  # Which variable a setting comes from.
    config: dict[str, str] = {}
    for name, (key, check) in VARIABLES[scheme].items():
        if name in given:
            names[key], config[key] = name, check(name, given[name])
    for one, other in _TOGETHER[scheme]:
        if VARIABLES[scheme][one][0] in config and VARIABLES[scheme][other][0] not in config:
            raise SettingsError(f"{other} is missing: the credentials are incomplete.")
    _COMPLETED[scheme](parts.netloc, config, names)
    address = config.get("endpoint") or config.get("base_url") or ""
    where = next((names[key] for key in _WHERE[scheme] if key in names), _ELSE[scheme])
    return Access(
        config,
        plain_http=address.startswith("http://") or config.get("use_emulator") == "true",
        remarks=tuple(
            f"{name} is not read: set {instead}." for name, instead in UNREAD[scheme].items() if name in given
        ),
        credentials=tuple(
            name
            for key, name in names.items()
            if key in _CREDENTIALS and (key != "skip_signature" or config[key] == "true")
        ),
        addresses=(where, *(name for name in _PROXIES if env.get(name))),
        unchecked=tuple(
            sorted(name for name in env if name.startswith(_FOREIGN[scheme]) and name not in given)
        ),
    )


def _s3(bucket: str, config: dict[str, str], names: Mapping[str, str]) -> None:
    if bucket.endswith("--x-s3"):  # S3 Express One Zone, where requests are signed with a session's keys.
        config["s3_express"] = "true"
    elif config.get("s3_express") == "true":
        raise SettingsError("AWS_S3_EXPRESS is for buckets whose name ends in --x-s3: set it to false.")
    if "endpoint" not in config:
        return
    address = config["endpoint"]
    check_inside(names["endpoint"], address, bucket, "bucket")
    scheme, _, rest = address.partition("://")
    if config.get("virtual_hosted_style_request") == "true" and not rest.startswith(f"{bucket}."):
        if is_in_figures(address):
            raise SettingsError(
                f"AWS_VIRTUAL_HOSTED_STYLE_REQUEST puts the bucket before the host, but {names['endpoint']} "
                "has it in figures: set it to false."
            )
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
    owner = found.get("accountname", "")
    if not owner or not found.keys() & {"accountkey", "sharedaccesssignature"}:
        raise SettingsError(f"{name} must hold AccountName and AccountKey or SharedAccessSignature.")
    config = {"account_name": account(name, owner)}
    if "accountkey" in found:
        config["account_key"] = account_key(name, found["accountkey"])
    else:
        config["sas_key"] = sas(name, found["sharedaccesssignature"])
    suffix, protocol = found.get("endpointsuffix", ""), found.get("defaultendpointsprotocol", "https")
    if found.get("blobendpoint"):
        config["endpoint"] = endpoint(name, found["blobendpoint"])
    elif suffix and suffix != "core.windows.net":
        config["endpoint"] = endpoint(name, f"{protocol}://{owner}.blob.{suffix}")
    return config


_COMPLETED = {"s3": _s3, "gs": _gs, "az": _az}
