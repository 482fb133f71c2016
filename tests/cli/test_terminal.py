"""`twspy connect` at a terminal."""

from __future__ import annotations

import re
from pathlib import Path

from commands import CTRL_C, CTRL_D, Terminal

import twspy


def test_typing_commands_and_the_end(url: str, tmp_path: Path) -> None:
    path = tmp_path / 'text.txt'
    path.write_text('of a file', encoding='utf-8')
    with Terminal('connect', url) as terminal:
        terminal.wait_for(r'\* connected to 127\.0\.0\.1:\d+')
        for typed, shown in (
            ('Grüße', '< Grüße'),
            ('//slash', '< /slash'),
            ('/binary 00 ff', '< <2 bytes: 00 ff>'),
            (f'/file {path}', '< of a file'),
            ('/ping here', r"\* pong 'here' after [\d.e+]+ ms"),
            ('ping', r"\* ping '"),
            ('/binary xyz', r'\* .*hexadecimal'),
            ('/file /no/such', r'\* .*No such file'),
            ('/close x', r'\* invalid literal'),
            ('/what', r'\* there is no command /what'),
            ('/help', r'/binary HEX'),
        ):
            terminal.type(f'{typed}\r')
            terminal.wait_for(shown)
        terminal.type('/close 4000 enough\r')
        terminal.wait_for(r'\* .*sent Close 4000 \(enough\)')
        assert terminal.wait() == 0
    assert 'Traceback' not in terminal.text


def test_end_of_input(url: str) -> None:
    with Terminal('connect', url) as terminal:
        terminal.wait_for('> ')
        terminal.type('\x04')
        terminal.wait_for(r'\* .*1000')
        assert terminal.wait() == 0


def test_interrupt(url: str) -> None:
    with Terminal('connect', url) as terminal:
        terminal.wait_for('> ')
        terminal.type('half')
        terminal.wait_for('half')
        assert terminal.press(CTRL_C) == 130
    # Not behind what was being typed.
    assert re.search(r'half(\^C)*\r\n\* connection closed', terminal.text)
    assert 'Traceback' not in terminal.text


def test_what_is_being_typed_stays(url: str, server: twspy.Server) -> None:
    with Terminal('connect', url) as terminal:
        terminal.wait_for('> ')
        terminal.type('half')
        terminal.wait_for('half')
        server.broadcast('news')
        terminal.wait_for('< news\r\n> half')
        terminal.type(' a line\r')
        terminal.wait_for('< half a line')
        assert terminal.press(CTRL_D) == 0


def test_server_that_closes(url: str) -> None:
    """It ends while it waits for a line."""
    for word, code, status in ('bye', '1001', 0), ('no', '1008', 1):
        with Terminal('connect', url) as terminal:
            terminal.wait_for('> ')
            terminal.type(f'{word}\r')
            terminal.wait_for(code)
            assert terminal.wait() == status
        assert 'Traceback' not in terminal.text


def test_what_a_peer_says_is_escaped(url: str) -> None:
    for options in [], ['-q']:
        with Terminal('connect', url, *options) as terminal:
            if not options:
                terminal.wait_for('> ')
            terminal.type('nasty\r')
            terminal.wait_for(r'a\\x1b\[2J\\rb\\x9b\\u202e\\u2028\\u061cc')
            terminal.type('bye\r')
            assert terminal.wait() == 0
        for bad in ('\x1b[2J', '\x9b', '\u202e', '\u2028', '\u061c'):
            assert bad not in terminal.text


def test_binary_messages_in_quiet_mode(url: str) -> None:
    with Terminal('connect', '-q', '-b', url) as terminal:
        terminal.type('\x01\r')
        terminal.wait_for('<1 byte: 01>')
        assert terminal.press(CTRL_D) == 0


def test_history(url: str) -> None:
    with Terminal('connect', url) as terminal:
        terminal.wait_for('> ')
        terminal.type('first of all\r')
        terminal.wait_for('< first of all')
        assert terminal.press(CTRL_D) == 0
    with Terminal('connect', url) as terminal:
        terminal.wait_for('> ')
        terminal.type('\x10\r')  # Ctrl-P: the line before
        terminal.wait_for('< first of all')
        assert terminal.press(CTRL_D) == 0


def test_history_is_private_and_bounded(url: str, tmp_path: Path) -> None:
    with Terminal('connect', url) as terminal:
        terminal.wait_for('> ')
        assert terminal.press(CTRL_D) == 0
    path = tmp_path / 'state' / 'twspy' / 'history'
    assert path.parent.stat().st_mode & 0o077 == 0
    path.write_text('word\n' * 1500, encoding='utf-8')
    with Terminal('connect', url) as terminal:
        terminal.wait_for('> ')
        terminal.type('the last\r')
        terminal.wait_for('< the last')
        assert terminal.press(CTRL_D) == 0
    lines = path.read_text(encoding='utf-8').splitlines()
    assert len(lines) == 1000
    assert lines[-1] == 'the last'


def test_history_that_cannot_be_kept(url: str, tmp_path: Path) -> None:
    (tmp_path / 'state').write_text('no directory', encoding='utf-8')
    with Terminal('connect', url) as terminal:
        terminal.wait_for('> ')
        assert terminal.press(CTRL_D) == 0
    assert 'Traceback' not in terminal.text


def test_password_is_asked_for() -> None:
    auth = twspy.DigestAuth({'bob': 'builder'}.get)
    with twspy.Server(('127.0.0.1', 0), auth=auth) as server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        with Terminal('connect', url, '--auth', 'bob') as terminal:
            terminal.wait_for('Password of bob: ')
            terminal.type('builder\r')
            terminal.wait_for(r'connected to(.|\n)*> ')
            assert terminal.press(CTRL_D) == 0
        assert 'builder' not in terminal.text
