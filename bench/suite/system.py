"""What the machine is, which core is whose, and what ends a run."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
BUILD = ROOT / 'build' / 'bench'
PEERS = BENCH / 'peers'


class Failure(Exception):
    """What ends a measurement; its text is for the user."""


def compiler() -> list[str]:
    return shlex.split(os.environ.get('CC', 'cc'))


def cores() -> tuple[int, int]:
    """That of servers and that of clients: the first and the last."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes that are started meanwhile run on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def first_line(command: list[str]) -> str:
    """Of what a command prints; empty where it fails."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ''
    return next(iter(done.stdout.splitlines()), '')


def cpu_model() -> str:
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith(('model name', 'Model')):
            return line.partition(':')[2].strip()
    return platform.machine()


def python_build() -> str:
    """The interpreter and how it was optimized, as far as it tells: what a
    distribution adds to its build (Debian: PGO and LTO) is not in there."""
    arguments = sysconfig.get_config_var('CONFIG_ARGS') or ''
    flags = sysconfig.get_config_var('PY_CFLAGS') or ''
    pgo = '--enable-optimizations' in arguments
    lto = '--with-lto' in arguments or '-flto' in flags
    if sys.base_prefix == '/usr' and not pgo:
        how = "the distribution's"
    else:
        how = f'{"with" if pgo else "without"} PGO, '
        how += f'{"with" if lto else "without"} LTO'
    name = platform.python_implementation()
    return f'{name} {platform.python_version()} ({how})'


def machine() -> str:
    server, client = cores()
    text = (
        f'{platform.system()} {platform.release()}, {cpu_model()}, '
        f'{os.cpu_count()} cores; servers on core {server}, load and clients '
        f'on core {client}'
    )
    if server == client:
        text += ' (only one core: both sides share it)'
    return text
