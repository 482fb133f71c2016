"""Measures echo servers side by side: messages a second, processor time.

Starts each server on one core and the load generator on another, lets them
take turns, and prints medians and ratios as Markdown. bench/README.md tells
how to read them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
LOAD_SOURCES = [HERE / 'load.c', HERE / 'load_peer.c']
LOAD = HERE.parent / 'build' / 'bench' / 'load'

START_TIME = 20.0  # seconds a server has to print its port
STOP_TIME = 5.0  # seconds it has to end
LOAD_TIME = 60.0  # and what the load may take beyond the measured time

SERVERS = {
    'twspy': 'twspy_echo.py',
    'websockets': 'websockets_echo.py',
}
SUBJECT = 'twspy'


class Failure(Exception):
    """What ends the run; its text is for the user."""


class Round(NamedTuple):
    """What one server did in one round."""

    rate: float  # messages a second
    server_cpu: float  # seconds of processor time a message
    server_busy: float  # share of a core
    load_busy: float


def compile_load() -> None:
    compiler = shlex.split(os.environ.get('CC', 'cc'))
    inputs = [*LOAD_SOURCES, *HERE.glob('*.h')]
    newest = max(path.stat().st_mtime for path in inputs)
    if LOAD.exists() and LOAD.stat().st_mtime > newest:
        return
    LOAD.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *(*compiler, '-std=c11', '-D_GNU_SOURCE', '-O2', '-Wall'),
            *('-o', str(LOAD), *map(str, LOAD_SOURCES)),
        ],
        check=True,
    )


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes that are started meanwhile run on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Server:
    """An echo server in a process of its own."""

    def __init__(self, name: str, kind: str, core: int) -> None:
        self.name = name
        command = [sys.executable, str(HERE / 'servers' / SERVERS[name]), kind]
        with on_core(core):
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
            )
        self.port = 0

    def __enter__(self) -> Server:
        try:
            self.port = self.read_port()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_TIME)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def read_port(self) -> int:
        assert self.process.stdout is not None
        readable, _, _ = select.select(
            [self.process.stdout], [], [], START_TIME
        )
        line = self.process.stdout.readline() if readable else b''
        if not line.strip().isdigit():
            raise Failure(
                f'{self.name} printed {line!r}, expected its port within '
                f'{START_TIME:g} s'
            )
        return int(line)


def measure(server: Server, core: int, options: argparse.Namespace) -> Round:
    """Put the server under load once."""
    command = [
        *(str(LOAD), '--port', str(server.port)),
        *('--pid', str(server.process.pid)),
        *('--connections', str(options.connections)),
        *('--depth', str(options.depth)),
        *('--size', str(options.size)),
        *('--seconds', str(options.seconds)),
        *('--warmup', str(options.warmup)),
    ]
    if options.kind == 'binary':
        command.append('--binary')
    limit = options.warmup + options.seconds + LOAD_TIME
    with on_core(core):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, timeout=limit
        )
    if done.returncode != 0:
        raise Failure(
            f'the load on {server.name} failed with status {done.returncode}: '
            f'{done.stdout.strip() or "no result"}'
        )
    return read_result(server, json.loads(done.stdout))


def read_result(server: Server, result: dict[str, Any]) -> Round:
    messages = result['messages']
    if messages == 0 or result['server_cpu'] == 0:
        raise Failure(
            f'{server.name} did too little in the measured time: more seconds?'
        )
    if server.process.poll() is not None:
        raise Failure(f'{server.name} ended under the load')
    return Round(
        rate=result['rate'],
        server_cpu=result['server_cpu'] / messages,
        server_busy=result['server_cpu'] / result['seconds'],
        load_busy=result['load_cpu'] / result['seconds'],
    )


def run_rounds(
    options: argparse.Namespace, server_core: int, load_core: int
) -> dict[str, list[Round]]:
    results: dict[str, list[Round]] = {name: [] for name in options.servers}
    with ExitStack() as stack:
        servers = [
            stack.enter_context(Server(name, options.kind, server_core))
            for name in options.servers
        ]
        for number in range(options.rounds):
            # Each goes first in turn, so that a drift of the machine's speed
            # favours none.
            order = servers if number % 2 == 0 else servers[::-1]
            for server in order:
                result = measure(server, load_core, options)
                results[server.name].append(result)
                print(
                    f'round {number + 1}: {server.name} '
                    f'{result.rate:,.0f} messages/s, '
                    f'{result.server_cpu * 1e6:.2f} µs of CPU a message',
                    file=sys.stderr,
                )
    return results


def pick(rounds: list[Round], field: str) -> list[float]:
    return [getattr(result, field) for result in rounds]


def spread(values: list[float], form: str = '.1f') -> str:
    """The median, and the range around it."""
    low, middle, high = min(values), median(values), max(values)
    return f'{middle:{form}} ({low:{form}} to {high:{form}})'


def print_results(results: dict[str, list[Round]]) -> None:
    print(
        '| server | messages/s | CPU a message, µs | server core busy '
        '| load core busy |'
    )
    print('| --- | --- | --- | --- | --- |')
    for name, rounds in results.items():
        cpu = [seconds * 1e6 for seconds in pick(rounds, 'server_cpu')]
        print(
            f'| {name} | {spread(pick(rounds, "rate"), ",.0f")} '
            f'| {spread(cpu, ".2f")} '
            f'| {median(pick(rounds, "server_busy")):.0%} '
            f'| {median(pick(rounds, "load_busy")):.0%} |'
        )
    if SUBJECT not in results or len(results) < 2:
        return
    print()
    print(
        f'| {SUBJECT} against | times as many messages/s '
        '| times less CPU a message |'
    )
    print('| --- | --- | --- |')
    ours = results[SUBJECT]
    for name, theirs in results.items():
        if name == SUBJECT:
            continue
        pairs = list(zip(ours, theirs, strict=True))
        rates = [own.rate / other.rate for own, other in pairs]
        cpus = [other.server_cpu / own.server_cpu for own, other in pairs]
        print(f'| {name} | {spread(rates)} | {spread(cpus)} |')


def first_line(command: list[str]) -> str:
    return subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()[0]


def version_of(name: str) -> str:
    version = f'{name} {import_module(name).__version__}'
    if name == 'websockets' and find_spec('websockets.speedups') is None:
        version += ' (without its C extension)'
    return version


def cpu_model() -> str:
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith(('model name', 'Model')):
            return line.partition(':')[2].strip()
    return platform.machine()


def print_setting(
    options: argparse.Namespace, server_core: int, load_core: int
) -> None:
    compiler = shlex.split(os.environ.get('CC', 'cc'))
    versions = ', '.join(version_of(name) for name in options.servers)
    print(
        f'{options.connections} connections, {options.depth} messages of '
        f'{options.size} bytes ({options.kind}) in flight on each; '
        f'{options.rounds} rounds of {options.seconds:g} s.'
    )
    print(
        f'{versions}; {platform.python_implementation()} '
        f'{platform.python_version()}; load built by '
        f'{first_line([*compiler, "--version"])}.'
    )
    print(
        f'{platform.system()} {platform.release()}, {cpu_model()}; servers '
        f'on core {server_core}, load on core {load_core}.'
    )
    if server_core == load_core:
        print('Only one core: both sides share it.')
    print()


def parse_options() -> argparse.Namespace:
    def above_zero(text: str) -> int:
        if int(text) < 1:
            raise ValueError
        return int(text)

    parser = argparse.ArgumentParser(
        description='Measures echo servers side by side.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        'servers',
        nargs='*',
        default=list(SERVERS),
        help=f'which of {", ".join(SERVERS)}',
    )
    add = parser.add_argument
    add('--rounds', type=above_zero, default=5, help='for each server')
    add('--seconds', type=float, default=2.0, help='measured in a round')
    add('--warmup', type=float, default=0.5, help='seconds before that')
    add('--connections', type=above_zero, default=32)
    add('--depth', type=above_zero, default=16, help='messages in flight')
    add('--size', type=int, default=32, help='bytes in a message')
    add('--kind', choices=['text', 'binary'], default='text')
    options = parser.parse_args()
    for name in options.servers:
        if name not in SERVERS:
            parser.error(f'no server {name!r}: one of {", ".join(SERVERS)}')
    return options


def main() -> int:
    options = parse_options()
    if not hasattr(os, 'sched_setaffinity'):
        print('the load generator needs Linux', file=sys.stderr)
        return 2
    # So that a SIGTERM ends the servers, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    cores = sorted(os.sched_getaffinity(0))
    server_core, load_core = cores[0], cores[-1]
    try:
        compile_load()
        print_setting(options, server_core, load_core)
        results = run_rounds(options, server_core, load_core)
    except (
        Failure,
        OSError,
        subprocess.CalledProcessError,
        subprocess.TimeoutExpired,
    ) as error:
        print(f'bench: {error}', file=sys.stderr)
        return 1
    print_results(results)
    return 0


if __name__ == '__main__':
    sys.exit(main())
