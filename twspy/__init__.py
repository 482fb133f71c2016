"""WebSockets (RFC 6455) for Python, with the protocol and engine in C.

Five types, from low to high: `Frame`, `websocket` (a socket that speaks
frames), `Message`, `Connection` (a peer that speaks messages) and `Server`
(many connections). Everything public is imported from here.
"""

from __future__ import annotations

from ._activation import listen_fds
from ._reconnecting import Reconnecting, reconnect
from ._twspy import (
    CLOSE_ABNORMAL,
    CLOSE_BAD_GATEWAY,
    CLOSE_GOING_AWAY,
    CLOSE_INVALID_DATA,
    CLOSE_MESSAGE_TOOBIG,
    CLOSE_MISSING_EXTENSIONS,
    CLOSE_NO_STATUS,
    CLOSE_NOACCEPT_DTYPE,
    CLOSE_NORMAL,
    CLOSE_POLICY,
    CLOSE_PROTOCOL_ERROR,
    CLOSE_SERVICE_RESTART,
    CLOSE_TLS_FAILURE,
    CLOSE_TRY_AGAIN_LATER,
    CLOSE_UNABLE,
    OPCODE_BINARY,
    OPCODE_CLOSE,
    OPCODE_CONTINUATION,
    OPCODE_PING,
    OPCODE_PONG,
    OPCODE_TEXT,
    BinaryMessage,
    CloseMessage,
    Connection,
    ControlFrame,
    DeflateFrame,
    DeflateMessage,
    Frame,
    Message,
    RecvStream,
    SendStream,
    TextMessage,
    WebkitDeflateFrame,
    websocket,
)
from ._version import __version__
from .auth import HA1, BasicAuth, DigestAuth
from .client import connect, pair
from .errors import (
    ConcurrencyError,
    HandshakeError,
    PingError,
    ProtocolError,
    SocketClosed,
    SSLError,
    WebSocketError,
)
from .extensions import Extension
from .http import Headers, Request, Response
from .server import Server
from .tls import Certificate

__all__ = [
    # opcodes
    'OPCODE_BINARY',
    'OPCODE_CLOSE',
    'OPCODE_CONTINUATION',
    'OPCODE_PING',
    'OPCODE_PONG',
    'OPCODE_TEXT',
    # close codes
    'CLOSE_ABNORMAL',
    'CLOSE_BAD_GATEWAY',
    'CLOSE_GOING_AWAY',
    'CLOSE_INVALID_DATA',
    'CLOSE_MESSAGE_TOOBIG',
    'CLOSE_MISSING_EXTENSIONS',
    'CLOSE_NOACCEPT_DTYPE',
    'CLOSE_NORMAL',
    'CLOSE_NO_STATUS',
    'CLOSE_POLICY',
    'CLOSE_PROTOCOL_ERROR',
    'CLOSE_SERVICE_RESTART',
    'CLOSE_TLS_FAILURE',
    'CLOSE_TRY_AGAIN_LATER',
    'CLOSE_UNABLE',
    # frames and sockets
    'ControlFrame',
    'Frame',
    'websocket',
    # messages and connections
    'BinaryMessage',
    'CloseMessage',
    'Connection',
    'Extension',
    'Message',
    'Reconnecting',
    'RecvStream',
    'SendStream',
    'TextMessage',
    'connect',
    'pair',
    'reconnect',
    # extensions
    'DeflateFrame',
    'DeflateMessage',
    'WebkitDeflateFrame',
    # server, HTTP and TLS
    'BasicAuth',
    'Certificate',
    'DigestAuth',
    'HA1',
    'Headers',
    'Request',
    'Response',
    'Server',
    'listen_fds',
    # errors
    'ConcurrencyError',
    'HandshakeError',
    'PingError',
    'ProtocolError',
    'SSLError',
    'SocketClosed',
    'WebSocketError',
    '__version__',
]
