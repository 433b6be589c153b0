"""What a request must be before anything is done with it."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Container
from typing import Any, NoReturn
from urllib.parse import urlsplit

MAX_DEPTH = 12  # of lists and objects within each other; a result has 5


def path_of(target: str) -> str:
    """The path of a request's target, without its query; '' where it has none."""
    try:
        return urlsplit(target).path
    except ValueError:  # a target such as 'http://[x'
        return ""


def own_names() -> frozenset[str]:
    """The names under which this machine is known on its network, as far as it knows."""
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    return frozenset(filter(None, (name, short, f"{short}.local")))


def host_fits(named: str, local_only: bool, names: Container[str]) -> bool:
    """Whether a Host header names this server.

    A foreign page can have its own name point to this machine (DNS rebinding), and its
    requests then carry that name. An address of digits cannot be pointed elsewhere.

    Args:
        named: the header, with or without a port.
        local_only: whether only this machine can reach the server.
        names: the server's own, in lower case.
    """
    try:
        host = urlsplit(f"//{named}").hostname or ""
    except ValueError:
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host in names
    return address.is_loopback or not local_only


def parse_json(text: bytes) -> Any:
    """JSON as the standard has it, of a depth that any code can walk.

    Raises:
        ValueError: no JSON, NaN or Infinity, deeper than `MAX_DEPTH`, or half a surrogate
            pair in a text, which could not be written down again.
    """
    try:
        data = json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("too deep") from error
    _walk(data, MAX_DEPTH)
    return data


def _walk(value: Any, left: int) -> None:
    if isinstance(value, str):
        value.encode("utf-8")  # UnicodeEncodeError is a ValueError
    elif isinstance(value, dict | list):
        if left == 0:
            raise ValueError(f"deeper than {MAX_DEPTH}")
        if isinstance(value, dict):
            for key in value:
                key.encode("utf-8")
            value = value.values()
        for inner in value:
            _walk(inner, left - 1)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
