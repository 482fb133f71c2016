"""Extensions of the protocol (RFC 6455 section 9): what both ends have agreed
to do with frames."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from ._twspy import Frame

__all__ = ['Compression', 'Extension', 'Params', 'Template', 'Templates']

# What stands behind a name in Sec-WebSocket-Extensions; None has no value.
Params = Mapping[str, str | int | None]


class Extension:
    """The base of extensions that are written in Python.

    Give the class, or an instance, to `connect()`, `Server` or `websocket` as
    one of `extensions`. That is a template: each connection gets an instance
    of its own, which a class is called for without arguments, and which is a
    `copy.copy()` of an instance. So what a method puts on `self` belongs to
    one connection; what an instance holds already is shared by all, where
    copies share it.

    name: its token in Sec-WebSocket-Extensions (RFC 6455 section 9.1). Of a
    connection's instance it is the one that was agreed on. names: all tokens
    that a server knows it by; empty: `name` alone.

    rsv1, rsv2, rsv3: the reserved bits that it uses. opcodes: the reserved
    opcodes (3 to 7, 11 to 15) that it uses. A frame with one that nobody has
    claimed fails the connection with 1002.

    before_fragmentation: False: `onsend` and `onrecv` see each frame. True:
    they see each message as one frame, before it is cut into fragments and
    after these are joined.

    Control frames are not seen, but for those with an opcode out of `opcodes`.
    Where several extensions were agreed on, the first in the list is the first
    to see what is sent, and the last to see what is received; those of whole
    messages come first.

    Threads: calls for one connection do not overlap in one direction, but
    `onsend` and `onrecv` may run at the same time. Frames leave in the order
    in which `onsend` saw them; others wait meanwhile, `broadcast()` too, and
    on that thread `send()` of the connection raises ConcurrencyError, as does
    `close()`, but not of a server's client. So `onsend` should not wait, nor
    send to other connections: two that send to each other's wait until one
    gets a TimeoutError, after the server's `send_timeout` or the timeout of
    the call (of a client's, the socket's). `onrecv` may run on any thread,
    also on the one that keeps connections of `connect()` alive, so it should
    not wait for anything.
    """

    # The types in C that derive from it have no room for attributes of this
    # class; instances of subclasses have some of their own.
    __slots__ = ()

    name: str = ''
    names: Collection[str] = ()
    rsv1: bool = False
    rsv2: bool = False
    rsv3: bool = False
    opcodes: Collection[int] = ()
    before_fragmentation: bool = False

    def offer(self) -> Params | Iterable[Params]:
        """Called on a client: the parameters to offer.

        A mapping from names to values (None: a parameter without one), or
        several of them: alternatives, the preferred one first. Values are
        tokens, or ints. The default is one offer without parameters.
        """
        return {}

    def negotiate(self, params: dict[str, str | None]) -> Params | None:
        """Called on a server with the parameters of an offer.

        Return those of the answer, or None to decline; then the client's next
        offer is looked at, by an instance that is as good as new. What it
        raises goes to a Server's `onerror` (for a `websocket`, to the log),
        and the client gets 500. The default accepts an offer without
        parameters.
        """
        return None if params else {}

    def accept(self, params: dict[str, str | None]) -> None:
        """Called on a client with the parameters of the server's answer.

        Raise ValueError where they are not what was offered: the handshake
        fails with HandshakeError. The default refuses any parameter.
        """
        if params:
            name = next(iter(params))[:100]  # the peer's, of any length
            raise ValueError(f'it has the parameter {name!r}, expected none')

    def onsend(self, frame: Frame) -> Frame:
        """Called with a frame that is to be sent; returns what is sent.

        What it raises comes out of `send()`, with a note that says so
        (`__notes__`), and nothing is sent. So does ValueError where it has set
        a reserved bit, or a reserved opcode, that it has not claimed.
        """
        return frame

    def onrecv(self, frame: Frame) -> Frame:
        """Called with a frame that was received; returns what it means.

        Reserved bits that this extension has claimed must be gone from that:
        where one is left, nobody has understood the frame, and the connection
        fails with 1002. A frame with a claimed opcode may stay as it is: it
        then goes on to `websocket.recv()`, while a Connection drops it.

        ProtocolError fails the connection with its code. Anything else that
        is raised fails it with 1011 and goes to `onerror`, or comes out of
        `recv()`, with a note that says so (`__notes__`). A TimeoutError of its
        own can be told from that of `recv()` by this, and by the connection:
        it has ended, and the next `recv()` raises SocketClosed.

        The size of a message is checked again afterwards. What enlarges its
        frames has to stop in time itself.
        """
        return frame

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.name}>'


# What the options `extensions` and `compression` take.
Template: TypeAlias = Extension | type[Extension]
Templates: TypeAlias = Iterable[Template]
Compression: TypeAlias = Literal['deflate'] | Template | Templates | None
