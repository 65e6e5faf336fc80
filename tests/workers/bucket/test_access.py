"""From the variables of a cloud to a store: what is wrong with them is said at once, in a sentence that names it."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import GenericError
from obstore.store import from_url

from tests.support.relay import Relay, relay
from tests.support.scripted import Answer
from tests.support.tls import behind_tls
from workers.bucket.access import VARIABLES, Access, access
from workers.bucket.opening import open_bucket
from workers.bucket.protocol import Bucket, BucketRefused, Misdirected, NameTooLong, NoCredentials
from workers.errors import BucketUnavailable, SettingsError

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hidden"}
ACCOUNT = {"AZURE_STORAGE_ACCOUNT_NAME": "acc", "AZURE_STORAGE_ACCOUNT_KEY": "aGlkZGVu"}
SERVICE_ACCOUNT = {
    "type": "service_account",
    "client_email": "someone@example.com",
    "private_key_id": "1",
    "private_key": "hidden",
}

BROKEN: list[tuple[str, Mapping[str, str], str]] = [
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "minio:9000"}, "AWS_ENDPOINT_URL .*https?://"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "127.0.0.1:9000"}, "AWS_ENDPOINT_URL .*https?://"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "ftp://host"}, "AWS_ENDPOINT_URL .*https?://"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "http://ho st"}, "AWS_ENDPOINT_URL .*white space"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "http://host:99999"}, "AWS_ENDPOINT_URL .*port"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "http://host:0"}, "AWS_ENDPOINT_URL .*port"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "http://host:x"}, "AWS_ENDPOINT_URL .*port"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "http://"}, "AWS_ENDPOINT_URL .*host"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "http://[::1"}, "AWS_ENDPOINT_URL .*host"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "http://h|st"}, "AWS_ENDPOINT_URL .*host"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "https://u:hidden@host"}, "AWS_ENDPOINT_URL .*credentials"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "https://host/?hidden"}, "AWS_ENDPOINT_URL .*query"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "https://host/b"}, "AWS_ENDPOINT_URL .*bucket"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": "https://host/b/"}, "AWS_ENDPOINT_URL .*bucket"),
    ("s3://b/x", {**KEYS, "AWS_ENDPOINT_URL_S3": "https://host/b"}, "AWS_ENDPOINT_URL_S3 .*bucket"),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL_S3": "host"}, "AWS_ENDPOINT_URL_S3 "),
    ("s3://b", {**KEYS, "AWS_ACCESS_KEY_ID": "k\ny"}, "AWS_ACCESS_KEY_ID .*white space"),
    ("s3://b", {**KEYS, "AWS_SECRET_ACCESS_KEY": "hid den"}, "AWS_SECRET_ACCESS_KEY .*white space"),
    ("s3://b", {**KEYS, "AWS_SESSION_TOKEN": "hid\nden"}, "AWS_SESSION_TOKEN .*white space"),
    ("s3://b", {**KEYS, "AWS_REGION": "us\neast"}, "AWS_REGION .*white space"),
    ("s3://b", {"AWS_ACCESS_KEY_ID": "hidden"}, "AWS_SECRET_ACCESS_KEY .*incomplete"),
    ("s3://b", {"AWS_SECRET_ACCESS_KEY": "hidden"}, "AWS_ACCESS_KEY_ID .*incomplete"),
    ("s3://b", {**KEYS, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "maybe"}, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST "),
    (
        "s3://b",
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere/token", "AWS_ROLE_ARN": "arn"},
        "AWS_WEB_IDENTITY_TOKEN_FILE .*/nowhere/token",
    ),
    (
        "s3://b",
        {**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"},
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST .*AWS_ENDPOINT_URL .*figures",
    ),
    ("s3://b", {**KEYS, "AWS_ENDPOINT_URL": '"http://host"'}, "AWS_ENDPOINT_URL .*quotes"),
    ("s3://b", {**KEYS, "AWS_SECRET_ACCESS_KEY": "'hidden'"}, "AWS_SECRET_ACCESS_KEY .*quotes"),
    ("s3://b", {**KEYS, "AWS_REGION": "US East (Ohio)"}, "AWS_REGION "),
    ("s3://b", {**KEYS, "AWS_REGION": "us-east-1/"}, "AWS_REGION .*us-east-1"),
    ("s3://b", {**KEYS, "AWS_DEFAULT_REGION": "https://s3"}, "AWS_DEFAULT_REGION .*us-east-1"),
    ("s3://b", {**KEYS, "AWS_SKIP_SIGNATURE": "maybe"}, "AWS_SKIP_SIGNATURE .*true or false"),
    ("s3://b", {**KEYS, "AWS_SERVER_SIDE_ENCRYPTION": "aes"}, "AWS_SERVER_SIDE_ENCRYPTION .*aws:kms"),
    ("s3://b", {**KEYS, "AWS_S3_EXPRESS": "true"}, "AWS_S3_EXPRESS .*--x-s3"),
    ("s3://b", {"AWS_SESSION_TOKEN": "hidden"}, "AWS_ACCESS_KEY_ID .*incomplete"),
    ("s3://b", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/dev/null"}, "AWS_ROLE_ARN .*incomplete"),
    ("s3://b//x", KEYS, "STORAGE_URL "),
    ("s3://b//", KEYS, "STORAGE_URL .*empty"),
    ("s3://b/x/../y", KEYS, "STORAGE_URL "),
    ("s3://b/x/%2E%2e/y", KEYS, "STORAGE_URL .*segment"),
    ("s3://b/x%2F..%2Fy", KEYS, "STORAGE_URL .*segment"),
    ("s3://b/x\ny", KEYS, "STORAGE_URL .*line end"),
    ("s3://b:9000/x", KEYS, "STORAGE_URL .*AWS_ENDPOINT_URL"),
    ("s3://[b", KEYS, "STORAGE_URL .*brackets"),
    ("s3://<b>", KEYS, "STORAGE_URL .*letters"),
    ("s3://b\u00fccket/x", KEYS, "STORAGE_URL .*letters"),
    ("s3://arn:aws:s3:us-east-1:123:accesspoint/b", KEYS, "STORAGE_URL .*letters"),
    ("s3://${BUCKET}/x", KEYS, r"STORAGE_URL .*\$\{"),
    ("s3:/b", KEYS, "STORAGE_URL .*s3://bucket/prefix"),
    ("gs://My", {"GOOGLE_BEARER_TOKEN": "hidden"}, "STORAGE_URL .*lower-case"),
    ("az://con_tainer", ACCOUNT, "STORAGE_URL .*container .*lower-case"),
    ("az://c@acc.dfs.core.windows.net", ACCOUNT, "STORAGE_URL "),
    ("file:///~/results", {}, "STORAGE_URL .*~"),
    ("file://results", {}, "STORAGE_URL .*absolute path"),
    *[
        (url, {}, "STORAGE_URL .*file:///path, s3://bucket")
        for url in (
            *("http://minio:9000/b", "gcs://b", "abfs://c", "s3a://b", "minio://b", '"s3://b"', "'s3://b'"),
            *("results", "./results", "/srv/results", "~/results", "C:\\results", "C:/results", "$STORAGE"),
        )
    ],
    (
        "gs://b",
        {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"},
        "GOOGLE_APPLICATION_CREDENTIALS .*/nowhere.json",
    ),
    ("gs://b", {"GOOGLE_SERVICE_ACCOUNT": "/nowhere.json"}, "GOOGLE_SERVICE_ACCOUNT .*/nowhere.json"),
    ("gs://b", {"GOOGLE_SERVICE_ACCOUNT": json.dumps(SERVICE_ACCOUNT)}, "GOOGLE_SERVICE_ACCOUNT_KEY"),
    ("gs://b", {"GOOGLE_SERVICE_ACCOUNT_KEY": "hidden"}, "GOOGLE_SERVICE_ACCOUNT_KEY .*JSON"),
    ("gs://b", {"GOOGLE_SERVICE_ACCOUNT_KEY": "{}"}, "GOOGLE_SERVICE_ACCOUNT_KEY "),
    (
        "gs://b",
        {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(SERVICE_ACCOUNT)},
        "GOOGLE_SERVICE_ACCOUNT_KEY .*private_key",
    ),
    ("gs://b", {"GOOGLE_BASE_URL": "localhost:4443"}, "GOOGLE_BASE_URL .*https?://"),
    ("gs://b", {"GOOGLE_BASE_URL": "http://storage.example.com"}, "GOOGLE_BASE_URL .*https://"),
    ("az://c", {}, "AZURE_STORAGE_ACCOUNT_NAME"),
    ("az://c/results./b", ACCOUNT, "STORAGE_URL .*dot"),
    ("az://c", {"AZURE_STORAGE_ACCOUNT_KEY": "aGlkZGVu"}, "AZURE_STORAGE_ACCOUNT_NAME"),
    (
        "az://c",
        {**ACCOUNT, "AZURE_STORAGE_ACCOUNT": "acc.blob.core.windows.net"},
        "AZURE_STORAGE_ACCOUNT .*alone",
    ),
    ("az://c", {**ACCOUNT, "AZURE_CLIENT_SECRET": "hidden"}, "AZURE_CLIENT_ID .*incomplete"),
    (
        "az://c",
        {**ACCOUNT, "AZURE_CLIENT_SECRET": "hidden", "AZURE_CLIENT_ID": "a"},
        "AZURE_TENANT_ID .*incomplete",
    ),
    (
        "az://c",
        {**ACCOUNT, "AZURE_STORAGE_SAS_TOKEN": "https://acc.blob.core.windows.net/c?sv=1&sig=hidden"},
        "AZURE_STORAGE_SAS_TOKEN .*without an address",
    ),
    ("az://c", {**ACCOUNT, "AZURE_STORAGE_SAS_TOKEN": "sv=1&se=hidden"}, "AZURE_STORAGE_SAS_TOKEN .*sig="),
    ("az://c", {**ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": "hidden!"}, "AZURE_STORAGE_ACCOUNT_KEY .*base64"),
    ("az://c", {**ACCOUNT, "AZURE_STORAGE_ACCOUNT_NAME": "a\nc"}, "AZURE_STORAGE_ACCOUNT_NAME .*white space"),
    (
        "az://c",
        {"AZURE_STORAGE_ACCOUNT_NAME": "acc", "AZURE_STORAGE_SAS_TOKEN": "hidden"},
        "AZURE_STORAGE_SAS_TOKEN ",
    ),
    (
        "az://c",
        {**ACCOUNT, "AZURE_STORAGE_ENDPOINT": "127.0.0.1:10000"},
        "AZURE_STORAGE_ENDPOINT .*https?://",
    ),
    ("az://c", {**ACCOUNT, "AZURE_ENDPOINT": "http://host:0/acc"}, "AZURE_ENDPOINT .*port"),
    ("az://c", {**ACCOUNT, "AZURE_STORAGE_ENDPOINT": "https://host/c"}, "AZURE_STORAGE_ENDPOINT .*container"),
    ("az://c", {"AZURE_STORAGE_CONNECTION_STRING": "hidden"}, "AZURE_STORAGE_CONNECTION_STRING "),
    (
        "az://c",
        {"AZURE_STORAGE_CONNECTION_STRING": "AccountKey=aGlkZGVu"},
        "AZURE_STORAGE_CONNECTION_STRING ",
    ),
    ("az://c", {**ACCOUNT, "AZURE_AUTHORITY_HOST": "http://a b"}, "AZURE_AUTHORITY_HOST .*white space"),
    (
        "az://c",
        {**ACCOUNT, "AZURE_FEDERATED_TOKEN_FILE": "/nowhere"},
        "AZURE_FEDERATED_TOKEN_FILE .*/nowhere",
    ),
    ("az://c", {**ACCOUNT, "IDENTITY_ENDPOINT": "localhost:1"}, "IDENTITY_ENDPOINT .*https?://"),
]


@pytest.mark.parametrize(("url", "env", "words"), BROKEN, ids=[words.split()[0] for _, _, words in BROKEN])
def test_a_setting_that_can_never_work_is_named_before_anything_is_asked(
    url: str, env: Mapping[str, str], words: str
) -> None:
    with pytest.raises(SettingsError, match=rf"^[^\n]*{words}[^\n]*\.$") as caught:
        open_bucket(url, env)
    assert "hid" not in str(caught.value)
    assert "GenericError" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_what_obstore_reads_by_itself_is_suspected_where_it_can_t_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "hidden")
    with pytest.raises(SettingsError, match=r"^s3://b can't be used [^\n]*: check AWS_CONDITIONAL_PUT\.$"):
        open_bucket("s3://b", {**KEYS, "AWS_CONDITIONAL_PUT": "hidden"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is no file that can be read"),
        ("hello", "no JSON"),
        ("[]", "no JSON object"),
        ("{}", "service account"),
        (json.dumps({"type": "external_account", "audience": "hidden"}), "external_account"),
        (json.dumps({"type": "impersonated_service_account"}), "impersonated_service_account"),
        (json.dumps({**SERVICE_ACCOUNT, "private_key": "hidden"}), "private_key"),
        (json.dumps({k: v for k, v in SERVICE_ACCOUNT.items() if k != "client_email"}), "client_email"),
    ],
)
@pytest.mark.parametrize("variable", ["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT"])
def test_a_credentials_file_that_is_no_use_is_named_with_its_variable(
    tmp_path: Path, variable: str, content: str | None, words: str
) -> None:
    file = tmp_path / "key.json"
    if content is None:
        file.mkdir()
    else:
        file.write_text(content)
    with pytest.raises(SettingsError, match=rf"^{variable} [^\n]*\.$") as caught:
        open_bucket("gs://b", {variable: str(file)})
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_service_account_may_name_a_server_on_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    account = {**SERVICE_ACCOUNT, "gcs_base_url": "http://localhost:4443/", "disable_oauth": True}
    file.write_text(json.dumps(account))
    found = access("gs://b", {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
    assert found.config == {"service_account": str(file), "base_url": "http://localhost:4443"}
    assert found.plain_http

    file.write_text(json.dumps({**account, "gcs_base_url": "http://storage.example.com"}))
    with pytest.raises(SettingsError, match="https://"):
        access("gs://b", {"GOOGLE_SERVICE_ACCOUNT": str(file)})


def test_a_user_s_login_is_left_to_obstore(tmp_path: Path) -> None:
    file = tmp_path / "login.json"
    login = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}
    file.write_text(json.dumps(login))
    found = access("gs://b", {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
    assert found.config == {"application_credentials": str(file)}
    open_bucket("gs://b", {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})


def config(url: str, **env: str) -> dict[str, str]:
    return access(url, env).config


def test_white_space_around_a_value_is_no_part_of_it() -> None:
    found = config(
        "s3://b", AWS_ACCESS_KEY_ID=" key\n", AWS_SECRET_ACCESS_KEY="hidden\r\n", AWS_REGION="eu\n"
    )
    assert found == {"access_key_id": "key", "secret_access_key": "hidden", "region": "eu"}


def test_an_empty_variable_is_none() -> None:
    assert config("s3://b", AWS_ENDPOINT_URL="", AWS_ACCESS_KEY_ID="  ") == {}


@pytest.mark.parametrize("written", ["HTTP://Host:9000", "http://Host:9000/", "  http://Host:9000\n"])
def test_an_endpoint_is_brought_into_the_form_that_obstore_understands(written: str) -> None:
    found = access("s3://b", {"AWS_ENDPOINT_URL": written})
    assert found.config["endpoint"] == "http://Host:9000"
    assert found.plain_http


def test_an_endpoint_may_have_a_path_that_is_not_the_bucket() -> None:
    assert (
        config("s3://b", AWS_ENDPOINT_URL="https://h/storage/v1/s3")["endpoint"] == "https://h/storage/v1/s3"
    )
    assert config("s3://b", AWS_ENDPOINT_URL="http://[::1]:9000")["endpoint"] == "http://[::1]:9000"
    assert (
        config("s3://b", AWS_ENDPOINT_URL="https://bucket.example.com")["endpoint"]
        == "https://bucket.example.com"
    )


def test_the_service_s_own_endpoint_counts_before_the_general_one() -> None:
    found = config("s3://b", AWS_ENDPOINT_URL="https://all", AWS_ENDPOINT_URL_S3="https://s3")
    assert found["endpoint"] == "https://s3"


@pytest.mark.parametrize("endpoint", ["https://host", "https://b.host"])
def test_in_the_virtual_host_style_the_bucket_stands_before_the_host_once(endpoint: str) -> None:
    found = config("s3://b", AWS_ENDPOINT_URL=endpoint, AWS_VIRTUAL_HOSTED_STYLE_REQUEST="true")
    assert found["endpoint"] == "https://b.host"


def test_a_directory_bucket_is_known_by_its_name() -> None:
    assert config("s3://logs--use1-az4--x-s3/prefix", **KEYS)["s3_express"] == "true"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (
            {
                "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=aGk=;"
            },
            {"account_name": "acc", "account_key": "aGk="},
        ),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=acc;AccountKey=aGk=;EndpointSuffix=example.cn"},
            {
                "account_name": "acc",
                "account_key": "aGk=",
                "endpoint": "https://acc.blob.example.cn",
            },
        ),
        (
            {
                "AZURE_STORAGE_CONNECTION_STRING": "BlobEndpoint=http://127.0.0.1:1/acc;"
                "SharedAccessSignature=sv=1&sig=x%3D;AccountName=acc"
            },
            {"account_name": "acc", "endpoint": "http://127.0.0.1:1/acc", "sas_key": "sv=1&sig=x%3D"},
        ),
        ({"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"}, {"use_emulator": "true"}),
        ({"AZURE_STORAGE_USE_EMULATOR": "true"}, {"use_emulator": "true"}),
        ({**ACCOUNT, "AZURE_ENDPOINT": "https://h"}, {"endpoint": "https://h"}),
        (
            {**ACCOUNT, "AZURE_AUTHORITY_HOST": "login.example.com"},
            {"authority_host": "https://login.example.com"},
        ),
        (
            {"AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_KEY": "aGk="},
            {"account_name": "acc", "account_key": "aGk="},
        ),
    ],
)
def test_azure_s_own_variables_are_understood(env: Mapping[str, str], expected: Mapping[str, str]) -> None:
    found = access("az://c", env).config
    assert found.items() >= expected.items()


def test_a_connection_string_s_values_are_no_longer_than_they_are() -> None:
    found = access("az://c", {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=acc;AccountKey=aGk="})
    assert found.config == {"account_name": "acc", "account_key": "aGk="}


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("s3://b", "AWS_PROFILE"),
        ("s3://b", "AWS_SHARED_CREDENTIALS_FILE"),
        ("s3://b", "AWS_CONFIG_FILE"),
        ("s3://b", "AWS_CA_BUNDLE"),
        ("gs://b", "STORAGE_EMULATOR_HOST"),
        ("az://b", "AZURE_CLIENT_CERTIFICATE_PATH"),
    ],
)
def test_a_variable_that_the_cloud_s_own_tools_read_and_we_do_not_is_named(url: str, variable: str) -> None:
    found = access(url, {**KEYS, **ACCOUNT, variable: "value"})
    (remark,) = found.remarks
    assert remark.startswith(f"{variable} is not read")
    assert access(url, {**KEYS, **ACCOUNT}).remarks == ()


def test_no_secret_shows_in_the_repr_of_what_was_read() -> None:
    assert "hidden" not in repr(access("s3://b", KEYS))
    assert isinstance(access("s3://b", KEYS), Access)


def test_every_variable_that_obstore_would_read_by_itself_is_ours_to_check() -> None:
    assert {"AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"} <= set(VARIABLES["s3"])
    assert {"GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_BASE_URL"} <= set(VARIABLES["gs"])
    assert {"AZURE_ENDPOINT", "IDENTITY_ENDPOINT"} <= set(VARIABLES["az"])


@pytest.mark.parametrize("scheme", VARIABLES)
def test_every_variable_is_a_setting_that_obstore_knows(scheme: str) -> None:
    for key in {key for key, _ in VARIABLES[scheme].values()} - {"connection_string"}:
        config: Any = {key: "true"}
        with suppress(GenericError):  # What may not stand alone, or has to be a file's name.
            from_url(f"{scheme}://bucket", config=config)


# What a server says, seen by a person.

DOING: Mapping[str, Callable[[Bucket], object]] = {
    "read": lambda bucket: bucket.get("x"),
    "write": lambda bucket: bucket.put("x", b"", ""),
    "list": lambda bucket: list(bucket.list("")),
    "delete": lambda bucket: bucket.delete(["x"]),
}
S3_ANSWERS = [
    (301, "PermanentRedirect", "read", BucketRefused, "AWS_REGION"),
    (400, "AuthorizationHeaderMalformed", "read", BucketRefused, "AWS_REGION"),
    (400, "IllegalLocationConstraintException", "read", BucketRefused, "AWS_REGION"),
    (403, "AccessDenied", "read", BucketRefused, "s3:GetObject"),
    (403, "AccessDenied", "write", BucketRefused, "s3:PutObject"),
    (403, "AccessDenied", "list", BucketRefused, "s3:ListBucket"),
    (403, "AccessDenied", "delete", BucketRefused, "s3:DeleteObject"),
    (403, "SignatureDoesNotMatch", "read", BucketRefused, "SignatureDoesNotMatch"),
    (400, "ExpiredToken", "read", BucketRefused, "ExpiredToken"),
    (403, "RequestTimeTooSkewed", "read", BucketRefused, "clock is wrong"),
    (400, "MalformedSecurityHeader", "write", BucketRefused, "AWS_ACCESS_KEY_ID"),
    (400, "InvalidBucketName", "write", BucketRefused, "correct STORAGE_URL"),
    (404, "NoSuchBucket", "list", BucketRefused, "create the bucket"),
    (
        400,
        "InvalidRequest",
        "write",
        Misdirected,
        "STORAGE_URL, AWS_ENDPOINT_URL and all that begins with AWS_",
    ),
    (400, "KMS.NotFoundException", "write", Misdirected, "400 KMS.NotFoundException"),
    (405, "MethodNotAllowed", "list", Misdirected, "AWS_ENDPOINT_URL"),
    (400, "KeyTooLongError", "write", NameTooLong, "too long"),
    (400, "RequestTimeout", "read", BucketUnavailable, "400 RequestTimeout"),
]


@pytest.mark.parametrize(("status", "code", "doing", "kind", "words"), S3_ANSWERS)
def test_what_s3_refuses_is_said_in_a_sentence_that_tells_what_to_do(
    status: int, code: str, doing: str, kind: type[Exception], words: str
) -> None:
    with relay() as server:
        server.answer = lambda _: refusing(status, code)
        bucket = open_bucket("s3://b/p", {**KEYS, "AWS_ENDPOINT_URL": server.url})
        with pytest.raises(kind, match=rf"^[^\n]*{words}[^\n]*\.$") as caught:
            DOING[doing](bucket)
    assert "hidden" not in str(caught.value)
    assert "GenericError" not in str(caught.value)


def refusing(status: int, code: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>hidden</Message></Error>".encode()
    return Answer(status, body, {"Content-Type": "application/xml"})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(200, b"x" * 10, {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, cut=3), "cut off"),
        (Answer(418, b""), "418"),
    ],
)
def test_an_answer_that_makes_no_sense_is_said_in_words(answer: Answer, words: str) -> None:
    with relay() as server:
        server.answer = lambda _: answer
        bucket = open_bucket("s3://b/p", {**KEYS, "AWS_ENDPOINT_URL": server.url})
        with pytest.raises(BucketUnavailable, match=rf"^[^\n]*{words}[^\n]*\.$") as caught:
            bucket.get("x")
    assert "Error" not in str(caught.value)


def test_an_answer_without_an_etag_is_said_in_words() -> None:
    with relay() as server:
        server.answer = lambda _: Answer(200)
        bucket = open_bucket("s3://b/p", {**KEYS, "AWS_ENDPOINT_URL": server.url})
        with pytest.raises(BucketUnavailable, match=r"^[^\n]*names no ETag\): check AWS_ENDPOINT_URL\.$"):
            bucket.put("x", b"1", "")


def test_a_listing_that_is_none_is_said_in_words() -> None:
    with relay() as server:
        server.answer = lambda _: Answer(200, b"<html>", {"Content-Type": "text/html"})
        bucket = open_bucket("s3://b/p", {**KEYS, "AWS_ENDPOINT_URL": server.url})
        with pytest.raises(BucketUnavailable, match=r"^[^\n]*can't be read\): check AWS_ENDPOINT_URL\.$"):
            list(bucket.list(""))


@pytest.mark.parametrize("name", ["redirect", "connection", "169.254.169.254", "certificate"])
def test_a_key_s_own_words_are_not_taken_for_the_store_s(name: str) -> None:
    with relay() as server:
        server.answer = lambda _: refusing(500, "InternalError")
        bucket = open_bucket("s3://b/p", {**KEYS, "AWS_ENDPOINT_URL": server.url})
        with pytest.raises(BucketUnavailable, match=r"\(500 InternalError\)"):
            bucket.get(f"outputs/{name}.json")


def test_a_host_that_does_not_exist_is_said() -> None:
    bucket = open_bucket("s3://b/p", {**KEYS, "AWS_ENDPOINT_URL": "http://no-such-host.invalid"})
    with pytest.raises(Misdirected, match=r"its host was not found\): check AWS_ENDPOINT_URL\.$"):
        bucket.get("x")


def test_a_region_that_does_not_exist_is_suspected_where_its_host_is_not_found() -> None:
    bucket = open_bucket("s3://b/p", {**KEYS, "AWS_REGION": "us-eest-1"})
    with pytest.raises(Misdirected, match=r"its host was not found\): check AWS_REGION\.$"):
        bucket.get("x")


def test_a_server_without_tls_is_told_from_one_that_is_away() -> None:
    with relay() as server:
        endpoint = server.url.replace("http:", "https:")
        with pytest.raises(Misdirected, match=r"it does not speak TLS\): check AWS_ENDPOINT_URL\.$"):
            open_bucket("s3://b/p", {**KEYS, "AWS_ENDPOINT_URL": endpoint}).get("x")


def test_a_certificate_of_one_s_own_is_trusted_when_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with relay() as plain, behind_tls(plain, tmp_path) as endpoint:
        plain.answer = lambda _: refusing(404, "NoSuchKey")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nobody.pem"))
        with pytest.raises(Misdirected, match=r"certificate is not trusted: SSL_CERT_FILE [^\n]*\.$"):
            open_bucket("s3://b/p", {**KEYS, "AWS_ENDPOINT_URL": endpoint}).get("x")

        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert open_bucket("s3://b/p", {**KEYS, "AWS_ENDPOINT_URL": endpoint}).get("x") is None


@pytest.fixture
def metadata() -> Iterator[Relay]:
    """What Azure's App Service and Container Apps offer instead of a machine's own address for credentials."""
    with relay() as server:
        yield server


def test_the_identity_of_azure_s_apps_is_asked_where_it_is(
    metadata: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "header-secret")
    token = {"access_token": "t", "expires_on": "4102444800", "resource": "r", "token_type": "Bearer"}
    metadata.answer = lambda request: (
        Answer(
            200, json.dumps({**token, "expires_in": "3600"}).encode(), {"Content-Type": "application/json"}
        )
        if request.path.startswith("/msi")
        else Answer(404, b"<Error><Code>BlobNotFound</Code></Error>")
    )
    env = {
        "AZURE_STORAGE_ACCOUNT_NAME": "acc",
        "AZURE_STORAGE_ENDPOINT": f"{metadata.url}/acc",
        "IDENTITY_ENDPOINT": f"{metadata.url}/msi/token",
    }
    assert open_bucket("az://c", env).get("x") is None
    asked, used = metadata.asked
    assert {k.lower(): v for k, v in asked.headers.items()}["x-identity-header"] == "header-secret"
    assert {k.lower(): v for k, v in used.headers.items()}["authorization"] == "Bearer t"


def test_no_credentials_anywhere_is_said_with_the_variables_to_set() -> None:
    for url, env, variable in (
        ("s3://b", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "AWS_ACCESS_KEY_ID"),
        ("gs://b", {}, "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://c", {"AZURE_STORAGE_ACCOUNT_NAME": "acc"}, "AZURE_STORAGE_ACCOUNT_KEY"),
    ):
        with pytest.raises(NoCredentials, match=rf"^No credentials for [^\n]*{variable}[^\n]*\.$"):
            open_bucket(url, env).get("x")
