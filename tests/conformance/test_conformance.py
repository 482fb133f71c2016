"""Runs the tables: each row, in each role, however its bytes arrive."""

from __future__ import annotations

from conformance.roles import End, Harness
from conformance.script import Script
from conformance.table import CUTS, Row


def test_row(row: Row, role: str, split: str, harness: Harness) -> None:
    def end(cut: int | None = None) -> End:
        return End(harness, role, split, cut, row.options, row.echo)

    if split != CUTS:
        with end() as one:
            row.run(one)
        return
    assert isinstance(row.run, Script), 'only scripts can be cut'
    cuts = row.run.cuts(role)
    if row.run.lives:
        # Over one connection: it is as good as new.
        with end() as one:
            one.open()
            for cut in cuts:
                one.restart(cut)
                row.run.go(one)
        return
    for cut in cuts:
        with end(cut) as one:
            row.run(one)
