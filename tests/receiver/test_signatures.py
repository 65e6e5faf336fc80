import base64
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import SignatureRefused, UnknownKey
from receiver.public_keys import PublicKeys, parse_jwks
from receiver.signatures import Keys, Kind, SigningSecret, Verified, parse_secrets, verify
from tests.receiver import signing
from tests.receiver.signing import AUDIENCE, OTHER_KEY, OTHER_SECRET, SECRET, SECRET_KEY, raw

NOW = 1_790_000_000.0
BODY = signing.event()
ED25519 = signing.ed25519_key()
RSA = signing.rsa_key()
PUBLIC = parse_jwks(signing.jwks(signing.ed25519_jwk(ED25519), signing.rsa_jwk(RSA)))
STATIC = Keys(parse_secrets(SECRET), 300)
DYNAMIC = Keys((), 300, PUBLIC, AUDIENCE)


def static_headers(**changes: str) -> dict[str, str]:
    named = signing.headers(signing.v1(BODY, at=NOW), at=NOW)
    return {**named, **{name.replace("_", "-"): value for name, value in changes.items()}}


def token_headers(value: str) -> list[tuple[bytes, bytes]]:
    return [(b"webhook-signature", value.encode())]


def test_a_static_signature_is_verified() -> None:
    assert verify(raw(static_headers()), BODY, NOW, STATIC) == Verified(Kind.STATIC, BODY)


def test_a_body_that_is_not_utf8_is_verified_as_bytes() -> None:
    body = b"\xff\xfe\x00"
    assert verify(raw(signing.signed(body, at=NOW)), body, NOW, STATIC).payload == body


@pytest.mark.parametrize("key", [SECRET_KEY, OTHER_KEY])
def test_any_of_several_secrets_verifies(key: bytes) -> None:
    keys = Keys(parse_secrets(f"{SECRET} {OTHER_SECRET}"), 300)
    assert verify(raw(signing.signed(BODY, key=key, at=NOW)), BODY, NOW, keys).kind is Kind.STATIC


def test_any_of_several_signatures_verifies() -> None:
    entries = f"v9,abc {signing.v1(BODY, key=OTHER_KEY, at=NOW)} {signing.v1(BODY, at=NOW)}"
    assert verify(raw(static_headers(webhook_signature=entries)), BODY, NOW, STATIC).kind is Kind.STATIC


@pytest.mark.parametrize("offset", [-300, 300])
def test_the_tolerance_counts_in_both_directions(offset: int) -> None:
    verify(raw(signing.signed(BODY, at=NOW + offset)), BODY, NOW, STATIC)
    with pytest.raises(SignatureRefused, match="stale"):
        verify(raw(signing.signed(BODY, at=NOW + offset + offset // 300)), BODY, NOW, STATIC)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_empty_or_oversized_header_is_refused(name: str) -> None:
    good = static_headers()
    missing = {key: value for key, value in good.items() if key != name}
    for pairs in (
        raw(missing),
        raw({**good, name: ""}),
        raw({**good, name: " \t"}),
        raw({**good, name: good[name] + " " * 20_000}),
    ):
        with pytest.raises(SignatureRefused, match=name):
            verify(pairs, BODY, NOW, STATIC)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_a_repeated_header_that_is_no_list_is_refused(name: str) -> None:
    good = static_headers()
    with pytest.raises(SignatureRefused, match=f"repeated {name}"):
        verify([*raw(good), (name.encode(), good[name].encode())], BODY, NOW, STATIC)


@pytest.mark.parametrize(
    "lines",
    [
        ["{old} {new}"],
        ["  {old}\t \t{new}  "],
        ["{old}", "{new}"],
        ["", "{new}", "{old}"],
        ["{old}, {new}"],
        ["{old},{new}"],
        ["{new},{old}"],
        ["{new},"],
        ["v2,AAAA, {new}"],
        ["nonsense, {new}"],
        ["v1, {bare}"],
    ],
)
def test_signatures_are_found_however_a_proxy_folds_them(lines: list[str]) -> None:
    old, new = signing.v1(BODY, key=signing.OTHER_KEY, at=NOW), signing.v1(BODY, at=NOW)
    good = static_headers()
    del good["webhook-signature"]
    given = [line.format(old=old, new=new, bare=new.removeprefix("v1,")) for line in lines]
    pairs = [*raw(good), *((b"webhook-signature", line.encode()) for line in given)]
    assert verify(pairs, BODY, NOW, STATIC).kind is Kind.STATIC


@pytest.mark.parametrize(
    ("seconds_old", "said"),
    [
        (301, "5 minutes behind our clock"),
        (-310, "5 minutes ahead of our clock"),
        (7200, "2 hours behind our clock"),
        (-3 * 86_400, "3 days ahead of our clock"),
    ],
)
def test_a_stale_timestamp_is_said_to_be_how_far_off(seconds_old: int, said: str) -> None:
    with pytest.raises(SignatureRefused, match=f"stale webhook-timestamp, {said}"):
        verify(raw(signing.signed(BODY, at=NOW - seconds_old)), BODY, NOW, STATIC)


@pytest.mark.parametrize("timestamp", ["abc", "1e9", "-5", "1" * 30, "\uff11\uff17", "1790000000.0", "0x1f"])
def test_a_timestamp_that_is_not_unix_seconds_is_refused(timestamp: str) -> None:
    with pytest.raises(SignatureRefused, match="malformed"):
        verify(raw(static_headers(webhook_timestamp=timestamp)), BODY, NOW, STATIC)


@pytest.mark.parametrize(
    "signature", ["v1,", "v1", ",", "v1,é", "v1,%%%", "v1, ", "v2,AAAA", "v1,AAAA=", "a.b.c"]
)
def test_a_malformed_signature_is_refused(signature: str) -> None:
    for keys in (STATIC, DYNAMIC):
        with pytest.raises(SignatureRefused):
            verify(raw(static_headers(webhook_signature=signature)), BODY, NOW, keys)


def test_a_changed_body_or_id_is_refused() -> None:
    for pairs, body in ((static_headers(), BODY + b" "), (static_headers(webhook_id="evt_2"), BODY)):
        with pytest.raises(SignatureRefused):
            verify(raw(pairs), body, NOW, STATIC)


def test_more_signatures_than_a_rotation_needs_are_refused() -> None:
    with pytest.raises(SignatureRefused, match="too many"):
        verify(raw(static_headers(webhook_signature="v1,AAAA " * 17)), BODY, NOW, STATIC)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no secret"),
        ("whsec_", "empty"),
        ("whsec_not*base64", "secret 1 is not base64"),
        (f"{SECRET} AIzaSyNotASecret", "secret 2 does not begin"),
        ("whsec_" + "é" * 32, "not base64"),
    ],
)
def test_a_wrong_secret_is_named_by_its_place_and_never_shown(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_secrets(text)
    assert not any(word in str(caught.value) for word in text.split() if word != "whsec_")


def test_a_secret_is_not_in_its_repr() -> None:
    assert repr(SECRET_KEY) not in repr(STATIC)
    assert repr(parse_secrets(SECRET)[0]) == "SigningSecret()"


def test_an_ed25519_signature_is_verified_as_dynamic() -> None:
    pairs = raw(signing.headers(signing.v1a(BODY, key=ED25519, at=NOW), at=NOW))
    assert verify(pairs, BODY, NOW, DYNAMIC) == Verified(Kind.DYNAMIC, BODY)


def test_an_ed25519_signature_by_an_unknown_key_may_be_worth_a_fetch() -> None:
    pairs = raw(signing.headers(signing.v1a(BODY, key=signing.ed25519_key(), at=NOW), at=NOW))
    for keys in (DYNAMIC, Keys((), 300, PublicKeys(), AUDIENCE)):
        with pytest.raises(UnknownKey):
            verify(pairs, BODY, NOW, keys)


def test_a_stale_ed25519_signature_is_refused_without_asking_for_keys() -> None:
    pairs = raw(signing.headers(signing.v1a(BODY, key=ED25519, at=NOW - 301), at=NOW - 301))
    with pytest.raises(SignatureRefused, match="stale"):
        verify(pairs, BODY, NOW, DYNAMIC)


def test_a_dynamic_signature_is_refused_while_dynamic_webhooks_are_off() -> None:
    token = signing.token(BODY, RSA, at=NOW)
    for pairs in (
        raw(signing.headers(signing.v1a(BODY, key=ED25519, at=NOW), at=NOW)),
        token_headers(token),
    ):
        with pytest.raises(SignatureRefused) as caught:
            verify(pairs, BODY, NOW, STATIC)
        assert not isinstance(caught.value, UnknownKey)


def test_a_tokens_claims_are_the_event() -> None:
    for body in (b"", BODY):
        verified = verify(token_headers(signing.token(BODY, RSA, at=NOW)), body, NOW, DYNAMIC)
        assert verified.kind is Kind.DYNAMIC
        assert b'"abc"' in verified.payload


@pytest.mark.parametrize("body", [signing.event("other"), signing.event(type="batch.failed"), b"nonsense"])
def test_a_body_that_says_something_else_than_its_token_is_refused(body: bytes) -> None:
    with pytest.raises(SignatureRefused, match="something else"):
        verify(token_headers(signing.token(BODY, RSA, at=NOW)), body, NOW, DYNAMIC)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another"},
        {"aud": None},
        {"aud": [AUDIENCE + "x"]},
        {"exp": None},
        {"exp": int(NOW)},
        {"iat": None},
        {"iat": int(NOW) - 301},
        {"iat": int(NOW) + 301},
        {"iat": 10**400},
        {"iat": str(int(NOW))},
        {"nbf": int(NOW) + 1},
    ],
)
def test_a_token_that_is_stale_or_meant_for_others_is_refused(changes: dict[str, Any]) -> None:
    token = signing.token(BODY, RSA, at=NOW, **changes)
    with pytest.raises(SignatureRefused):
        verify(token_headers(token), BODY, NOW, DYNAMIC)


def test_a_token_may_name_several_audiences() -> None:
    token = signing.token(BODY, RSA, at=NOW, aud=["x", AUDIENCE])
    assert verify(token_headers(token), BODY, NOW, DYNAMIC).kind is Kind.DYNAMIC


def test_no_token_is_accepted_without_an_audience_to_demand() -> None:
    with pytest.raises(SignatureRefused, match="WEBHOOK_AUDIENCE"):
        verify(token_headers(signing.token(BODY, RSA, at=NOW)), BODY, NOW, Keys((), 300, PUBLIC))


def test_a_stale_timestamp_beside_a_token_is_refused() -> None:
    pairs = [*token_headers(signing.token(BODY, RSA, at=NOW)), (b"webhook-timestamp", b"1000000000")]
    with pytest.raises(SignatureRefused, match="stale"):
        verify(pairs, BODY, NOW, DYNAMIC)


def test_a_token_of_an_unknown_kid_may_be_worth_a_fetch() -> None:
    with pytest.raises(UnknownKey):
        verify(token_headers(signing.token(BODY, RSA, at=NOW, kid="rsa-9")), BODY, NOW, DYNAMIC)


def test_a_token_without_kid_is_refused() -> None:
    with pytest.raises(SignatureRefused, match="kid"):
        verify(token_headers(signing.token(BODY, RSA, at=NOW, kid=None)), BODY, NOW, DYNAMIC)


def test_a_token_signed_by_another_key_of_the_same_kid_is_refused() -> None:
    with pytest.raises(SignatureRefused, match="genuine"):
        verify(token_headers(signing.token(BODY, signing.rsa_key(), at=NOW)), BODY, NOW, DYNAMIC)


def test_a_token_can_not_choose_its_algorithm_or_bring_its_key() -> None:
    claims = {"aud": AUDIENCE, "iat": int(NOW), "exp": int(NOW) + 60, "type": "batch.succeeded"}
    stranger = signing.rsa_key()
    headers = {"kid": "rsa-1", "jku": "http://127.0.0.1:9/", "jwk": signing.rsa_jwk(stranger)}
    hmac_key = signing.rsa_jwk(RSA)["n"].encode()
    for token in (
        jwt.encode(claims, "", algorithm="none", headers={"kid": "rsa-1"}),
        jwt.encode(claims, hmac_key, algorithm="HS256", headers={"kid": "rsa-1"}),
        jwt.encode(claims, RSA, algorithm="PS256", headers={"kid": "rsa-1"}),
        jwt.encode(claims, ED25519, algorithm="EdDSA", headers={"kid": "rsa-1"}),
        jwt.encode(claims, stranger, algorithm="RS256", headers=headers),
    ):
        with pytest.raises(SignatureRefused):
            verify(token_headers(token), b"", NOW, DYNAMIC)


ENTRY = st.binary(max_size=200) | st.sampled_from(
    [b"v1,", b"v1a,", b"v1a," + base64.b64encode(b"x" * 64), b"eyJhbGciOiJSUzI1NiJ9.e30.AAAA", b"W10.W10.W10"]
)


@given(
    st.lists(ENTRY, max_size=20).map(b" ".join),
    st.binary(max_size=300) | st.just(b"evt_1"),
    st.binary(max_size=30) | st.just(b"1790000000"),
    st.binary(max_size=300),
)
def test_any_headers_are_refused_with_our_own_error(
    signature: bytes, delivery: bytes, timestamp: bytes, body: bytes
) -> None:
    pairs = [(b"webhook-id", delivery), (b"webhook-timestamp", timestamp), (b"webhook-signature", signature)]
    for keys in (STATIC, DYNAMIC):
        with pytest.raises(SignatureRefused):
            verify(pairs, body, NOW, keys)


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_any_token_is_refused_with_our_own_error(header: bytes, claims: bytes) -> None:
    token = ".".join(signing.base64url(part) for part in (header, claims, b"s" * 256))
    with pytest.raises(SignatureRefused):
        verify(token_headers(token), b"", NOW, DYNAMIC)


@given(st.binary(max_size=400))
def test_any_claims_of_a_genuine_token_are_refused_with_our_own_error(claims: bytes) -> None:
    token = jwt.PyJWS().encode(claims, RSA, algorithm="RS256", headers={"kid": "rsa-1"})
    with pytest.raises(SignatureRefused):
        verify(token_headers(token), b"", NOW, DYNAMIC)


def test_a_secret_compares_by_its_key() -> None:
    assert parse_secrets(SECRET) == (SigningSecret(SECRET_KEY),)
