"""Where the programs run, and what they talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import twspy

# What would do harm to a terminal.
NASTY = 'a\x1b[2J\rb\x9b\u202e\u2028\u061cc'


class Server(twspy.Server):
    """Echoes, and does as a text says."""

    def onhandshake(
        self, client: twspy.Connection, request: twspy.Request
    ) -> None:
        if request.path == '/no':
            raise twspy.HandshakeError('not here', 403)

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        if message.payload == 'nasty':
            client.send(f'{NASTY}\n* closed')
        elif message.payload == 'ping':
            client.send_ping(b'\x1b[2J')
        elif message.payload == 'bye':
            client.close(1001, f'{NASTY}\n* bye')
        elif message.payload == 'no':
            client.close(1008, 'not you')
        elif message.payload == 'head':
            request = client.sock.request
            assert request is not None
            client.send(repr(dict(request.headers.items())))
        else:
            client.send(message)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(
        ('127.0.0.1', 0), protocols=['b.example'], compression='deflate'
    ) as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return f'ws://127.0.0.1:{server.address[1]}/'


@pytest.fixture(autouse=True)
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the history nor the proxies of whoever runs the tests."""
    monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path / 'state'))
    monkeypatch.setenv('NO_PROXY', '*')
