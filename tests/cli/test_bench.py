"""`twspy bench`, its histogram and its progress bar."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import CTRL_C, Terminal, run
from ports import refusing_port

import twspy
from twspy.cli.histogram import Histogram, duration


def test_report(url: str) -> None:
    done = run('bench', url, '-t', '0.3', '-c', '3', '-d', '4', '-s', '100')
    assert done.status == 0
    assert done.err == ''  # no bar where there is no terminal
    text = done.out.decode()
    first = text.splitlines()[0]
    assert re.match(r'[\d,]+ messages of 100 bytes in \d+\.\d\d s', first)
    assert '3 connections, 4 in flight' in first
    for part in ('messages/s', '50 %', '99.9 %', 'longest', '#'):
        assert part in text
    assert 'MB/s' in text


def test_large_and_binary(url: str, server: twspy.Server) -> None:
    done = run('bench', url, '-t', '0.2', '-c', '1', '-b', '-s', '900000')
    assert done.status == 0


@pytest.mark.parametrize('rich', [True, False])
def test_progress(
    url: str, rich: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not rich:
        (tmp_path / 'rich.py').write_text('raise ImportError\n')
        monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=':')
    with Terminal(
        'bench', url, '-t', '1', '-c', '1', term='xterm'
    ) as terminal:
        terminal.wait_for('measuring' if rich else r'\[#+ *\] +\d+%')
        terminal.wait_for('messages/s')
        assert terminal.wait() == 0
    assert ('measuring' in terminal.text) == rich


def test_interrupt(url: str) -> None:
    with Terminal(
        'bench', url, '-t', '100', '-c', '2', term='xterm'
    ) as terminal:
        terminal.wait_for('0%')
        assert terminal.press(CTRL_C) == 130
    assert 'Traceback' not in terminal.text


def test_a_wrong_echo_is_a_failure() -> None:
    class Wrong(twspy.Server):
        def onmessage(
            self, client: twspy.Connection, message: twspy.Message
        ) -> None:
            client.send('something else')

    with Wrong(('127.0.0.1', 0)) as server:
        done = run('bench', f'ws://127.0.0.1:{server.address[1]}/', '-c', '1')
    assert done.status == 1
    assert 'something else' in done.err


def test_mistakes() -> None:
    with refusing_port() as port:
        url = f'ws://127.0.0.1:{port}/'
        assert run('bench', url).status == 1
    for options in (
        ['-c', '0'],
        ['-s', '7'],
        ['-t', '0'],
        ['-t', 'inf'],
        ['-d', '2', '-s', '1000000'],
        ['-c', 'many'],
    ):
        done = run('bench', url, *options)
        assert done.status == 2
        assert 'Traceback' not in done.err
    assert run('bench', 'http://127.0.0.1/').status == 2


def test_histogram() -> None:
    histogram = Histogram()
    for number in range(1, 1001):
        histogram.add(number / 1e6)
    for percent in (1, 50, 90, 99):
        assert histogram.percentile(percent) == pytest.approx(
            percent / 1e5, rel=0.05
        )
    assert histogram.percentile(100) == histogram.longest == 1e-3
    other = Histogram()
    other.add(1.0)
    histogram.merge(other)
    assert (histogram.total, histogram.longest) == (1001, 1.0)
    lines = histogram.lines()
    assert lines[-1].endswith(' 0.1% #')
    assert max(line.count('#') for line in lines) == 40
    assert Histogram().lines() == []


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [
        (0.0, '0 µs'),
        (1.234e-6, '1.23 µs'),
        (999.6e-6, '1 ms'),
        (0.1234, '123 ms'),
        (0.99994, '1 s'),
        (12.34, '12.3 s'),
        (1234.0, '1234 s'),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
