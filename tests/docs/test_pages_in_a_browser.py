"""The pages that readers are told to save, in a real browser."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blocks import blocks_of
from browsers import launch
from playwright.sync_api import BrowserContext, expect
from ports import free_port
from programs import ROOT, Program, run_python, wait_for_port


@pytest.fixture
def browser(chromium: str, tmp_path: Path) -> Iterator[BrowserContext]:
    with launch(chromium, tmp_path / 'profile') as context:
        yield context


@contextmanager
def serving(
    page: str, directory: Path, name: str
) -> Iterator[tuple[Program, str]]:
    """The server that a page calls `name`, with the last of its files."""
    port = free_port()
    for block in blocks_of(ROOT / 'docs' / page):
        if 'file' in block.words:
            text = block.text.replace('8000', str(port))
            (directory / block.words['file']).write_text(text, 'utf-8')
    with run_python(name, cwd=directory) as program:
        wait_for_port(port)
        yield program, f'http://127.0.0.1:{port}/'


def test_echo(browser: BrowserContext, tmp_path: Path) -> None:
    with serving('quickstart.md', tmp_path, 'echo.py') as (server, url):
        page = browser.new_page()
        page.goto(url)
        items = page.get_by_role('listitem')
        expect(items).to_have_text(['connected'])
        page.get_by_role('textbox').fill('<b>Grüße</b>')
        page.get_by_role('textbox').press('Enter')
        expect(items).to_have_text(['connected', '<b>Grüße</b>'])
        server.send_signal(signal.SIGINT)
        expect(items.last).to_have_text('closed with code 1001')
        assert server.wait() == 0


def test_chat(browser: BrowserContext, tmp_path: Path) -> None:
    with serving('tutorial.md', tmp_path, 'web.py') as (server, url):
        ada, grace = browser.new_page(), browser.new_page()
        for page, name in (ada, 'Ada'), (grace, 'Grace'):
            page.goto(url)
            page.get_by_label('Name').fill(name)
            page.get_by_role('button', name='Join').click()
            expect(page.get_by_role('listitem').last).to_have_text(
                f'{name} has joined'
            )
        grace.locator('#text').fill('hello <i>')
        grace.locator('#text').press('Enter')
        expect(ada.get_by_role('listitem')).to_have_text(
            ['Ada has joined', 'Grace has joined', 'Grace: hello <i>']
        )
        grace.close()
        expect(ada.get_by_role('listitem').last).to_have_text('Grace has left')
        server.send_signal(signal.SIGINT)
        assert server.wait() == 0
