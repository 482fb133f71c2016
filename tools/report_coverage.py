"""Tells how much of the sources ran, per layer and per file, as a table.

usage: report_coverage.py [--files] [--at-least LAYER=PERCENT]
                          [--called LAYER=DETAILS] NAME=SUMMARY...

SUMMARY is what `gcovr --json-summary` or `coverage json` has written; NAME
stands above its two columns, lines and branches. With --at-least the lines
of a layer, of the first summary that has it, must be so many percent; with
--called each function of a layer must have been called, by what
`gcovr --json` has written.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple


class Count(NamedTuple):
    """How many lines and branches there are, and how many of them ran."""

    lines: int = 0
    lines_run: int = 0
    branches: int = 0
    branches_run: int = 0

    def plus(self, other: 'Count') -> 'Count':
        return Count(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def percent(self) -> float:
        return 100 * self.lines_run / self.lines if self.lines else 100.0

    def columns(self) -> str:
        branches = '-'
        if self.branches:
            percent = 100 * self.branches_run / self.branches
            branches = f'{percent:.1f} %'
        return f'{self.percent:6.1f} % {branches:>8}'


def read(path: Path) -> dict[str, Count]:
    """The count of each file, by its path in the repository."""
    data = json.loads(path.read_text(encoding='utf-8'))
    if isinstance(data['files'], dict):
        return {
            name: Count(
                entry['summary']['num_statements'],
                entry['summary']['covered_lines'],
                entry['summary'].get('num_branches', 0),
                entry['summary'].get('covered_branches', 0),
            )
            for name, entry in data['files'].items()
        }
    return {
        entry['filename']: Count(
            entry['line_total'],
            entry['line_covered'],
            entry['branch_total'],
            entry['branch_covered'],
        )
        for entry in data['files']
    }


def layer_of(name: str) -> str:
    return str(Path(name).parent)


def by_layer(files: dict[str, Count]) -> dict[str, Count]:
    layers: dict[str, Count] = defaultdict(Count)
    for name, count in files.items():
        layers[layer_of(name)] = layers[layer_of(name)].plus(count)
    return layers


def show(summaries: dict[str, dict[str, Count]], *, with_files: bool) -> None:
    width = 42
    print(' ' * width + ''.join(f'{name:>19}' for name in summaries))
    print(' ' * width + '   lines  branches' * len(summaries))
    layers = {name: by_layer(files) for name, files in summaries.items()}

    def row(title: str, counts: list[Count | None]) -> None:
        columns = (count.columns() if count else ' ' * 17 for count in counts)
        print(f'{title:{width}}' + '  '.join(columns).rstrip())

    for layer in sorted({key for found in layers.values() for key in found}):
        row(layer, [found.get(layer) for found in layers.values()])
        names = {
            name
            for files in summaries.values()
            for name in files
            if layer_of(name) == layer
        }
        for name in sorted(names) if with_files else []:
            row(
                f'  {Path(name).name}',
                [files.get(name) for files in summaries.values()],
            )


def too_low(
    summaries: dict[str, dict[str, Count]], gates: dict[str, float]
) -> list[str]:
    """What is wrong, a line each."""
    found = []
    for layer, least in gates.items():
        for files in summaries.values():
            inside = {n: c for n, c in files.items() if layer_of(n) == layer}
            if inside:
                break
        else:
            found.append(f'{layer}: nothing of it was counted')
            continue
        total = by_layer(inside)[layer]
        if total.percent < least:
            worst = sorted(inside, key=lambda n: inside[n].percent)[:3]
            names = ', '.join(
                f'{Path(n).name} {inside[n].percent:.1f} %' for n in worst
            )
            found.append(
                f'{layer}: {total.percent:.1f} % of its lines ran, which '
                f'should be {least:g} %; least of {names}'
            )
    return found


def never_called(path: Path, layer: str) -> list[str]:
    """What is wrong, a line each."""
    data = json.loads(path.read_text(encoding='utf-8'))
    calls: dict[tuple[str, int, str], int] = defaultdict(int)
    for entry in data['files']:
        if layer_of(entry['file']) == layer:
            for function in entry['functions']:
                name = function.get('name') or function['demangled_name']
                place = (entry['file'], function['lineno'], name)
                calls[place] += function['execution_count']
    if not calls:
        return [f'{layer}: no function of it was counted']
    return [
        f'{file}:{line}: {name}() was never called'
        for (file, line, name), count in sorted(calls.items())
        if count == 0
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description='Tells what ran.')
    parser.add_argument('--files', action='store_true')
    parser.add_argument('--at-least', action='append', default=[])
    parser.add_argument('--called', action='append', default=[])
    parser.add_argument('summaries', nargs='+', metavar='NAME=SUMMARY')
    options = parser.parse_args()
    summaries = {}
    for written in options.summaries:
        name, _, path = written.partition('=')
        summaries[name] = read(Path(path))
    gates = {}
    for written in options.at_least:
        layer, _, percent = written.partition('=')
        gates[layer] = float(percent)
    show(summaries, with_files=options.files)
    problems = too_low(summaries, gates)
    for written in options.called:
        layer, _, path = written.partition('=')
        problems += never_called(Path(path), layer)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
