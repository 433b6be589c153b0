"""What `exporter serve` does around the server: checks, addresses, and plain words."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from exporter import bundle
from exporter.prove import devices
from exporter.prove.runtimes import litertjs
from exporter.serve.routes import Resource, bundle_table, page_table
from exporter.serve.server import Bench, wait
from models.errors import UserError


def serve(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 8765,
    open_browser: bool = True,
    certificate: Path | None = None,
    key: Path | None = None,
) -> None:
    """Serve a bundle's page until Ctrl-C.

    Raises:
        UserError: the bundle, the address or the certificate cannot be used, or LiteRT.js
            cannot be fetched.
    """
    console = Console(highlight=False)
    opened = bundle.open_bundle(folder)
    context = _context(certificate, key)
    files = bundle_table(opened)
    library = litertjs.installed()
    if library is None:
        console.print("LiteRT.js is not here yet: fetching it, once")
        library = litertjs.fetch(lambda said: console.print(f"  {said}", markup=False))

    def tell(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    resources = {**page_table(library), **files}
    with bind(host, port, opened, resources, context, tell) as server:
        for line in said(server, host):
            tell(line)
        here = server.address("127.0.0.1" if server.bound_to.is_unspecified else host)
        wait(server, lambda: _open(here) if open_browser else None)
    tell(f"Stopped. Results of devices are in {devices.folder_of(opened.root)}")


def bind(
    host: str,
    port: int,
    opened: bundle.Bundle,
    resources: Mapping[str, Resource],
    context: ssl.SSLContext | None,
    tell: Callable[[str], None] | None = None,
) -> Bench:
    """The server, bound but not serving yet.

    Raises:
        UserError: the address is not this machine's, or the port is taken.
    """
    reason = ""
    try:
        for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            place = (str(found[4][0]), int(found[4][1]))
            try:
                return Bench(place, opened, resources, context, host=host, tell=tell)
            except OSError as error:  # 'localhost' may be ::1 first, where IPv6 is switched off
                if error.errno == errno.EADDRINUSE:
                    raise _taken(port) from error
                reason = reason or error.strerror or str(error)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise UserError(
        f"{host}:{port} cannot be served from.",
        reason,
        "give another --port, and as --host 127.0.0.1, 0.0.0.0 or an address of this machine",
    )


def _taken(port: int) -> UserError:
    return UserError(
        f"Port {port} is taken.",
        "another program listens there, maybe another 'exporter serve'",
        f"give another, --port {port % 65535 + 1} say, or 0 for any that is free",
    )


def said(server: Bench, host: str) -> list[str]:
    """What to print: where to go, who else can, and what to do next."""
    name = server.opened.contract.name
    lines = [f"Serving {name} from {server.opened.root}"]
    if server.local_only:
        lines.append(f"  on this machine: {server.address(host)}")
        lines.append("Phones cannot reach it: for those on your network, add --host 0.0.0.0")
    else:
        everywhere = server.bound_to.is_unspecified
        lines.append(f"  on this machine: {server.address('127.0.0.1' if everywhere else host)}")
        for address in lan_addresses() if everywhere else [host]:
            lines.append(f"  on a phone:      {server.address(address)}")
        lines.append(
            "Everyone on this network can open the page; storing results takes the token in the "
            "address."
        )
        if server.scheme == "http":
            lines.append(
                "Plain http: nothing is encrypted, and a phone's browser then gives the page one "
                "thread and does not keep it offline. With --certificate and --key it does."
            )
    lines.append("Open it, press 'Prove it', then: exporter parity " + str(server.opened.root))
    lines.append("Ctrl-C stops it.")
    return lines


def _open(address: str) -> None:
    try:
        webbrowser.open(address)
    except (webbrowser.Error, OSError):
        return  # the address was printed


def lan_addresses() -> list[str]:
    """This machine's addresses on its networks, the likeliest first."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address; UDP: nothing is sent
            found.append(str(probe.getsockname()[0]))
        except OSError:
            pass
    try:
        named = [
            entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        ]
    except OSError:
        named = []
    usable = [str(a) for a in (*found, *named) if not ipaddress.ip_address(a).is_loopback]
    return list(dict.fromkeys(usable))


def _context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UserError(
            "A certificate and its key belong together.", "only one of them was given",
            "give --certificate and --key",
        )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise UserError(
            f"{certificate} with {key} cannot be used.", str(error),
            "give PEM files that belong together, the key without a passphrase",
        ) from error  # fmt: skip
    return context
