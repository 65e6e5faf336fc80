"""The proxies of `deploy/` as Debian packages them, over TLS, before two receivers that can be restarted."""

import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from emulator.demo.local_redis import free_port
from tests.receiver.signing import SECRET
from tests.support.processes import ROOT, Process
from tests.support.waiting import wait_until

DEPLOY = ROOT / "deploy"
PATH = "/webhooks/gemini"
HOSTS = ("127.0.0.2", "127.0.0.3")
"""Where the two receivers are; `receiver.test` is the one name for both."""


class Names:
    """A name server that knows one name with two addresses, whatever it is asked for (RFC 1035, section 4)."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(4096)
            if not query:
                return
            end = query.index(b"\0", 12) + 5
            addresses = HOSTS if query[end - 4 : end - 2] == b"\0\1" else ()
            head = query[:2] + b"\x85\x80\0\1" + len(addresses).to_bytes(2, "big") + bytes(4)
            found = [b"\xc0\x0c\0\1\0\1" + bytes(4) + b"\0\4" + socket.inet_aton(each) for each in addresses]
            self._socket.sendto(head + query[12:end] + b"".join(found), sender)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()


def program_of(kind: str) -> str | None:
    """Where `caddy` or `nginx` is, if it is installed."""
    return shutil.which(kind, path=f"{os.environ['PATH']}:/usr/sbin")


class Proxy:
    """In front of receivers at `port` of both addresses."""

    def __init__(self, kind: str, folder: Path, port: int) -> None:
        program = program_of(kind)
        assert program, f"{kind} is not installed"
        self.port = free_port()
        self._certify(folder)
        self._names = Names()
        port_of_names = self._names.port
        command = _caddy(folder, port_of_names) if kind == "caddy" else _nginx(folder, self.port, port)
        domain = f"https://localhost:{self.port}"
        env = {"HOME": str(folder), "DOMAIN": domain, "RECEIVER": f"receiver.test:{port}"}
        with (folder / "proxy.log").open("wb") as log:
            self._process = subprocess.Popen([program, *command], env=env, stdout=log, stderr=log)

    @staticmethod
    def _certify(folder: Path) -> None:
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files],
            check=True,
            capture_output=True,
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._names.close()

    def connect(self, seconds: float = 40) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=seconds)
        return unchecked().wrap_socket(plain, server_hostname="localhost")

    def wait_until_up(self) -> None:
        def is_up() -> bool:
            assert self._process.poll() is None
            try:
                return status_of(self, "GET", "/healthz") == 200
            except OSError:
                return False

        wait_until(is_up, what="a proxy in front of the receivers")


class Nothing:
    """No proxy: the receivers' own port, without TLS."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self, seconds: float = 40) -> socket.socket:
        return socket.create_connection((HOSTS[0], self.port), timeout=seconds)


def unchecked() -> ssl.SSLContext:
    """TLS that believes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _caddy(folder: Path, names: int) -> list[str]:
    text = (DEPLOY / "Caddyfile").read_text()
    text = text.replace("{\n\tservers", "{\n\tadmin off\n\tauto_https disable_redirects\n\tservers", 1)
    text = text.replace("{$DOMAIN} {", f"{{$DOMAIN}} {{\n\ttls {folder}/cert.pem {folder}/key.pem", 1)
    text = text.replace("transport http {", f"transport http {{\n\t\t\t\tresolvers udp/127.0.0.1:{names}", 1)
    (folder / "Caddyfile").write_text(text)
    return ["run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _nginx(folder: Path, port: int, receivers: int) -> list[str]:
    text = (DEPLOY / "nginx.conf").read_text()
    text = text.replace("listen 443", f"listen 127.0.0.1:{port}")
    text = text.replace("127.0.0.1:8081", f"{HOSTS[0]}:{receivers}")
    text = text.replace("127.0.0.1:8082", f"{HOSTS[1]}:{receivers}")
    text = re.sub(r"ssl_certificate .*;", f"ssl_certificate {folder}/cert.pem;", text)
    text = re.sub(r"ssl_certificate_key .*;", f"ssl_certificate_key {folder}/key.pem;", text)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 1024; }}\nhttp {{ access_log off;\n{temporary}{text}}}\n"
    )
    (folder / "nginx.conf").write_text(whole)
    return ["-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


class Receivers:
    """Two of them at one port, each to be restarted."""

    def __init__(self, start: Callable[..., Process], redis_url: str) -> None:
        self._start = start
        self._env = {"REDIS_URL": redis_url, "WEBHOOK_SIGNING_SECRET": SECRET}
        self.port = free_port()
        self._running = {host: self._serve(host) for host in HOSTS}

    def restart(self, host: str) -> int:
        code = self._running[host].stop()
        self._running[host] = self._serve(host)
        return code

    def _serve(self, host: str) -> Process:
        process = self._start("serve", "--host", host, "--port", str(self.port), env=self._env)
        process.wait_for_output("listening on")
        return process


def status_of(
    proxy: Proxy | Nothing, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> int:
    with closing(http.client.HTTPConnection("localhost", timeout=40)) as connection:
        connection.sock = proxy.connect()
        connection.request(method, path, body, headers or {})
        return connection.getresponse().status
