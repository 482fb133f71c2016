"""Servers that the tests talk to."""

from __future__ import annotations

import queue
import time
from typing import Any

from rawpeer import RawPeer

import twspy

# How long a test waits for something that must happen.
SOON = 20.0


def only_client(server: twspy.Server) -> twspy.Connection:
    """The one client, which has read our answer perhaps before it is listed:
    without a GIL both go on at once."""
    end = time.monotonic() + SOON
    while not server.clients:
        assert time.monotonic() < end, 'no client is listed'
        time.sleep(0.001)
    (client,) = server.clients
    return client


class EchoServer(twspy.Server):
    """Echoes, and puts every event it sees into a queue."""

    def __init__(self, **options: Any) -> None:
        super().__init__(('127.0.0.1', 0), **options)
        self.events: queue.Queue[tuple[Any, ...]] = queue.Queue()

    def onopen(self, client: twspy.Connection) -> None:
        self.events.put(('open', client))

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        client.send(message)

    def onclose(
        self, client: twspy.Connection, message: twspy.CloseMessage
    ) -> None:
        self.events.put(('close', client, message.code, message.reason))

    def onerror(
        self, client: twspy.Connection | None, error: Exception
    ) -> None:
        self.events.put(('error', client, error))

    def wait_for(
        self, kind: str, peer: RawPeer | None = None
    ) -> tuple[Any, ...]:
        """The next event of a kind (of that peer), without its name."""
        address = None if peer is None else peer.address
        while True:
            event = self.events.get(timeout=SOON)
            if event[0] == kind and (
                address is None or event[1].remote_address == address
            ):
                return event[1:]
