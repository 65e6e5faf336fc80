"""A bounded fuzz run: `python -m tests.fuzz --seconds 600 [--seed 1] [--target line]`.

Four targets: the signature headers, the event, the result line, and the receiver's port over real sockets. A finding
is an exception that is not ours, a document that is no JSON, an answer of 5xx, or a hang; it is printed with the input
and ends the run with exit code 1. Findings become plain cases in the tests beside the module.
"""

import argparse
import json
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click

from emulator.demo.local_redis import local_redis
from receiver.errors import ReceiverError
from receiver.events import Event, Ignored, parse_event
from receiver.public_keys import PublicKeys
from receiver.signatures import Keys, parse_secrets, verify
from tests.receiver import signing
from tests.support.processes import Process
from workers.results.documents import manifest_line
from workers.results.json_text import is_utf8
from workers.results.result import key_of, parse, render

SLOWEST_SECONDS = 5.0

TOKENS = [
    *(b'{}[]",:.\\/ \n\r\t\0'[i : i + 1] for i in range(17)),
    b"\\ud800", b"\\u0000", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"1e999", b"-0", b"NaN", b"null", b"true",
    b'"key"', b'"response"', b'"error"', b'"status"', b'"metadata"', b'"candidates"', b'"parts"', b'"text"',
    b'"inlineData"', b'"inline_data"', b'"mimeType"', b'"data"', b'"image/png"', b'"usageMetadata"', b"AAAA",
    b"v1,", b"v1a,", b"whsec_", b"eyJhbGciOiJub25lIn0.e30.", b"batches/", b"..", b"%2F", b"@", b"batch.succeeded",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"[" * 2000, b"9" * 400,
]  # fmt: skip

LINES = [
    b'{"key":"a","response":{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}]}}',
    b'{"key":"u","response":{"usageMetadata":{"promptTokenCount":1,"totalTokenCount":"2"}}}',
    b'{"key":"b/..","response":{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"x","data":"iV=="}}]}}]}}',
    b'{"key":"t","response":{"candidates":[{"content":{"parts":[{"thought":true,"text":"t"},{"text":"a"}]}}]}}',
    b'{"metadata":{"key":7},"response":{"tokenCount":"1","embedding":{"values":[-0.5,1e-3]}}}',
    b'{"key":"e","error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}',
    b'{"response":{"promptFeedback":{"blockReason":"SAFETY"}},"key":"c","extra":[1,{"x":null}]}',
]

EVENTS = [
    b'{"type":"batch.succeeded","version":"v1","timestamp":"2026-01-22T12:00:00Z","data":{"id":"batch_123456"}}',
    b'{"type":"batch.failed","data":{"id":"batches/x","error_code":3},"user_metadata":{"a":[1,2,{"b":"c"}]}}',
]


def mutated(rng: random.Random, seed: bytes) -> bytes:
    """A seed with up to eight cuts, repetitions, insertions, replacements or flipped bits."""
    data = bytearray(seed)
    for _ in range(rng.randint(0, 8)):
        at = rng.randint(0, len(data))
        end = min(len(data), at + rng.choice((1, 2, 8, 64)))
        match rng.randrange(5):
            case 0:
                del data[at:end]
            case 1:
                data[at:at] = data[at:end] * rng.choice((1, 3, 50))
            case 2:
                data[at:at] = rng.choice(TOKENS)
            case 3:
                data[at:end] = rng.choice(TOKENS)
            case _ if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
    return bytes(data)


def fuzz_line(rng: random.Random) -> bytes:
    line = mutated(rng, rng.choice(LINES))
    parsed = parse(line)
    if is_utf8(line):
        assert key_of(line) == parsed.key
    rendered = render(parsed, 3, rng.choice((1, 2)))
    json.loads(rendered.document)
    json.loads(manifest_line(rendered, "raw/part-00000.jsonl", 0, len(line), has_object=True))
    assert "/" not in rendered.name
    assert len(rendered.name.encode()) <= 240
    return line


def fuzz_event(rng: random.Random) -> bytes:
    body = mutated(rng, rng.choice(EVENTS))
    event = parse_event(body)
    assert isinstance(event, Event | Ignored)
    return body


class SignatureFuzz:
    """Headers of all three kinds, mutated: what still passes must be what was signed."""

    def __init__(self) -> None:
        self._now = 1_700_000_000.0
        self._ed25519, self._rsa = signing.ed25519_key(), signing.rsa_key()
        public = PublicKeys((self._ed25519.public_key(),), {"rsa-1": self._rsa.public_key()})
        self._keys = Keys(
            secrets=parse_secrets(signing.SECRET),
            tolerance_seconds=300,
            public=public,
            audience=signing.AUDIENCE,
        )
        self._signed = [
            (body, signing.headers(signature, at=self._now))
            for body in EVENTS
            for signature in (
                signing.v1(body, at=self._now),
                signing.v1a(body, key=self._ed25519, at=self._now),
                f"{signing.v1(body, key=signing.OTHER_KEY, at=self._now)} {signing.v1(body, at=self._now)}",
            )
        ]

    def __call__(self, rng: random.Random) -> bytes:
        body, headers = rng.choice(self._signed)
        if rng.random() < 0.1:
            token = signing.token(body, self._rsa, at=time.time())
            headers = {"webhook-signature": token}
        given = [
            (name, mutated(rng, value) if rng.random() < 0.5 else value)
            for name, value in signing.raw(headers)
            for _ in range(rng.choice((1, 1, 1, 2)))
        ]
        payload = mutated(rng, body) if rng.random() < 0.3 else body
        now = self._now if len(headers) > 1 else time.time()
        try:
            verified = verify(given, payload, now, self._keys)
        except ReceiverError:
            pass
        else:
            assert parse_event(verified.payload) == parse_event(body), "a forgery was believed"
        return repr((given, payload)).encode()


def fuzz_port(port: int) -> Callable[[random.Random], bytes]:
    """Bytes at the real receiver: it answers below 500 or closes, within seconds."""
    seed = (
        b"POST /webhooks/gemini HTTP/1.1\r\nHost: x\r\nwebhook-id: 1\r\nwebhook-timestamp: 1\r\n"
        b"webhook-signature: v1,AAAA\r\nContent-Length: 20\r\n\r\n" + EVENTS[0][:20]
    )

    def once(rng: random.Random) -> bytes:
        request = mutated(rng, seed)
        with socket.create_connection(("127.0.0.1", port), timeout=SLOWEST_SECONDS) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while chunk := connection.recv(65536):
                    answer += chunk
            except ConnectionResetError:
                pass
        assert not answer.startswith(b"HTTP/1.1 5"), answer[:200]
        return request

    return once


def run(name: str, target: Callable[[random.Random], bytes], seconds: float, seed: int) -> int:
    """Run a target for a while; the number of inputs, or -1 after a finding."""
    count, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        rng = random.Random(f"{seed}-{name}-{count}")
        begun = time.monotonic()
        try:
            target(rng)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            click.echo(f"{name}: input {count} of seed {seed}: {type(error).__name__}: {error}")
            return -1
        if time.monotonic() - begun > SLOWEST_SECONDS:
            click.echo(f"{name}: input {count} of seed {seed} took {time.monotonic() - begun:.1f} s")
            return -1
        count += 1
    return count


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seconds", type=float, default=60, help="for all targets together")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--target", choices=("signature", "event", "line", "port"), action="append")
    chosen = options.parse_args()
    names = chosen.target or ["signature", "event", "line", "port"]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, local_redis(Path(folder)) as redis_url:
        environment = {"REDIS_URL": redis_url, "WEBHOOK_SIGNING_SECRET": signing.SECRET}
        receiver = Process(["serve", "--port", "0"], environment, Path(folder) / "serve.log")
        try:
            port = int(receiver.wait_for_output(r"listening on http://127.0.0.1:(\d+)")[1])
            targets: dict[str, Callable[[random.Random], bytes]] = {
                "signature": SignatureFuzz(), "event": fuzz_event, "line": fuzz_line, "port": fuzz_port(port),
            }  # fmt: skip
            for name in names:
                counts[name] = run(name, targets[name], chosen.seconds / len(names), chosen.seed)
                click.echo(f"{name}: {counts[name]} inputs")
        finally:
            receiver.kill()
    return 1 if any(count < 0 for count in counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
