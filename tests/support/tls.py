"""HTTPS before a plain server, with a certificate of an authority that nobody knows."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.relay import Relay


@contextmanager
def behind_tls(plain: Relay, folder: Path) -> Iterator[str]:
    """The https:// address of `plain`; `authority.pem` in the folder is trusted by who is told, `nobody.pem` is not."""
    certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    listener = socket.create_server(("127.0.0.1", 0))
    thread = Thread(target=_serve, args=(listener, context, urlsplit(plain.url).port))
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _serve(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """One connection after the other, one request each: enough for a look."""
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:
            return
        with (
            suppress(OSError),
            raw,
            context.wrap_socket(raw, server_side=True) as outside,
            socket.create_connection(("127.0.0.1", port)) as inside,
        ):
            inside.sendall(outside.recv(65536))
            outside.sendall(inside.recv(65536))


def certificates(folder: Path) -> None:
    """`server.pem` and `server.key` for 127.0.0.1, by `authority.pem`; `nobody.pem` has signed nothing."""
    for name in ("authority", "nobody"):
        key, subject = ec.generate_private_key(ec.SECP256R1()), _name(name)
        authority = _certificate(subject, subject, key.public_key(), key, ca=True)
        (folder / f"{name}.pem").write_bytes(authority.public_bytes(Encoding.PEM))
        if name == "authority":
            own = ec.generate_private_key(ec.SECP256R1())
            server = _certificate(_name("server"), subject, own.public_key(), key, ca=False)
            (folder / "server.pem").write_bytes(server.public_bytes(Encoding.PEM))
            pem = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / "server.key").write_bytes(pem)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    ca: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(signer, hashes.SHA256())
    )
