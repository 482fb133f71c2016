"""The pages of examples/ in a real browser."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browsers import launch
from playwright.sync_api import BrowserContext, Page, expect
from programs import ROOT, SOON, run_python

import twspy

LISTENING = r'listening on (?:port |127\.0\.0\.1:)(\d+)$'


@contextmanager
def browser_of(
    chromium: str, tmp_path: Path, **options: Any
) -> Iterator[tuple[BrowserContext, list[str]]]:
    """A browser, and what its pages complain of."""
    problems: list[str] = []
    with launch(chromium, tmp_path / 'profile', **options) as context:
        context.on('weberror', lambda error: problems.append(str(error.error)))
        yield context, problems
    assert problems == []


@contextmanager
def example(tmp_path: Path, name: str, *arguments: str) -> Iterator[str]:
    """The address of the running example's page."""
    with run_python(
        ROOT / 'examples' / name, '0', *arguments, cwd=tmp_path
    ) as program:
        port = program.wait_for(LISTENING)[1]
        yield f'http://127.0.0.1:{port}/'
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0
        assert 'Traceback' not in program.text


def open_page(browser: BrowserContext, address: str) -> Page:
    page = browser.new_page()
    page.goto(address)
    return page


def test_chat_page(chromium: str, tmp_path: Path) -> None:
    with (
        example(tmp_path, 'chat_page.py') as address,
        browser_of(chromium, tmp_path) as (browser, _),
    ):
        one, two = open_page(browser, address), open_page(browser, address)
        expect(one.locator('li')).to_have_count(2)
        one.get_by_label('Message').fill('<b>Grüße</b>')
        one.get_by_role('button').click()
        for page in one, two:
            expect(page.locator('li').first).to_contain_text('<b>Grüße</b>')
        two.close()
        expect(one.locator('li').first).to_contain_text('has left')


def test_authentication(chromium: str, tmp_path: Path) -> None:
    credentials = {'username': 'alice', 'password': 'wonderland'}
    with (
        example(tmp_path, 'authentication.py') as address,
        browser_of(chromium, tmp_path, http_credentials=credentials) as (
            browser,
            _,
        ),
    ):
        page = open_page(browser, address)
        expect(page.get_by_role('status')).to_have_text('Hello, alice!')
        # A ticket is good once, and one that nobody gave out never.
        used = re.search(r'ticket=([\w-]+)', page.content())
        assert used is not None
        for ticket in used[1], 'guessed', '':
            failed = page.evaluate(
                """(ticket) => new Promise((resolve) => {
                  const url = location.origin.replace('http', 'ws');
                  const socket = new WebSocket(`${url}/?ticket=${ticket}`);
                  socket.onopen = () => resolve('open');
                  socket.onclose = () => resolve('closed');
                })""",
                ticket,
            )
            assert failed == 'closed'


def test_authentication_with_a_wrong_password(
    chromium: str, tmp_path: Path
) -> None:
    credentials = {'username': 'alice', 'password': 'guess'}
    with (
        example(tmp_path, 'authentication.py') as address,
        browser_of(chromium, tmp_path, http_credentials=credentials) as (
            browser,
            _,
        ),
    ):
        answer = browser.new_page().goto(address)
        assert answer is not None
        assert answer.status == 401


def test_game(chromium: str, tmp_path: Path) -> None:
    """The left tab's player moves in the right tab's picture."""
    left_of_centre = """() => {
      const canvas = document.querySelector('canvas').getContext('2d');
      const pixels = canvas.getImageData(0, 200, 100, 1).data;
      return pixels.some((value) => value > 0);
    }"""
    with (
        example(tmp_path, 'game.py') as address,
        browser_of(chromium, tmp_path) as (browser, _),
    ):
        one, two = open_page(browser, address), open_page(browser, address)
        assert not two.evaluate(left_of_centre)
        one.bring_to_front()
        one.keyboard.down('ArrowLeft')
        two.wait_for_function(left_of_centre, polling=50)
        one.keyboard.up('ArrowLeft')


def test_upload(chromium: str, tmp_path: Path) -> None:
    target = tmp_path / 'files'
    target.mkdir()
    data = bytes(range(256)) * 20_000
    path = tmp_path / 'picture.raw'
    path.write_bytes(data)
    with (
        example(tmp_path, 'upload.py', str(target)) as address,
        browser_of(chromium, tmp_path) as (browser, _),
    ):
        page = open_page(browser, address)
        page.locator('input').set_input_files(path)
        status = page.get_by_role('status')
        expect(status).to_contain_text('saved as', timeout=SOON * 1000)
        name = status.inner_text().removeprefix('saved as ')
        assert (target / name).read_bytes() == data
        bar = page.locator('progress')
        assert bar.evaluate('bar => bar.value') == len(data)


def test_dashboard(chromium: str, tmp_path: Path) -> None:
    with (
        example(tmp_path, 'dashboard.py') as address,
        browser_of(chromium, tmp_path) as (browser, _),
    ):
        page = open_page(browser, address)
        expect(page.locator('output')).to_have_text(re.compile(r'\d+\.\d\d'))
        # It moves: at least three points, at half a second each.
        line = page.locator('polyline')
        expect(line).to_have_attribute(
            'points', re.compile(r'^0,[\d.]+ 1,[\d.]+ 2,[\d.]+')
        )
        # Who comes later gets what there was before, at once.
        later = open_page(browser, address).locator('polyline')
        expect(later).to_have_attribute('points', re.compile(' 2,'))
        url = address.replace('http', 'ws')
        with twspy.connect(url, proxy=None) as client:
            first = client.recv(timeout=SOON).json()
        assert len(first) >= 3


@pytest.mark.parametrize('markup', ['<img src=x onerror=alert(1)>'])
def test_beside_wsgi(chromium: str, tmp_path: Path, markup: str) -> None:
    with (
        run_python(
            ROOT / 'examples' / 'beside_wsgi.py', '0', '0', cwd=tmp_path
        ) as program,
        browser_of(chromium, tmp_path) as (browser, _),
    ):
        address = program.wait_for(r'^open (http:\S+)$')[1]
        page = open_page(browser, address)
        page.wait_for_load_state('networkidle')
        page.get_by_label('News').fill(markup)
        page.get_by_role('button').click()
        expect(page.locator('li')).to_have_text(markup)
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0
