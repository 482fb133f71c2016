"""Each place where the module allocates or calls the system fails once, in
each scenario. What is wrong then ends up in the output of sweep.py."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

# How many calls at each place fail, one a run; 0: all of them.
DEPTH = int(os.environ.get('TWSPY_FAULTS_DEPTH', '1'))
TIMEOUT = 55 if DEPTH == 1 else 3600

# Several a process, about as long each.
GROUPS = [
    ['import', 'objects', 'sockets'],
    ['pair', 'served-basic', 'served-digest'],
    ['served-plain', 'served-deflate', 'served-extension'],
    ['served-tls', 'streaming-tls'],
    ['streaming-plain', 'streaming-deflate', 'streaming-extension'],
    ['started-plain'],
    ['started-tls'],
]
if DEPTH != 1:  # little that the others do not pass, and some seconds of waits
    GROUPS.append(['started-deflate', 'started-extension'])

MEMORY = 1 + 2 + 4  # also what CPython, OpenSSL and zlib allocate for us
SYSTEM = 8


@pytest.mark.timeout(TIMEOUT + 5)
@pytest.mark.parametrize('names', GROUPS, ids='+'.join)
@pytest.mark.parametrize('groups', [MEMORY, SYSTEM], ids=['memory', 'system'])
def test_single_faults(
    run: Callable[..., str], groups: int, names: list[str]
) -> None:
    if groups == SYSTEM:
        names = [name for name in names if name not in ('import', 'objects')]
    output = run('sweep.py', groups, DEPTH, *names, timeout=TIMEOUT)
    for name in names:
        assert f'{name}: ' in output
    assert ': 0 faults' not in output, 'nothing was interposed'
