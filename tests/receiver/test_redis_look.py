"""What `serve` finds out about Redis before it listens, and what it makes of it."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from emulator.demo.local_redis import free_port, start_redis
from receiver.errors import SettingsError
from receiver.intake import connect
from receiver.redis_look import look
from tests.conftest import StartProcess
from tests.receiver.conftest import OwnRedis, StartReceiver
from tests.receiver.signing import SECRET
from tests.support.processes import Process
from tests.support.waiting import wait_until
from workers.contract.redis_words import in_words

Serve = Callable[[str], Process]


@pytest.fixture
def serve(start_process: StartProcess) -> Serve:
    def start(redis_url: str) -> Process:
        env = {"REDIS_URL": redis_url, "WEBHOOK_SIGNING_SECRET": SECRET}
        return start_process("serve", "--port", "0", env=env)

    return start


def assert_stopped(process: Process, *words: str) -> None:
    """Ended with 2 and one sentence on standard error, which holds all of `words`."""
    assert process.wait() == 2
    sentences = [line for line in process.output.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1
    assert "Traceback" not in process.output
    for word in words:
        assert word in sentences[0]


@pytest.fixture
def cluster_url(tmp_path: Path) -> Iterator[str]:
    # The nodes of a cluster talk to each other on a second port, 10,000 above.
    port = next(port for port in iter(free_port, None) if port < 55_000)
    process = start_redis(tmp_path / "cluster", port, "--cluster-enabled", "yes")
    try:
        with redis.Redis(port=port) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
            wait_until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def test_a_cluster_stops_it(serve: Serve, cluster_url: str) -> None:
    assert_stopped(serve(cluster_url), "Redis Cluster", "single Redis")


def test_a_cluster_that_tells_nothing_about_itself_is_found_out(cluster_url: str) -> None:
    with redis.Redis.from_url(cluster_url) as client:
        client.execute_command("ACL", "SETUSER", "quiet", "on", ">word", "~*", "+@all", "-info")
    connection = connect(cluster_url.replace("redis://", "redis://quiet:word@"))
    with connection, pytest.raises(SettingsError, match="Redis Cluster"):
        look(connection)


def test_missing_rights_stop_it_and_are_named(serve: Serve, own_redis: OwnRedis) -> None:
    url = own_redis.url_of("receiver", "~*", "+@all", "-hset", "-rpush")
    assert_stopped(serve(url), "HSET, RPUSH", "redis-users.acl")


def test_keys_that_it_may_not_touch_stop_it(serve: Serve, own_redis: OwnRedis) -> None:
    assert_stopped(serve(own_redis.url_of("receiver", "~other:*", "+@all")), "redis-users.acl")


def test_an_eviction_policy_and_a_missing_append_only_file_are_a_sentence_each(
    start_receiver: StartReceiver, own_redis: OwnRedis
) -> None:
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    receiver = start_receiver(own_redis.url)
    lines = [line for line in receiver.process.output.splitlines() if "event=redis_settings" in line]
    assert len(lines) == 2
    assert "set its maxmemory-policy to noeviction instead of allkeys-lru." in lines[0]
    assert "set appendonly to yes." in lines[1]


def test_a_redis_that_keeps_what_it_took_is_not_complained_of(own_redis: OwnRedis) -> None:
    with own_redis.client() as client:
        client.config_set("appendonly", "yes")
    with connect(own_redis.url) as connection:
        assert look(connection) == []


def test_a_redis_that_is_not_there_yet_is_waited_for(
    start_receiver: StartReceiver, own_redis: OwnRedis
) -> None:
    own_redis.kill()
    receiver = start_receiver(own_redis.url)
    assert 'event=redis_unavailable reason="no connection (Connection refused)"' in receiver.process.output
    assert receiver.send("GET", "/readyz").status == 503
    own_redis.start()
    wait_until(lambda: receiver.deliver().status == 200, what="a delivery accepted")
    assert receiver.send("GET", "/readyz").status == 200


def tls_of_its_own(folder: Path) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate that nobody else has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@contextmanager
def a_server(greet: Callable[[socket.socket], None]) -> Iterator[int]:
    """It greets whoever connects, and hangs up. Yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    greet(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_an_untrusted_certificate_is_said_to_be_one(start_receiver: StartReceiver, tmp_path: Path) -> None:
    tls = tls_of_its_own(tmp_path)
    with a_server(lambda connection: tls.wrap_socket(connection, server_side=True).close()) as port:
        receiver = start_receiver(f"rediss://:a-password@127.0.0.1:{port}/0")
        receiver.deliver()
    assert "TLS: its certificate is not trusted (self-signed certificate)" in receiver.process.output
    assert "ssl_ca_certs" in receiver.process.output
    assert "a-password" not in receiver.process.output
    unavailable = receiver.process.wait_for_output(r"event=unavailable .*")[0]
    assert "certificate" in unavailable


def test_a_server_without_tls_is_said_to_speak_none() -> None:
    with (
        a_server(lambda connection: connection.sendall(b"-ERR unknown command\r\n")) as port,
        connect(f"rediss://127.0.0.1:{port}/0") as connection,
        pytest.raises(redis.RedisError) as caught,
    ):
        look(connection)
    assert in_words(caught.value) == "TLS: no handshake (WRONG_VERSION_NUMBER)"
