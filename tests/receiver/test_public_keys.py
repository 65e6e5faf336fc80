import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.public_keys import MAX_DOCUMENT_BYTES, MAX_KEYS, PublicKeys, decode_base64url, parse_jwks
from tests.receiver import signing

ED25519 = signing.ed25519_key()
RSA = signing.rsa_key()


def test_usable_keys_are_kept_and_others_passed_over() -> None:
    keys = parse_jwks(
        signing.jwks(
            signing.ed25519_jwk(ED25519),
            signing.ed25519_jwk(signing.ed25519_key(), kid="named", alg="EdDSA", use="sig"),
            signing.ed25519_jwk(signing.ed25519_key(), use="enc"),
            {"kty": "OKP", "crv": "Ed25519", "x": "short"},
            {"kty": "OKP", "crv": "X25519", "x": signing.base64url(b"x" * 32)},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
            signing.rsa_jwk(RSA),
            signing.rsa_jwk(RSA, kid="other-algorithm", alg="PS256"),
            {name: value for name, value in signing.rsa_jwk(RSA).items() if name != "kid"},
            {"kty": "RSA", "kid": "broken", "n": "***", "e": "AQAB"},
        )
    )
    assert len(keys.ed25519) == 2
    assert list(keys.rsa) == ["rsa-1"]


def test_an_rsa_key_below_2048_bits_is_no_key() -> None:
    with pytest.raises(ValueError, match="no usable key"):
        parse_jwks(signing.jwks(signing.rsa_jwk(signing.rsa_key(1024))))


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"", "not a JWKS"),
        (b"<html>", "not a JWKS"),
        (b'{"keys": {}}', "not a JWKS"),
        (b'{"keys": []}', "no usable key"),
        (b"[" * 60_000, "not a JWKS"),
        (b" " * (MAX_DOCUMENT_BYTES + 1), "larger"),
        (json.dumps({"keys": [{"kty": "EC"}] * (MAX_KEYS + 1)}).encode(), "more than"),
    ],
)
def test_what_is_no_usable_jwks_is_a_value_error(document: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_jwks(document)


@pytest.mark.parametrize("text", ["a", "a=", "a+/b", "ä", None, 7, "AA=="])
def test_what_is_not_base64url_is_a_value_error(text: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the kind is the contract
        decode_base64url(text)


VALUES = st.none() | st.integers() | st.text(max_size=20) | st.binary(max_size=400).map(signing.base64url)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"kty": st.sampled_from(["RSA", "OKP"]), "crv": st.just("Ed25519"), "kid": st.just("k")},
            optional={"x": VALUES, "n": VALUES, "e": VALUES, "use": VALUES, "alg": VALUES},
        ),
        max_size=5,
    )
)
def test_any_keys_are_read_or_a_value_error(keys: list[dict[str, object]]) -> None:
    try:
        assert isinstance(parse_jwks(json.dumps({"keys": keys}).encode()), PublicKeys)
    except ValueError as error:
        assert "usable" in str(error)  # noqa: PT017 - both ends are right
