"""Binding a server's listening socket, and naming addresses."""

from __future__ import annotations

import socket
from typing import Any


def bind(address: tuple[str, int]) -> socket.socket:
    """Return a stream socket bound to (host, port), not listening yet."""
    host, port = _split(address)
    if host == '':
        family, sockaddr = socket.AF_INET, ('', port)
    else:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, sockaddr = found[0][0], found[0][4]  # type: ignore[assignment]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            only = int(host != '::')  # '::' is for IPv4 as well
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        sock.bind(sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _split(address: Any) -> tuple[str, int]:
    try:
        host, port = address
    except (TypeError, ValueError):
        raise TypeError(
            f"address is {address!r}, expected (host, port) such as ('', 8000)"
        ) from None
    if not isinstance(host, str) or not isinstance(port, int):
        raise TypeError(
            f'address is {address!r}, expected a str and an int, such as '
            "('', 8000)"
        )
    if not 0 <= port <= 65535:
        raise ValueError(f'port is {port}, expected 0 to 65535')
    return host, port


def format_address(address: Any) -> str:
    """`host:port`, `[host]:port`, or whatever else the address is."""
    if not isinstance(address, tuple):
        return str(address)
    host, port = address[:2]
    return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'
