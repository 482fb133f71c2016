"""Compiles C sources with gcc's static analyzer and fails on what it finds.

usage: run_analyzer.py --known FILE [--jobs N] SOURCE... -- COMMAND

COMMAND is the compiler with its flags. The file of known findings names those
that are none, each line `SOURCE FUNCTION OPTION` below a comment with the
reason; one that is not found any more fails, too. A function is where the
path to the finding ends.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Known = tuple[str, str, str]


def read_known(path: Path) -> set[Known]:
    known = set()
    for line in path.read_text().splitlines():
        words = line.partition('#')[0].split()
        if words:
            source, function, option = words
            known.add((source, function, option))
    return known


def compile_one(command: list[str], source: str) -> list[dict[str, Any]]:
    """What the compiler says about a source file."""
    done = subprocess.run(
        [
            *command,
            '-fanalyzer',
            '-fdiagnostics-format=json',
            '-c',
            source,
            '-o',
            '/dev/null',
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found: list[dict[str, Any]] = json.loads(done.stderr.splitlines()[0])
    except (IndexError, ValueError):
        found = [{'kind': 'error', 'message': done.stderr}]
    if done.returncode != 0 and not found:
        message = f'{command[0]} ended with status {done.returncode}'
        found = [{'kind': 'error', 'message': message}]
    return found


def place(location: dict[str, Any]) -> str:
    caret = location.get('caret', location)
    return f'{caret.get("file", "?")}:{caret.get("line", 0)}'


def show(finding: dict[str, Any]) -> None:
    where = ', '.join(place(each) for each in finding.get('locations', []))
    option = finding.get('option', finding['kind'])
    print(f'{where}: {finding["message"]} [{option}]')
    for event in finding.get('path', []):
        where = place(event.get('location', {}))
        function = event.get('function', '')
        print(f'    {where}: {function}: {event.get("description", "")}')


def main() -> int:
    parser = argparse.ArgumentParser(description='Runs gcc -fanalyzer.')
    parser.add_argument('--known', type=Path, required=True)
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('sources', nargs='+', metavar='SOURCE')
    arguments = sys.argv[1:]
    cut = arguments.index('--')
    options = parser.parse_args(arguments[:cut])
    command = arguments[cut + 1 :]

    known = read_known(options.known)
    seen: set[Known] = set()
    bad = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(
            lambda source: compile_one(command, source), options.sources
        )
        for source, findings in zip(options.sources, results, strict=True):
            for finding in findings:
                path = finding.get('path') or [{}]
                name = (
                    source,
                    path[-1].get('function', ''),
                    finding.get('option', ''),
                )
                if name in known:
                    seen.add(name)
                else:
                    show(finding)
                    bad += 1
    for name in sorted(known - seen):
        if name[0] in options.sources:
            print(f'{options.known}: not found any more: {" ".join(name)}')
            bad += 1
    print(f'{len(options.sources)} files analyzed, {bad} findings')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
