"""A JWKS address for tests: a real HTTP server that counts, and misbehaves on request."""

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class JwksServer:
    def __init__(self) -> None:
        self.document = b'{"keys":[]}'
        self.status = 200
        self.location = ""
        self.stalls = False
        self.asked = 0
        self._released = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked += 1
                if owner.stalls:
                    owner._released.wait(30)
                    return
                self.send_response(owner.status)
                self.send_header("Content-Length", str(len(owner.document)))
                if owner.location:
                    self.send_header("Location", owner.location)
                self.end_headers()
                with suppress(ConnectionError):
                    self.wfile.write(owner.document)

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.02))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    def stop(self) -> None:
        """Listen no more. A second time does nothing."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
