"""Opening a client in one call."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import SupportsIndex, TypedDict, TypeVar, Unpack, overload

from ._twspy import Connection, websocket
from .uri import parse_uri

ConnectionT = TypeVar('ConnectionT', bound=Connection)


class ClientOptions(TypedDict, total=False):
    """The options of `websocket` that concern a client."""

    protocols: Iterable[str]
    origin: str | None
    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    max_size: int | None
    open_timeout: float | None
    close_timeout: float | None
    max_head_size: SupportsIndex
    max_header_lines: SupportsIndex


@overload
def connect(url: str, **options: Unpack[ClientOptions]) -> Connection: ...
@overload
def connect(
    url: str,
    *,
    connection_class: Callable[[websocket], ConnectionT],
    **options: Unpack[ClientOptions],
) -> ConnectionT: ...
def connect(
    url: str,
    *,
    connection_class: Callable[[websocket], Connection] = Connection,
    **options: Unpack[ClientOptions],
) -> Connection:
    """Connect to `ws://host[:port]/path?query` and return the Connection.

    connection_class: what to make of the connected websocket, such as a
    subclass of Connection with handlers.

    options: those of `websocket`: `protocols`, `origin`, `headers` (more
    fields of the request), `max_size` (bytes in a message, 1 MiB; None: no
    limit), `open_timeout` (seconds for name look-up, connecting and opening
    handshake together, 10), `close_timeout` (seconds, 2), `max_head_size`
    (bytes in the head of the answer, 16 KiB) and `max_header_lines` (128).

    Raises ValueError for a URL that is none, HandshakeError (with the
    answer's status, headers and body) where the server refuses, TimeoutError
    after `open_timeout`, and OSError where it can't be reached.
    """
    uri = parse_uri(url)
    family = socket.AF_INET6 if ':' in uri.host else socket.AF_INET
    sock = websocket(location=uri.resource, family=family, **options)
    try:
        sock.connect((uri.host, uri.port))
        return connection_class(sock)
    except BaseException:
        sock.close()
        raise


def pair(
    **options: Unpack[ClientOptions],
) -> tuple[Connection, Connection]:
    """Return two connected ends, a client and a server, for tests.

    options: those of `websocket`, given to both ends.
    """
    ends = socket.socketpair()
    client, server = (websocket(end, **options) for end in ends)
    failures: list[BaseException] = []

    def answer() -> None:
        try:
            server.handshake(server=True)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=answer, name='twspy-pair')
    thread.start()
    try:
        client.handshake(host='localhost')
    finally:
        thread.join()
    if failures:
        raise failures[0]
    return Connection(client), Connection(server)
