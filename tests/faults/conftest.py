"""Programs of this directory, each run in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Certificates

HERE = Path(__file__).parent


@pytest.fixture(scope='session')
def interposer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """interpose.c, compiled."""
    sys.path.insert(0, str(HERE))
    try:
        from injector import build
    finally:
        sys.path.remove(str(HERE))
    return build(tmp_path_factory.mktemp('interposer'))


@pytest.fixture
def run(interposer: Path, certificates: Certificates) -> Callable[..., str]:
    """Runs one of the programs; what it prints. Fails where it does."""

    def run(program: str, *arguments: object, timeout: float = 55) -> str:
        command = [
            sys.executable,
            HERE / program,
            interposer,
            certificates.cafile,
            certificates.server.certfile,
            certificates.server.keyfile,
            *map(str, arguments),
        ]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run
