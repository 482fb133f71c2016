"""What the checks share: findings, and C sources without their comments."""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

CORE = ('protocol', 'net', 'loop', 'engine')
LAYERS = (*CORE, 'python')


class Finding(NamedTuple):
    path: Path
    line: int
    message: str


TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'',
    re.DOTALL,
)


def without_comments(text: str, *, keep_strings: bool) -> str:
    """C text with comments (and strings) blanked; lines keep their numbers."""

    def blank(match: re.Match[str]) -> str:
        token = match.group()
        if token[0] == '/':
            return re.sub(r'[^\n]', ' ', token)
        return token if keep_strings else token[0] * 2

    return TOKEN.sub(blank, text)


def line_of(text: str, offset: int) -> int:
    return text.count('\n', 0, offset) + 1


def c_files(root: Path) -> list[Path]:
    return sorted((root / 'csrc').rglob('*.[ch]'))


def main(description: str, check: Callable[[Path], Iterator[Finding]]) -> int:
    """Runs a check from the command line: prints findings, counts them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        'root', nargs='?', type=Path, default=Path(__file__).parent.parent
    )
    root = parser.parse_args().root.resolve()
    findings = list(check(root))
    for path, line, message in findings:
        print(f'{path.relative_to(root)}:{line}: {message}')
    if findings:
        print(f'{Path(sys.argv[0]).name}: {len(findings)} found')
    return 1 if findings else 0
