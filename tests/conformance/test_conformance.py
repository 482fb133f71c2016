"""Runs the tables: each row, in each role, however its bytes arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from conformance.roles import End, Harness
from conformance.script import Script, Variants
from conformance.table import CUTS, Row

# The cases of the Autobahn test suite: how many there are in each group.
AUTOBAHN = {
    '1.1': 8,
    '1.2': 8,
    '2': 11,
    '3': 7,
    '4.1': 5,
    '4.2': 5,
    '5': 20,
    '6.1': 3,
    '6.2': 4,
    '6.3': 2,
    '6.4': 4,
    '6.5': 5,
    '6.6': 11,
    '6.7': 4,
    '6.8': 2,
    '6.9': 4,
    '6.10': 3,
    '6.11': 5,
    '6.12': 8,
    '6.13': 5,
    '6.14': 10,
    '6.15': 1,
    '6.16': 3,
    '6.17': 5,
    '6.18': 5,
    '6.19': 5,
    '6.20': 7,
    '6.21': 8,
    '6.22': 34,
    '6.23': 7,
    '7.1': 6,
    '7.3': 6,
    '7.5': 1,
    '7.7': 13,
    '7.9': 9,
    '7.13': 2,
    '9.1': 6,
    '9.2': 6,
    '9.3': 9,
    '9.4': 9,
    '9.5': 6,
    '9.6': 6,
    '9.7': 6,
    '9.8': 6,
    '10.1': 1,
    **{f'12.{n}': 18 for n in range(1, 6)},
    **{f'13.{n}': 18 for n in range(1, 8)},
}


def test_row(row: Row, role: str, split: str, harness: Harness) -> None:
    def end(cut: int | None = None) -> End:
        return End(harness, role, split, cut, row.options, row.echo)

    scripts: tuple[Callable[[End], None], ...] = (row.run,)
    if isinstance(row.run, Variants):
        scripts = row.run.scripts
    for number, run in enumerate(scripts):
        try:
            if split == CUTS:
                assert isinstance(run, Script), 'only scripts can be cut'
                run_cut(run, role, end)
            else:
                with end() as one:
                    run(one)
        except BaseException as error:
            if len(scripts) > 1:
                error.add_note(f'in variant {number}: {run}')
            raise


def named(column: str) -> Iterator[str]:
    """The cases in a row's column: '2.4, 5.3-5.5, 6.12', the last a group."""
    for one in column.split(', ') if column else []:
        begin, _, end = one.partition('-')
        yield begin
        group, _, number = begin.rpartition('.')
        last = int(end.rpartition('.')[2]) if end else 0
        for at in range(int(number) + 1, last + 1):
            yield f'{group}.{at}'


def test_autobahn_is_covered(rows: list[Row]) -> None:
    """Sections 1 to 7, 9 and 10: each case, or its group, is in a row."""
    covered = {case for row in rows for case in named(row.autobahn)}
    missing = [
        f'{group}.{number}'
        for group, count in AUTOBAHN.items()
        for number in range(1, count + 1)
        if not {group, f'{group}.{number}'} & covered
    ]
    assert not missing


def run_cut(
    script: Script, role: str, end: Callable[[int | None], End]
) -> None:
    """Once for each offset, over one connection where that is as good as new
    afterwards."""
    cut: int | None = None
    try:
        if script.lives:
            with end(None) as one:
                one.open(**script.opening)
                for cut in script.cuts(role):
                    one.restart(cut)
                    script.go(one)
        else:
            for cut in script.cuts(role):
                with end(cut) as one:
                    script(one)
    except BaseException as error:
        error.add_note(f'cut at {cut}')
        raise
