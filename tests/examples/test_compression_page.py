"""docs/compression.md: its programs run, and its defaults are those of the
package."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from ports import free_port
from programs import ROOT, run_python, wait_for_port

import twspy

PAGE = (ROOT / 'docs' / 'compression.md').read_text(encoding='utf-8')
PROGRAMS = re.findall(r'```python\n(.*?)```', PAGE, re.S)


def write(path: Path, program: str, port: int) -> str:
    assert program.count('8000') == 1
    path.write_text(program.replace('8000', str(port)), encoding='utf-8')
    return path.name


def test_server_and_client(tmp_path: Path) -> None:
    server, client = PROGRAMS[:2]
    port = free_port()
    server_name = write(tmp_path / 'server.py', server, port)
    client_name = write(tmp_path / 'client.py', client, port)
    with run_python(server_name, cwd=tmp_path) as serving:
        wait_for_port(port)
        with run_python(client_name, cwd=tmp_path) as running:
            assert running.wait() == 0
            assert running.lines[0] == 'Hello, ' * 100
            assert 'DeflateMessage of a client' in running.lines[1]
        serving.send_signal(signal.SIGINT)
        assert serving.wait() == 0


@pytest.mark.parametrize('program', PROGRAMS[2:])
def test_what_is_given_to_servers(program: str) -> None:
    names: dict[str, twspy.Server] = {}
    exec(program, names)
    with names['server'] as server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        for kind in (twspy.DeflateMessage, twspy.DeflateFrame):
            with twspy.connect(url, compression=kind()) as connection:
                known = {type(each) for each in connection.extensions}
                assert known == {kind} or 'DeflateFrame' not in program


def test_defaults() -> None:
    """Those of the table of arguments, and those that follow from them."""
    found = re.findall(r'\n\| `(\w+)` \| `?(-?\w+)`? \|', PAGE)
    made = twspy.DeflateMessage()
    assert {name: str(getattr(made, name)) for name, _ in found} == dict(found)
    assert len(found) == 8
    frame = twspy.DeflateFrame()
    signature = re.search(r'`DeflateFrame\(([^)]*)\)`', PAGE)
    assert signature is not None
    for argument in signature[1].split(','):
        name, value = argument.strip().split('=')
        assert str(getattr(frame, name)) == value
    offer = {'client_max_window_bits': None}
    server = twspy.DeflateMessage()
    assert server.negotiate(offer) == {'client_max_window_bits': '12'}
    assert server.server_max_window_bits == 12
