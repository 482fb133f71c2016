"""What the C code asks Python to do: logging, and looking at signatures."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twspy._twspy import CloseMessage, Connection

_logger = logging.getLogger('twspy')
_server_logger = logging.getLogger('twspy.server')

_SHOWN = 100  # characters of a peer's text in a message


def log_debug(text: str) -> None:
    """Log what went wrong with a peer: of interest to who looks for it."""
    _logger.debug('%s', text)


def log_ended(connection: Connection, message: CloseMessage) -> None:
    """Log how a connection ended."""
    if _logger.isEnabledFor(logging.DEBUG):
        _logger.debug('connection with %s %s', connection, message.explanation)


def log_client_ended(client: Connection, message: CloseMessage) -> None:
    """Log how a server's client ended."""
    if _server_logger.isEnabledFor(logging.DEBUG):
        _server_logger.debug('client %s %s', client, message.explanation)


def log_refused(peer: str, status: int, reason: str) -> None:
    """Log that a server refused a connection, or that it broke off."""
    _server_logger.debug('client %s refused with %d: %s', peer, status, reason)


def log_accept_paused(errno: int, what: str) -> None:
    """Warn, once a server, that it can't accept for now."""
    _server_logger.warning(
        'can accept no more clients for now (%s failed with errno %d): raise '
        'the limit of open files, or lower the number of clients',
        what,
        errno,
    )


def log_foreign_origin(origin: str, host: str) -> None:
    """Warn, once a listener, of a web page that is not the server's own."""
    _logger.warning(
        'a page of origin %r has connected to this server (%r), as any page '
        "may by default; set trusted_origins='same-origin', or to a list of "
        'origins, to refuse others (this warning is given once)',
        origin[:_SHOWN],
        host[:_SHOWN],
    )


def log_unhandled(source: object, error: BaseException) -> None:
    """Log an exception that a handler of `source` raised, with traceback."""
    _logger.error('%s: handler raised %r', source, error, exc_info=error)


def takes_close_message(onclose: Callable[..., Any]) -> bool:
    """Tell whether a server's `onclose` takes (client, message).

    The documented handler takes the client alone; one that takes two
    positional arguments gets the CloseMessage as well. A callable without a
    readable signature gets both.
    """
    try:
        signature = inspect.signature(onclose)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(None, None)
    except TypeError:
        return False
    return True
