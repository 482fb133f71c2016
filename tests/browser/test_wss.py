"""A page served over https talks wss with its server, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import launch
from certificates import Certificates
from playwright.sync_api import BrowserContext
from servers import EchoServer

import twspy

# Sends what it is told to and resolves with the answers and the close code.
TALK = """
(sizes) => new Promise((resolve) => {
    const socket = new WebSocket(`wss://${location.host}/`);
    const result = {answers: [], error: false};
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
        socket.send('Grüße, 世界 🌍');
        for (const size of sizes)
            socket.send(new Uint8Array(size).fill(size % 251));
    };
    socket.onerror = () => { result.error = true; };
    socket.onmessage = ({data}) => {
        result.answers.push(
            typeof data === 'string' ? data : [
                data.byteLength,
                new Uint8Array(data).every(
                    (byte) => byte === data.byteLength % 251),
            ]);
        if (result.answers.length === sizes.length + 1)
            socket.close(1000, 'done');
    };
    socket.onclose = (event) => resolve(
        {...result, code: event.code, clean: event.wasClean});
})
"""


class PageServer(EchoServer):
    """Echoes, and serves an empty page."""

    def onrequest(self, request: twspy.Request) -> twspy.Response:
        return twspy.Response(
            200,
            [('Content-Type', 'text/html; charset=utf-8')],
            b'<!doctype html><title>wss</title>',
        )


@pytest.fixture
def trusting(chromium: str, tmp_path: Path) -> Iterator[BrowserContext]:
    """A browser that takes any certificate."""
    profile = tmp_path / 'profile'
    with launch(chromium, profile, ignore_https_errors=True) as context:
        yield context


@pytest.mark.parametrize('how', ['native', 'context'])
def test_echo_over_wss(
    trusting: BrowserContext, certificates: Certificates, how: str
) -> None:
    options: dict[str, Any] = {
        'ssl_args': {'certfile': certificates.server.combined}
    }
    if how == 'context':
        options = {'ssl': certificates.server_context()}
    sizes = [0, 1, 125, 126, 65535, 65536, 1 << 20]
    with PageServer(
        max_size=2 << 20, trusted_origins='same-origin', **options
    ) as server:
        page = trusting.new_page()
        page.goto(f'https://localhost:{server.address[1]}/')
        result = page.evaluate(TALK, sizes)
        assert result == {
            'answers': ['Grüße, 世界 🌍', *([size, True] for size in sizes)],
            'error': False,
            'code': 1000,
            'clean': True,
        }
        _client, code, reason = server.wait_for('close')
        assert (code, reason) == (1000, 'done')
