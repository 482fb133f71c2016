"""Fixtures for tests of programs that use twspy.

python -m pytest pytest_fixtures.py

Port 0 is one that is free, so that tests run side by side; `with` starts the
server and stops it. `twspy.pair()` needs no port at all.
"""

import pytest

import twspy


class Greeter(twspy.Server):
    """What is to be tested."""

    def onmessage(self, client, message):
        if not message.payload:
            client.close(twspy.CLOSE_POLICY, 'who is it?')
        else:
            client.send(f'Hello, {message.payload}!')


@pytest.fixture
def server():
    with Greeter(('127.0.0.1', 0)) as server:
        yield server


@pytest.fixture
def client(server):
    with twspy.connect(f'ws://127.0.0.1:{server.address[1]}/') as client:
        yield client


def test_greeting(client):
    client.send('Ada')
    assert client.recv(timeout=10).payload == 'Hello, Ada!'


def test_refusal(client):
    client.send('')
    with pytest.raises(twspy.SocketClosed) as caught:
        client.recv(timeout=10)
    assert caught.value.code == twspy.CLOSE_POLICY


def test_both_ends_without_a_server():
    client, server = twspy.pair()
    with client, server:
        client.send('Hello')
        assert server.recv(timeout=10).payload == 'Hello'
