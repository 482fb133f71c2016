"""permessage-deflate with a real browser, under all parameters that a server
can answer with."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator

import pytest
from browsers import launch
from deflating import MESSAGES, EchoServer, check_traffic
from playwright.sync_api import Page

import twspy

BITS = [None, 8, 9, 12, 15]

# Sends messages as they are given, and resolves with what went wrong.
ECHO = """
([port, messages]) => new Promise((resolve) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
    let count = 0;
    let wrong = null;
    const bytes = (text) => Uint8Array.from(
        atob(text), (character) => character.charCodeAt(0));
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => messages.forEach(([kind, text]) =>
        socket.send(kind === 'text' ? text : bytes(text)));
    socket.onmessage = ({data}) => {
        const [kind, text] = messages[count++];
        const same = kind === 'text'
            ? data === text
            : String(new Uint8Array(data)) === String(bytes(text));
        if (!same)
            wrong = wrong ?? `echo ${count - 1} differs`;
        if (count === messages.length)
            socket.close(1000);
    };
    socket.onclose = (event) => resolve({
        wrong, count, code: event.code, extensions: socket.extensions});
})
"""


@pytest.fixture(scope='module')
def page(
    chromium: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    with launch(chromium, tmp_path_factory.mktemp('profile')) as context:
        yield context.new_page()


def expected(alone: tuple[bool, bool], server: object, client: object) -> str:
    names = ['server_no_context_takeover', 'client_no_context_takeover']
    answer = [
        name for name, wanted in zip(names, alone, strict=True) if wanted
    ]
    if server is not None:
        answer.append(f'server_max_window_bits={server}')
    if client is not None:
        answer.append(f'client_max_window_bits={client}')
    return '; '.join(['permessage-deflate', *answer])


@pytest.mark.parametrize('server_bits', BITS)
def test_parameters(page: Page, server_bits: int | None) -> None:
    messages = [
        ['text', message]
        if isinstance(message, str)
        else ['binary', base64.b64encode(message).decode()]
        for message in MESSAGES
    ]
    for alone, client_bits in itertools.product(
        itertools.product([False, True], repeat=2), BITS
    ):
        deflate = twspy.DeflateMessage(
            server_no_context_takeover=alone[0],
            client_no_context_takeover=alone[1],
            server_max_window_bits=server_bits,
            client_max_window_bits=client_bits,
        )
        with EchoServer(('127.0.0.1', 0), compression=deflate) as server:
            result = page.evaluate(ECHO, [server.address[1], messages])
            assert result == {
                'wrong': None,
                'count': len(MESSAGES),
                'code': 1000,
                'extensions': expected(alone, server_bits, client_bits),
            }
            check_traffic(server.traffic)
