"""Fails where a source file of the core has no C test of its own name.

csrc/LAYER/x.c is tested by tests/c/test_x.c. EXCEPTIONS names the files that
another test covers, each with the reason; an entry that is not needed any
more fails as well.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import source
from source import Finding

# 'layer/file.c': ('test that covers it', 'why it has none of its own')
EXCEPTIONS: dict[str, tuple[str, str]] = {}


def check(
    root: Path, exceptions: dict[str, tuple[str, str]] = EXCEPTIONS
) -> Iterator[Finding]:
    tests = root / 'tests' / 'c'
    seen: dict[str, Path] = {}
    for layer in source.CORE:
        for path in sorted((root / 'csrc' / layer).glob('*.c')):
            other = seen.setdefault(path.name, path)
            if other != path:
                message = f'another layer has a {path.name}: name it apart'
                yield Finding(path, 1, message)
            test = f'test_{path.name}'
            listed = exceptions.get(f'{layer}/{path.name}')
            if listed is None:
                if not (tests / test).is_file():
                    yield Finding(path, 1, f'tests/c/{test} is missing')
            elif (tests / test).is_file():
                message = f'tests/c/{test} is there: remove the exception'
                yield Finding(path, 1, message)
            elif not (tests / listed[0]).is_file():
                yield Finding(path, 1, f'tests/c/{listed[0]} is missing')
    for name in sorted(exceptions):
        if not (root / 'csrc' / name).is_file():
            message = f'exception for {name}, which is not there'
            yield Finding(root / 'tools' / 'check_mirror.py', 1, message)


if __name__ == '__main__':
    sys.exit(source.main('Checks that each core file has its test.', check))
