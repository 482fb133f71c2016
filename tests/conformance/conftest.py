"""Makes tests of the tables, and a table of their results."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.roles import Harness
from conformance.table import BOTH, Row

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob('rows_*.py'))
TABLES: dict[str, list[Row]] = {
    name: importlib.import_module(f'conformance.{name}').ROWS for name in NAMES
}
ROWS = {row.id: row for rows in TABLES.values() for row in rows}

# What the reports said: by the row's id and the role, for each split.
SEEN: dict[str, dict[str, list[bool]]] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if 'row' not in metafunc.fixturenames:
        return
    ids = [row.id for rows in TABLES.values() for row in rows]
    assert len(set(ids)) == len(ids), 'ids of rows must differ'
    metafunc.parametrize(
        ('row', 'role', 'split'),
        [
            pytest.param(row, role, split, id=f'{row.id}-{role}-{split}')
            for row in ROWS.values()
            for role in row.roles
            for split in row.splits
        ],
    )


@pytest.fixture
def rows() -> list[Row]:
    return list(ROWS.values())


@pytest.fixture(scope='session')
def harness() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.close()


# ---------------------------------------------------------------- the results


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Also those of other processes, and of one that crashed."""
    name, _, rest = report.nodeid.partition('::test_row[')
    if not rest or not name.endswith('test_conformance.py'):
        return
    if report.when == 'call' or report.failed:
        row_id, role, _ = rest.removesuffix(']').rsplit('-', 2)
        roles = SEEN.setdefault(row_id, {})
        roles.setdefault(role, []).append(bool(report.passed))


def outcome(row: Row, role: str) -> str:
    if role not in row.roles:
        return '-'
    results = SEEN.get(row.id, {}).get(role)
    return '' if results is None else 'OK' if all(results) else 'FAILED'


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What ran, as a table; only counts where other tests ran, too."""
    if not SEEN:
        return
    write = terminalreporter.write_line
    tried = [row for row in ROWS.values() if row.id in SEEN]
    terminalreporter.section('conformance')
    alone = all(
        HERE in [p := Path(a).resolve(), *p.parents] for a in config.args
    )
    if alone:
        cells = [
            (
                row.id,
                row.section,
                row.autobahn,
                row.requirement + (f' ({row.why})' if row.why else ''),
                *(outcome(row, role) for role in BOTH),
            )
            for row in tried
        ]
        cells.insert(0, ('id', 'section', 'Autobahn', 'requirement', *BOTH))
        widths = [max(len(line[i]) for line in cells) for i in range(6)]
        widths[3] = min(widths[3], 72)
        for line in cells:
            write(
                '  '.join(
                    cell[:width].ljust(width)
                    for cell, width in zip(line, widths, strict=True)
                ).rstrip()
            )
    counts = [
        [outcome(row, role) for row in tried].count(result)
        for role in BOTH
        for result in ('OK', 'FAILED')
    ]
    write(
        f'{len(tried)} rows of {len(ROWS)}: '
        'server {} OK, {} FAILED; client {} OK, {} FAILED'.format(*counts)
    )
