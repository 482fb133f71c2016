"""docs/compression.md: its defaults are those of the package, and what it
gives to servers is agreed on. tests/docs runs its programs."""

from __future__ import annotations

import re

import pytest
from blocks import programs_of
from programs import ROOT

import twspy

PATH = ROOT / 'docs' / 'compression.md'
PAGE = PATH.read_text(encoding='utf-8')
PROGRAMS = programs_of(PATH)


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
