"""What a client pays for being kept alive: echoes a second, system calls and
switches of threads, with keepalive and without.

Prints Markdown. bench/README.md tells more.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from support import ECHO_SERVER, serving, take_last_core

import twspy

WITH: dict[str, Any] = {}
WITHOUT: dict[str, Any] = {'ping_interval': None, 'max_queue': None}

CALLS = """
import sys, twspy
conn = twspy.connect(sys.argv[1], **eval(sys.argv[2]))
for _ in range(int(sys.argv[3])):
    conn.send('x' * 256)
    conn.recv()
"""


def echo_for(url: str, seconds: float, size: int, **options: Any) -> list[int]:
    """Echo for so long: round trips a second, switches for 1000 of them."""
    text = 'x' * size
    count = 0
    with twspy.connect(url, **options) as conn:
        for _ in range(1000):
            conn.send(text)
            conn.recv()
        before = resource.getrusage(resource.RUSAGE_SELF)
        start = time.perf_counter()
        end = start + seconds
        now = start
        while now < end:
            for _ in range(100):
                conn.send(text)
                conn.recv()
            count += 100
            now = time.perf_counter()
        after = resource.getrusage(resource.RUSAGE_SELF)
    switches = (
        after.ru_nivcsw + after.ru_nvcsw - before.ru_nivcsw - before.ru_nvcsw
    )
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [
        round(count / (now - start)),
        round(1000 * switches / count),
        round(1e9 * cpu / count),
    ]


def count_calls(url: str, messages: int, options: dict[str, Any]) -> int:
    """System calls of a whole program that echoes so many messages."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / 'calls'
        trace = ['strace', '-f', '-c', '-U', 'calls', '-o', path]
        program = [sys.executable, '-c', CALLS, url, repr(options)]
        subprocess.run([*trace, *program, str(messages)], check=True)
        lines = path.read_text().splitlines()
    return int(lines[-1].split()[0])  # the total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--seconds', type=float, default=2.0)
    parser.add_argument('--size', type=int, default=256)
    args = parser.parse_args()
    kinds = {'with keepalive': WITH, 'without': WITHOUT}
    results: dict[str, list[list[int]]] = {name: [] for name in kinds}
    with serving(ECHO_SERVER, 'text') as server:
        url = f'ws://127.0.0.1:{server.port}/'
        take_last_core()
        for number in range(args.rounds):
            order = list(kinds)
            for name in reversed(order) if number % 2 else order:
                results[name].append(
                    echo_for(url, args.seconds, args.size, **kinds[name])
                )
                print(number, name, *results[name][-1], file=sys.stderr)
        calls = {
            name: (
                count_calls(url, 6000, options)
                - count_calls(url, 1000, options)
            )
            / 5000
            for name, options in kinds.items()
        }
    print(
        '| client | echoes/s | switches of threads for 1,000 | CPU an echo, '
        'ns | system calls an echo |\n| --- | --- | --- | --- | --- |'
    )
    for name, rounds in results.items():
        cells = [
            f'{statistics.median(column):,.0f} '
            f'({min(column):,} to {max(column):,})'
            for column in zip(*rounds, strict=True)
        ]
        print(f'| {name} | {" | ".join(cells)} | {calls[name]:.3f} |')
    ratios = [a[0] / b[0] for a, b in zip(*results.values(), strict=True)]
    print(
        f'\nEchoes with keepalive to those without, by round: median '
        f'{statistics.median(ratios):.3f} ({min(ratios):.3f} to '
        f'{max(ratios):.3f}).'
    )


if __name__ == '__main__':
    main()
