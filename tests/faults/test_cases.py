"""What a program sees of a fault: see cases.py."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name('cases.py')
CASES = [
    node.name
    for node in ast.parse(SOURCE.read_text()).body
    if isinstance(node, ast.FunctionDef)
    and any(isinstance(d, ast.Name) and d.id == 'case'
            for d in node.decorator_list)
]  # fmt: skip


@pytest.mark.parametrize('name', CASES)
def test_case(run: Callable[..., str], name: str) -> None:
    run('cases.py', name)
