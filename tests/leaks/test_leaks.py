"""A server's memory and descriptors stay flat, whatever comes and goes."""

import subprocess
import sys
from pathlib import Path

CHURN = Path(__file__).with_name('churn.py')


def test_connections_and_messages_leave_memory_flat() -> None:
    """A small run; `make leaks` does 100,000 and 1,000,000."""
    done = subprocess.run(
        [sys.executable, str(CHURN), '4000', '40000'],
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stdout + done.stderr
