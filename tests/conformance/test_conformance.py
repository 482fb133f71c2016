"""Runs the tables: each row, in each role, however its bytes arrive."""

from __future__ import annotations

from collections.abc import Callable

from conformance.roles import End, Harness
from conformance.script import Script, Variants
from conformance.table import CUTS, Row


def test_row(row: Row, role: str, split: str, harness: Harness) -> None:
    def end(cut: int | None = None) -> End:
        return End(harness, role, split, cut, row.options, row.echo)

    scripts = row.run.scripts if isinstance(row.run, Variants) else [row.run]
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
