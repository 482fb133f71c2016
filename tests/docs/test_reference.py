"""The reference has every public name, and what it says by hand is true."""

from __future__ import annotations

import re
import subprocess
import sys

from programs import ROOT

import twspy

REFERENCE = ROOT / 'docs' / 'reference'


def text() -> str:
    return ''.join(
        path.read_text(encoding='utf-8') for path in REFERENCE.glob('*.md')
    )


def test_every_public_name_has_its_place() -> None:
    documented = re.findall(
        r'auto(?:class|function|exception):: twspy\.(\w+)', text()
    )
    assert len(documented) == len(set(documented))
    numbers = re.findall(r'^\| `((?:OPCODE|CLOSE)_\w+)` \|', text(), re.M)
    assert {*documented, *numbers} == set(twspy.__all__) - {'__version__'}


def test_numbers() -> None:
    page = (REFERENCE / 'constants.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| `(\w+)` \| (\d+) \| ([^|]*) \|', page, re.M)
    for name, number, meaning in rows:
        assert getattr(twspy, name) == int(number)
        if name.startswith('CLOSE_'):
            try:
                twspy.CloseMessage(int(number)).frame()
                sendable = True
            except ValueError:
                sendable = False
            assert meaning == ('yes' if sendable else 'no'), name


def test_the_index_names_them_all() -> None:
    page = (REFERENCE / 'index.md').read_text(encoding='utf-8')
    named = set(re.findall(r'[`*]?\b(\w+)`', page))
    for name in twspy.__all__:
        obj = getattr(twspy, name)
        if isinstance(obj, type) and issubclass(obj, twspy.WebSocketError):
            continue
        if not name.startswith(('OPCODE_', 'CLOSE_', '__')):
            assert name in named, name


def test_figures_are_those_that_are_drawn() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / 'docs' / 'figures.py', '--check'],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
