"""A soak of some seconds; `make soak` runs the one of ten minutes."""

import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).with_name('soak.py')


def test_everybody_comes_and_goes() -> None:
    done = subprocess.run(
        [sys.executable, str(SOAK), '0.3'],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=58,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith('soak: passed, 0.3 minutes\n')
