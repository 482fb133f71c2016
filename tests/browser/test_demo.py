"""The demo's page in a real browser, and what it must refuse."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browsers import launch
from playwright.sync_api import BrowserContext, Page, expect
from ports import free_port
from programs import Program, run_python
from rawpeer import TEXT, RawPeer, request


@contextmanager
def demo(directory: Path, *arguments: str) -> Iterator[tuple[Program, str]]:
    """The running demo and its address, up to the slash."""
    with run_python(
        '-m', 'twspy.demo', *(arguments or ('--port', '0')), cwd=directory
    ) as program:
        found = program.wait_for(r'^(http://127\.0\.0\.1:\d+)/$')
        yield program, found[1]


@pytest.fixture
def browser(chromium: str, tmp_path: Path) -> Iterator[BrowserContext]:
    viewport = {'width': 900, 'height': 640}
    with launch(chromium, tmp_path / 'profile', viewport=viewport) as context:
        yield context


@pytest.fixture
def problems() -> list[str]:
    """What the pages of a test complained of."""
    return []


def open_page(
    browser: BrowserContext, address: str, problems: list[str]
) -> Page:
    page = browser.new_page()
    page.on(
        'console',
        lambda message: (
            problems.append(message.text)
            if message.type in ('error', 'warning')
            else None
        ),
    )
    page.on('pageerror', lambda error: problems.append(str(error)))
    page.goto(address)
    expect(page.get_by_role('status')).to_have_text('connected')
    return page


def say(page: Page, text: str, name: str | None = None) -> None:
    if name is not None:
        page.get_by_label('Your name').fill(name)
    page.get_by_label('Message', exact=True).fill(text)
    page.get_by_role('button', name='Send').click()


def test_two_tabs_chat_until_the_server_stops(
    browser: BrowserContext, problems: list[str], tmp_path: Path
) -> None:
    with demo(tmp_path, '--port', str(free_port())) as (program, address):
        one = open_page(browser, address, problems)
        expect(one.locator('#members')).to_have_text('only you')

        say(one, 'Grüße, 世界 🌍', 'Ada')
        said = one.locator('.said')
        expect(said).to_have_count(1)
        expect(said.locator('b')).to_have_text('Ada')
        expect(said.locator('p')).to_have_text('Grüße, 世界 🌍')
        expect(one.get_by_label('Message', exact=True)).to_have_value('')

        two = open_page(browser, address, problems)
        for page in (one, two):
            expect(page.locator('#members')).to_have_text('2 members')
        expect(one.get_by_role('log')).to_contain_text('Guest 2 has joined')

        say(one, 'second tab, do you see this?')
        expect(two.locator('.said p')).to_have_text(
            'second tab, do you see this?'
        )
        say(two, 'I do', 'Grace')
        expect(said).to_have_count(3)
        expect(said.last).to_have_class('said')
        expect(one.locator('.said.own')).to_have_count(2)
        expect(one.get_by_role('log')).to_contain_text('Guest 2 is now Grace')

        # A page that is loaded again joins anew, under the same name.
        two.reload()
        expect(two.get_by_label('Your name')).to_have_value('Grace')
        expect(one.get_by_role('log')).to_contain_text('Grace has left')
        expect(one.get_by_role('log')).to_contain_text('Grace has joined')
        one.screenshot(path=tmp_path / 'chat.png')

        program.send_signal(signal.SIGINT)
        assert program.wait() == 0
        for page in (one, two):
            status = page.get_by_role('status')
            expect(status).to_contain_text('the server has stopped')
            expect(status).to_contain_text('code 1001')
            expect(page.get_by_role('button', name='Send')).to_be_disabled()
            expect(page.locator('#members')).to_be_empty()
        one.screenshot(path=tmp_path / 'stopped.png')
        assert program.lines == [f'{address}/']

    with demo(tmp_path, '--port', address.rpartition(':')[2]):
        one.get_by_role('button', name='Reconnect').click()
        expect(one.get_by_role('status')).to_have_text('connected')
        say(one, 'back again')
        expect(said.last).to_contain_text('back again')
    assert problems == []


def test_markup_of_a_peer_stays_text(
    browser: BrowserContext, problems: list[str], tmp_path: Path
) -> None:
    markup = '<img src=x onerror="document.title=1"><script>1</script>'
    with demo(tmp_path) as (_, address):
        page = open_page(browser, address, problems)
        say(page, markup, '<i>me</i>')
        expect(page.locator('.said p')).to_have_text(markup)
        expect(page.locator('.said b')).to_have_text('<i>me</i>')
        expect(page).to_have_title('twspy chat')
        assert page.locator('.said').locator('img, script, i').count() == 0
    assert problems == []


class EvilPage(BaseHTTPRequestHandler):
    """A page of another origin, which another port makes it."""

    def do_GET(self) -> None:
        body = b'<!doctype html><title>evil</title>'
        self.send_response(200)
        self.send_header('Content-Type', 'text/html')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


CONNECT = """address => new Promise(resolve => {
  const socket = new WebSocket(address);
  socket.onopen = () => resolve('open');
  socket.onclose = event => resolve(`closed with ${event.code}`);
})"""


def test_page_of_another_origin_is_refused(
    browser: BrowserContext, problems: list[str], tmp_path: Path
) -> None:
    evil = ThreadingHTTPServer(('127.0.0.1', 0), EvilPage)
    thread = threading.Thread(target=evil.serve_forever)
    thread.start()
    try:
        with demo(tmp_path) as (_, address):
            socket = address.replace('http', 'ws', 1)
            page = browser.new_page()
            page.on('console', lambda message: problems.append(message.text))
            page.goto(f'http://127.0.0.1:{evil.server_port}/')
            assert page.evaluate(CONNECT, socket) == 'closed with 1006'
            assert any('403' in problem for problem in problems), problems
            page.goto(address)
            assert page.evaluate(CONNECT, socket) == 'open'
    finally:
        evil.shutdown()
        thread.join()
        evil.server_close()


def test_both_signals_end_it_with_status_0(tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with demo(tmp_path) as (program, address):
            host, _, port = address.removeprefix('http://').partition(':')
            with RawPeer.connect((host, int(port))) as peer:
                program.send_signal(number)
                frame = peer.read_frame()
                assert frame.close_code == 1001
            assert program.wait() == 0
            assert program.lines == [f'{address}/']


def test_plain_requests(tmp_path: Path) -> None:
    with demo(tmp_path) as (_, address):
        host, _, port = address.removeprefix('http://').partition(':')
        for path, expected in {'/': 200, '/?q=1': 200, '/x': 404}.items():
            with RawPeer.open((host, int(port))) as peer:
                peer.send(
                    f'GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n'.encode()
                )
                status, head, body = peer.read_answer()
                assert status == expected
                if status == 200:
                    assert '<html' in body
                    policy = head['content-security-policy']
                    assert "default-src 'none'" in policy
                    assert 'unsafe' not in policy
        with RawPeer.open((host, int(port))) as peer:
            peer.send(request('/x'))
            assert peer.read_answer()[0] == 404


def test_malformed_messages_end_their_sender_only(tmp_path: Path) -> None:
    with demo(tmp_path) as (_, address):
        host, _, port = address.removeprefix('http://').partition(':')
        with RawPeer.connect((host, int(port))) as other:
            for text in (
                b'',
                b'no JSON',
                b'[' * 5000,
                b'1' * 5000,
                b'["name", "text"]',
                b'{"name": "Ada"}',
                b'{"name": 1, "text": "x"}',
                b'{"name": "%s", "text": ""}' % (b'x' * 41),
                b'{"name": "", "text": "%s"}' % (b'x' * 2001),
            ):
                with RawPeer.connect((host, int(port))) as peer:
                    peer.send_frame(TEXT, text)
                    frame = peer.read_frame()
                    assert frame.close_code == 1008, (text, frame)
                    assert 'expected' in frame.close_reason
            other.send_frame(TEXT, b'{"name": "Ada", "text": "still here"}')
            assert b'"welcome"' in other.read_frame().payload
            assert b'still here' in other.read_frame().payload


def test_port_in_use_is_said_in_a_line(tmp_path: Path) -> None:
    with demo(tmp_path) as (_, address):
        port = address.rpartition(':')[2]
        with run_python(
            '-m', 'twspy.demo', '--port', port, cwd=tmp_path
        ) as second:
            assert second.wait() == 1
            (line,) = second.lines
            assert port in line
            assert '--port' in line


def test_port_that_is_none_is_refused(tmp_path: Path) -> None:
    for port in ('65536', '-1', 'http'):
        with run_python(
            '-m', 'twspy.demo', f'--port={port}', cwd=tmp_path
        ) as program:
            assert program.wait() == 2
            assert port in program.text
