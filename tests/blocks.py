"""The code blocks of Markdown pages, and what tests do with them.

A block is what stands between fences. A comment in the line before it says
what it is, `<!-- test: WORDS -->`; without one it is a program by itself, or
what its language says. Words for Python:

    (none)           a program: it ends with status 0
    server           a program that serves on port 8000 (which is replaced)
                     while the blocks behind it run, until SIGINT; up to the
                     next server, or to the end of the page
    join             goes on where the block before it ends: one program
    raises NAME      ends with that exception
    fragment         is compiled, not run
    file NAME        is written to NAME, where other blocks run
    stdin TEXT       TEXT is what it reads; `|` ends a line
    arguments TEXT   the words of its command line

and for others:

    output           text: every line is one of the program before it, in
                     that order; `...` stands for anything
    config NAME      text: a configuration, for the checks of that program
    run              shell: is run, and ends with status 0

Words are separated by commas: `<!-- test: server, file chat.py -->`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(
    r'(?:^<!-- test: (?P<words>[^\n]*) -->\n)?'
    r'^(?P<fence>`{3,}|~{3,})(?P<language>[^\n]*)\n'
    r'(?P<text>.*?)'
    r'^(?P=fence)[ ]*$',
    re.M | re.S,
)
WORDS = {
    'arguments',
    'config',
    'fragment',
    'file',
    'join',
    'output',
    'raises',
    'run',
    'server',
    'stdin',
}


@dataclass
class Block:
    """A code block: where it stands, and what it is."""

    path: Path
    line: int
    language: str
    text: str
    words: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f'{self.path.name}:{self.line}'


def blocks_of(path: Path) -> list[Block]:
    """The blocks of a page, in order."""
    page = path.read_text(encoding='utf-8')
    found = []
    for match in FENCE.finditer(page):
        line = page.count('\n', 0, match.start('fence')) + 1
        words: dict[str, str] = {}
        for word in (match['words'] or '').split(', '):
            name, _, value = word.strip().partition(' ')
            if name:
                assert name in WORDS, f'{path.name}:{line}: what is {name!r}?'
                words[name] = value
        found.append(
            Block(path, line, match['language'].strip(), match['text'], words)
        )
    # A comment that belongs to no block would be overlooked.
    assert page.count('<!-- test:') == sum(bool(b.words) for b in found), path
    return found


def programs_of(path: Path) -> list[str]:
    """The Python programs of a page."""
    return [
        block.text for block in blocks_of(path) if block.language == 'python'
    ]
