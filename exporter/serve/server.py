"""The server behind `exporter serve`: reading is open, writing needs the token.

The standard library's HTTP server does: one person, a few devices, files from a fixed
table and one small write. What it leaves to its user is done here: limits on time, size
and connections, the headers, the token, and where a request may come from.
"""

from __future__ import annotations

import http.server
import ipaddress
import json
import secrets
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from exporter.bundle import Bundle
from exporter.prove import devices
from exporter.serve.checks import host_fits, own_names, parse_json, path_of
from exporter.serve.routes import Resource
from models.errors import UserError

MAX_BODY = 8 * 2**20
MAX_CONNECTIONS = 48
IDLE_S = 20.0  # without a byte
REQUEST_S = 60.0  # for a whole request, however many bytes trickle in
REFUSED_S = 5.0  # for the rest of a request that was refused before it was read
RESULTS = "/results"
TOKEN_HEADER = "X-Exporter-Token"
HEADERS: Mapping[str, str] = {
    "Cross-Origin-Opener-Policy": "same-origin",  # with the next: threads in WebAssembly
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
        "img-src 'self' blob: data:; connect-src 'self'; worker-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}
_JSON = "application/json"
_CHUNK = 2**16


class Refused(Exception):  # noqa: N818 - an answer, not a failure
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        error, mend: what is wrong and what to do, for the person at the device.
    """

    def __init__(self, status: int, error: str, mend: str = "") -> None:
        super().__init__(error)
        self.status, self.error, self.mend = status, error, mend


class Bench(http.server.ThreadingHTTPServer):
    """A server for one bundle.

    Args:
        address: host and port; port 0 takes a free one.
        opened: the bundle that results are stored beside.
        table: from `routes.page_table` and `routes.bundle_table`.
        context: for https, or None.
        headers: sent with every answer; tests leave some out.
        host: the name it was asked to be reached by, if it was a name.
        tell: told in a line what was stored.

    Raises:
        OSError: the address cannot be bound.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        opened: Bundle,
        table: Mapping[str, Resource],
        context: ssl.SSLContext | None = None,
        headers: Mapping[str, str] = HEADERS,
        host: str = "",
        tell: Callable[[str], None] | None = None,
    ) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.opened, self.table, self.fixed_headers = opened, table, headers
        self.token = secrets.token_urlsafe(24)
        self._context = context
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._writing = threading.Lock()
        self.closed = False
        self._tell = tell or (lambda _: None)
        super().__init__(address, Handler)
        self.bound_to = ipaddress.ip_address(str(self.server_address[0]))
        asked = frozenset(filter(None, (host.lower(),)))
        self.names = asked if self.local_only else asked | own_names()

    @property
    def local_only(self) -> bool:
        """Whether only this machine can reach it."""
        return self.bound_to.is_loopback

    @property
    def scheme(self) -> str:
        return "https" if self._context is not None else "http"

    def address(self, host: str) -> str:
        """The URL to open, with the token where no log sees it."""
        shown = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{shown}:{self.server_address[1]}/#token={self.token}"

    def server_bind(self) -> None:
        """Bind; the base class would then ask the network for this machine's name."""
        socketserver.TCPServer.server_bind(self)

    def server_close(self) -> None:
        """Stop for good: who is still connected gets no further answer."""
        self.closed = True
        super().server_close()

    def store(self, data: Any) -> dict[str, Any]:
        """Keep a device's result; what to tell the device.

        Raises:
            UserError: it is none.
            Refused: there is no room for it.
        """
        result = devices.parse(data, self.opened)
        rows = devices.rows(self.opened, result)
        exact = {entry.key: devices.exact(self.opened, entry) for entry in result.artifacts}
        try:
            with self._writing:
                path = devices.store(self.opened, result)
        except UserError as error:
            raise Refused(507, f"{error.what} {error.why}".strip(), error.mend) from error
        self._tell(f"Stored what '{result.name}' found: {path}")
        return {
            "stored": f"{path.parent.name}/{path.name}",
            "rows": [
                {
                    "key": row.key,
                    "status": row.status,
                    "reason": row.reason,
                    "max_probability_difference": row.max_probability_difference,
                    "top1_agreement": row.top1_agreement,
                    "exact": exact[row.key],
                    "images": row.images,
                }
                for row in rows
            ],
        }

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, client = super().get_request()
        if self._context is not None:  # the handshake is the connection's thread's work
            connection = self._context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, client

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event; anything else is shown by the base class."""
        import sys

        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    server: Bench
    protocol_version = "HTTP/1.1"
    server_version = "exporter"
    sys_version = ""
    timeout = IDLE_S
    _unread = False  # a body that was sent along

    def handle_one_request(self) -> None:
        self.close_connection = True
        self._watch = threading.Timer(REQUEST_S, self._give_up)
        self._watch.daemon = True
        self._watch.start()
        try:
            super().handle_one_request()
        finally:
            self._watch.cancel()

    def parse_request(self) -> bool:
        if self.server.closed:
            return False
        return super().parse_request()

    def _give_up(self) -> None:
        try:  # TLS's own shutdown would pull the connection from under its reader
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)
        except OSError:
            return

    def do_GET(self) -> None:
        self._answered(self._read)

    def do_HEAD(self) -> None:
        self._answered(self._read)

    def do_POST(self) -> None:
        self._answered(self._write)

    def _answered(self, work: Callable[[], None]) -> None:
        self._unread = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        try:
            self._require_host()
            work()
        except Refused as refused:
            self._json(refused.status, {"error": refused.error, "mend": refused.mend})
        except OSError:
            raise  # the client is gone
        except Exception:
            self._json(500, {"error": "The server failed.", "mend": "see what it printed"})
            raise
        if self._unread:
            self._take_in_the_rest()

    def _take_in_the_rest(self) -> None:
        """Wait a little for a body that nobody wants: closed before, the connection is reset,
        and the client never reads the answer."""
        end, left = time.monotonic() + REFUSED_S, 2 * MAX_BODY
        self.connection.settimeout(REFUSED_S / 5)
        try:
            while left > 0 and time.monotonic() < end:
                found = self.rfile.read1(_CHUNK)
                if not found:
                    return
                left -= len(found)
        except OSError:
            return

    def _read(self) -> None:
        resource = self.server.table.get(path_of(self.path))
        if resource is None:
            raise Refused(404, "There is nothing at this address.")
        known = self.headers.get("If-None-Match", "").split(",")
        if resource.tag in (one.strip().removeprefix("W/") for one in known):
            self._head(304, {"ETag": resource.tag})
            return
        content = resource.read()
        if content is None:
            raise Refused(
                409, "This file was changed on the server.", "start 'exporter serve' again"
            )
        self._send(200, content, {"Content-Type": resource.kind, "ETag": resource.tag})

    def _write(self) -> None:
        if path_of(self.path) != RESULTS:
            raise Refused(404, "Nothing can be sent to this address.")
        given = self.headers.get(TOKEN_HEADER, "")
        if not secrets.compare_digest(given.encode(), self.server.token.encode()):
            raise Refused(
                401,
                "The token is wrong or missing.",
                "open the address that 'exporter serve' printed when it was last started",
            )
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"{self.server.scheme}://{self.headers['Host']}":
            raise Refused(403, "The request comes from another page.", "use this server's page")
        data = self._body()
        try:
            told = self.server.store(data)
        except UserError as error:
            why = f"{error.what} {error.why}".strip()
            raise Refused(400, why, error.mend) from error
        self._json(201, told)

    def _body(self) -> Any:
        kind = self.headers.get_content_type()
        if kind != _JSON:
            raise Refused(415, f"The result is {kind}.", f"send it as {_JSON}")
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not length.isdecimal():
            raise Refused(411, "The result's length is not given.", "send a Content-Length")
        if len(length) > 12 or int(length) > MAX_BODY:
            raise Refused(413, f"The result is larger than {MAX_BODY >> 20} MiB.", "send less")
        text = self.rfile.read(int(length))
        self._unread = False
        if len(text) < int(length):
            raise Refused(400, "The result was cut short.", "send it again")
        try:
            return parse_json(text)
        except ValueError as error:
            raise Refused(
                400, "The result is not JSON.", "send it from this server's page"
            ) from error

    def _require_host(self) -> None:
        """Over https the browser itself refuses a name that the certificate does not hold."""
        server, named = self.server, self.headers.get("Host", "")
        fits = host_fits(named, server.local_only, server.names)
        if server.scheme == "http" and not fits:
            raise Refused(421, "This server has another name.", "open the address it printed")

    def _json(self, status: int, what: Any) -> None:
        text = json.dumps(what, ensure_ascii=False).encode("utf-8")
        self._send(status, text, {"Content-Type": _JSON})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self._head(status, {**headers, "Content-Length": str(len(content))})
        if self.command != "HEAD":
            for start in range(0, len(content), _CHUNK):  # the time limit is one chunk's
                self.wfile.write(content[start : start + _CHUNK])

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self._watch.cancel()  # an answer may take as long as its network needs
        self.send_response(status)
        for name, value in {**self.server.fixed_headers, **headers}.items():
            self.send_header(name, value)
        if self._unread:  # what is left of a body is no next request
            self.close_connection = True
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses by itself gets our headers and form too."""
        self.close_connection = True
        self.command = getattr(self, "command", None) or "GET"
        self.request_version = self.protocol_version  # else a request that is none gets no headers
        self._json(int(code), {"error": message or "The request cannot be read.", "mend": ""})

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the page tells the person, and no log keeps who asked."""


def wait(server: Bench, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until Ctrl-C; returns when no new connection is taken.

    Args:
        ready: called once it serves.
    """
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True
    )
    thread.start()
    try:
        ready()
        while thread.is_alive():
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    finally:
        server.shutdown()
        server.server_close()
