"""Pages of other sites, and what they may try to pass for one of ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rawends import in_thread
from rawpeer import RawPeer, request
from servers import SOON, EchoServer

import twspy


@pytest.fixture(scope='module')
def listed() -> Iterator[EchoServer]:
    origins = ['https://app.example', 'http://localhost:8000', 'http://[::1]']
    with EchoServer(trusted_origins=origins) as server:
        yield server


TRICKS = [
    'https://app.example.evil.org',
    'https://evil-app.example',
    'https://app.example:444',
    'https://app.example@evil.org',
    'https://evil.org#https://app.example',
    'https://evil.org/https://app.example',
    'https://app.example/',
    'https://app.example.',
    'https://app.example\t',
    'https://APP.EXAMPLE.evil',
    'http://app.example',
    'app.example',
    '//app.example',
    'https:app.example',
    'https://app%2eexample',
    'https://appxexample',
    'https://sub.app.example',
    'https://app.example https://evil.org',
    'https://evil.org, https://app.example',
    'null',
    'NULL',
    'file://',
    'data:',
    'chrome-extension://abc',
    'http://localhost',
    'http://localhost:80000',
    'http://localhost:08000',
    'http://127.0.0.1:8000',
    'http://[::1]:8000',
    'http://::1',
    'http://[0:0:0:0:0:0:0:1]',
    '',
    '*',
    'https://*',
    'https://app.example\xa0',
]


def status_for(server: EchoServer, origin: str, host: str) -> int:
    with RawPeer.open(server.address) as peer:
        peer.send(request(host=host, Origin=origin))
        return peer.read_head()[0]


@pytest.mark.parametrize('origin', TRICKS)
def test_tricks_with_origins(listed: EchoServer, origin: str) -> None:
    """Whatever the Host says, which a page can choose by its own name
    server (DNS rebinding)."""
    expected = 101 if origin == 'https://app.example\t' else 403
    for host in ('localhost:8000', 'app.example', 'evil.org', 'xyz'):
        assert status_for(listed, origin, host) == expected
    for good in ('https://app.example', 'https://App.Example:443'):
        assert status_for(listed, good, 'evil.org') == 101


def test_same_origin_compares_with_the_host() -> None:
    with EchoServer(trusted_origins='same-origin') as server:
        for origin, host, status in (
            ('http://localhost:8000', 'localhost:8000', 101),
            ('http://localhost:8000', 'localhost', 403),
            ('http://localhost', 'localhost:8000', 403),
            ('http://localhost:8001', 'localhost:8000', 403),
            ('http://127.0.0.1:8000', 'localhost:8000', 403),
            ('http://evil.org', 'localhost:8000', 403),
            ('null', 'localhost:8000', 403),
            ('', 'localhost:8000', 403),
            ('http://[::1]:8000', '[::1]:8000', 101),
            ('http://[::1]:8000', '[::2]:8000', 403),
        ):
            assert status_for(server, origin, host) == status, (origin, host)


def test_an_origin_of_a_page_is_refused_by_a_listener_too() -> None:
    listener = twspy.websocket(trusted_origins='same-origin')
    listener.bind(('127.0.0.1', 0))
    listener.listen()
    with listener:
        listener.settimeout(SOON)
        join = in_thread(listener.accept)
        with RawPeer.open(listener.getsockname()) as peer:
            peer.send(request(Origin='http://evil.org'))
            assert peer.read_answer()[0] == 403
        with RawPeer.open(listener.getsockname()) as peer:
            peer.send(request(Origin='http://localhost'))
            assert peer.read_head()[0] == 101
            accepted = join()
            assert isinstance(accepted, twspy.websocket)
            accepted.close()
