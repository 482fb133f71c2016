"""Counts the system calls of an echo server, for each message.

Runs strace on the server while it is under load, and a shared object in it
that counts the clock reads that need no system call. Prints both as Markdown,
beside what is expected. bench/README.md tells more.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from suite.installing import LOAD, compile_load
from suite.measuring import LOAD_TIME
from suite.system import Failure, on_core
from support import ECHO_SERVER, Running, serving

# Most clock reads are no system call (vdso(7)), so strace does not see them.
# This counts them in the first bytes of a file.
CLOCK_SOURCE = r"""
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static _Atomic unsigned long *reads;
static int (*next)(clockid_t, struct timespec *);

__attribute__((constructor)) static void
begin(void)
{
    const char *path = getenv("BENCH_CLOCK_READS");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    void *found = dlsym(RTLD_NEXT, "clock_gettime");
    *(void **)&next = found;
    if (fd >= 0) {
        void *page =
            mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        reads = page == MAP_FAILED ? NULL : page;
        close(fd);
    }
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
    if (next == NULL) {
        begin();
    }
    if (reads != NULL) {
        atomic_fetch_add(reads, 1);
    }
    return next(clock, now);
}
"""

# What belongs together, whichever of them a server uses.
GROUPS = {
    'receive': ['recvfrom', 'recvmsg', 'recvmmsg', 'read', 'readv'],
    'send': ['sendto', 'sendmsg', 'sendmmsg', 'write', 'writev'],
    'wait': ['epoll_wait', 'epoll_pwait', 'epoll_pwait2', 'poll', 'ppoll'],
    'epoll_ctl': ['epoll_ctl'],
    'futex': ['futex'],
    'clock': ['clock_gettime', 'gettimeofday', 'time'],
}
EXPECTED = {
    'receive': '1',
    'send': '1',
    'wait': 'at most 1',
    'epoll_ctl': '0',
    'futex': '0',
    'clock': '0',
    'clock, without a system call': '0',
    'others': '0',
}


class Count(NamedTuple):
    """What one load has cost."""

    connections: int
    messages: int
    calls: dict[str, int]  # by the name of the system call
    clock_reads: int

    def groups(self) -> dict[str, float]:
        """Calls a message."""
        left = dict(self.calls)
        found = {
            group: sum(left.pop(name, 0) for name in names)
            for group, names in GROUPS.items()
        }
        found['clock, without a system call'] = self.clock_reads
        found['others'] = sum(left.values())
        return {name: n / self.messages for name, n in found.items()}


def compile_counter(folder: Path) -> Path:
    source, library = folder / 'clock.c', folder / 'clock.so'
    source.write_text(CLOCK_SOURCE, encoding='utf-8')
    compiler = shlex.split(os.environ.get('CC', 'cc'))
    subprocess.run(
        [
            *(*compiler, '-std=c11', '-D_GNU_SOURCE', '-O2', '-shared'),
            *('-fPIC', '-o', str(library), str(source), '-ldl'),
        ],
        check=True,
    )
    return library


@contextmanager
def traced(pid: int, output: Path) -> Iterator[None]:
    """Count the system calls of a process and its threads meanwhile."""
    strace = subprocess.Popen(
        ['strace', '-f', '-c', '-o', str(output), '-p', str(pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr is not None
    line = strace.stderr.readline()
    if 'attached' not in line:
        strace.wait()
        raise Failure(f'strace cannot trace: {line.strip()}')
    try:
        yield
    finally:
        strace.send_signal(signal.SIGINT)
        strace.communicate()


def read_calls(output: Path) -> dict[str, int]:
    """The table of strace -c: the calls by name."""
    calls = {}
    for line in output.read_text().splitlines():
        words = line.split()
        if len(words) >= 5 and words[0][0].isdigit() and words[3].isdigit():
            if words[-1] != 'total':
                calls[words[-1]] = int(words[3])
    if not calls:
        raise Failure(f'strace has counted nothing: {output.read_text()!r}')
    return calls


def count(
    server: Running,
    connections: int,
    options: argparse.Namespace,
    folder: Path,
) -> Count:
    reads = folder / 'reads'

    def clock_reads() -> int:
        return int.from_bytes(reads.read_bytes()[:8], sys.byteorder)

    command = [
        *(str(LOAD), '--port', str(server.port), '--warmup', '0'),
        *('--connections', str(connections), '--depth', '1'),
        *('--size', str(options.size), '--seconds', str(options.seconds)),
    ]
    time.sleep(0.5)
    before = clock_reads()
    output = folder / 'calls'
    with traced(server.pid, output), on_core(max(os.sched_getaffinity(0))):
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            text=True,
            timeout=options.seconds + LOAD_TIME,
        )
    if done.returncode != 0:
        raise Failure(f'the load failed: {done.stdout.strip()}')
    return Count(
        connections,
        json.loads(done.stdout)['messages'],
        read_calls(output),
        clock_reads() - before,
    )


def print_results(counts: list[Count]) -> None:
    heads = [
        f'{c.connections} connection{"s" if c.connections > 1 else ""}'
        for c in counts
    ]
    print('System calls a message, one message in flight a connection:\n')
    print(f'| | {" | ".join(heads)} | expected |')
    print(f'| --- |{" ---: |" * len(counts)} ---: |')
    tables = [c.groups() for c in counts]
    for name, expected in EXPECTED.items():
        cells = ' | '.join(f'{table[name]:.3f}' for table in tables)
        print(f'| {name} | {cells} | {expected} |')
    print()
    for head, c in zip(heads, counts, strict=True):
        names = sorted(c.calls, key=lambda name: -c.calls[name])
        calls = ', '.join(f'{name} {c.calls[name]:,}' for name in names)
        print(f'{head}, {c.messages:,} messages: {calls}.')


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Counts the system calls of an echo server.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--connections', type=int, nargs='+', default=[1, 50])
    add('--seconds', type=float, default=3.0, help='under each load')
    add('--size', type=int, default=32, help='bytes in a message')
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    if shutil.which('strace') is None:
        print('bench: strace is not installed', file=sys.stderr)
        return 2
    try:
        compile_load()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / 'reads').write_bytes(bytes(4096))
            env = {
                'LD_PRELOAD': str(compile_counter(folder)),
                'BENCH_CLOCK_READS': str(folder / 'reads'),
            }
            with serving(ECHO_SERVER, 'text', env=env) as server:
                counts = [
                    count(server, connections, options, folder)
                    for connections in options.connections
                ]
    except (
        Failure,
        OSError,
        subprocess.CalledProcessError,
        subprocess.TimeoutExpired,
    ) as error:
        print(f'bench: {error}', file=sys.stderr)
        return 1
    print_results(counts)
    return 0


if __name__ == '__main__':
    sys.exit(main())
