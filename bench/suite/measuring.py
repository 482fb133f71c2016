"""Puts servers under load in turn, and keeps what came of each round."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from statistics import median
from typing import Any

from .cells import CLIENT_CELLS, Cell
from .installing import CERTIFICATE, LOAD, environment
from .peers import CLIENTS, LIMIT, SERVERS, Peer
from .servers import Server, resident
from .system import Failure, cores, on_core

Result = dict[str, Any]
Results = dict[str, list[Result]]  # rounds by server or client

LOAD_TIME = 60.0  # what the load may take beyond the measured time
HOLD_TIME = 120.0  # and 10,000 connections to come up
REST = 1.0  # seconds of silence before memory is read
IDLE_CLIENTS = 10_000
FILES_BESIDE = 100  # of a server or the load, beside connections


class Settings:
    """How long, how often, and when to stop."""

    def __init__(
        self, rounds: int, seconds: float, warmup: float, deadline: float
    ) -> None:
        self.rounds = rounds
        self.seconds = seconds
        self.warmup = warmup
        self.deadline = deadline  # of time.monotonic()
        self.half = 0.0  # messages a second: half of what the C loop does

    def is_over(self) -> bool:
        return time.monotonic() > self.deadline


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse(name: str, done: subprocess.CompletedProcess[str]) -> Result:
    """The last line of a load or a client; fails where anything was wrong."""
    if done.returncode != 0:
        told = (done.stderr.strip() or done.stdout.strip())[:300]
        raise Failure(f'status {done.returncode}: {told}')
    try:
        result: Result = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise Failure(f'{name} printed {done.stdout[:200]!r}') from error
    return result


def call(command: list[str], seconds: float) -> Result:
    """Run a load or a client on its core."""
    try:
        with on_core(cores()[1]):
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds + LOAD_TIME,
                env=environment(),
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(str(error)) from error
    return parse(command[0], done)


def load_words(server: Server, cell: Cell) -> list[str]:
    words = [str(LOAD), '--port', str(server.port), *cell.load]
    for pid in server.pids:
        words += ['--pid', str(pid)]
    return words


def put_under_load(server: Server, cell: Cell, settings: Settings) -> Result:
    words = load_words(server, cell)
    words += ['--seconds', str(settings.seconds)]
    words += ['--warmup', str(settings.warmup)]
    if cell.how == 'rate':
        words += ['--rate', str(settings.half)]
    result = call(words, settings.seconds + settings.warmup)
    if not server.alive():
        raise Failure('ended under the load')
    return result


# Rounds ----------------------------------------------------------------------


def take_turns(
    names: list[str],
    settings: Settings,
    measure: Callable[[str], Result],
    failed: dict[str, str],
) -> Results:
    """Rounds in turn, every second one in reversed order, so that a drift of
    the machine's speed favours none. Who fails is left out from then on."""
    results: Results = {}
    for number in range(settings.rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            if name in failed:
                continue
            if settings.is_over():
                return results
            try:
                result = measure(name)
            except Failure as error:
                failed[name] = str(error)
                results.pop(name, None)
                tell(f'    {name}: FAILED: {error}')
                continue
            results.setdefault(name, []).append(result)
            tell(f'    {name}: {result["rate"]:,.0f} a second')
    return results


def start_all(
    stack: ExitStack,
    cell: Cell,
    names: list[str],
    failed: dict[str, str],
    *flags: str,
) -> dict[str, Server]:
    servers = {}
    for name in names:
        try:
            servers[name] = stack.enter_context(
                Server(SERVERS[name], cell.kind, *flags)
            )
        except Failure as error:
            failed[name] = str(error)
            tell(f'    {name}: FAILED: {error}')
    return servers


def measure_cell(
    cell: Cell, names: list[str], settings: Settings, failed: dict[str, str]
) -> Results:
    """`failed` receives the reasons of those who failed."""
    if cell.how == 'idle':
        return measure_idle(cell, names, settings, failed)
    if cell.how == 'rate':
        find_half(cell, settings)
    with ExitStack() as stack:
        servers = start_all(stack, cell, names, failed, *cell.flags)
        return take_turns(
            list(servers),
            settings,
            lambda name: put_under_load(servers[name], cell, settings),
            failed,
        )


def find_half(cell: Cell, settings: Settings) -> None:
    """What the C loop does at most, right now; then half of it."""
    full = cell._replace(
        how='echo',
        load=tuple('1' if word == '64' else word for word in cell.load),
    )
    with Server(SERVERS[LIMIT], cell.kind) as server:
        rates = [
            put_under_load(server, full, settings)['rate'] for _ in range(3)
        ]
    settings.half = round(median(rates) / 2, -2)


# Memory of idle connections --------------------------------------------------


def idle_clients() -> int:
    """As many as the limit of open files allows."""
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return min(IDLE_CLIENTS, most - FILES_BESIDE)


def measure_idle(
    cell: Cell, names: list[str], settings: Settings, failed: dict[str, str]
) -> Results:
    """One after the other, once each: there is little chance in it."""
    results: Results = {}
    for name in names:
        if settings.is_over():
            break
        flags = [flag for flag in cell.flags if flag != 'idle']
        try:
            with Server(SERVERS[name], cell.kind, *flags) as server:
                result = hold_clients(server, cell)
        except Failure as error:
            failed[name] = str(error)
            tell(f'    {name}: FAILED: {error}')
            continue
        results[name] = [result]
        tell(f'    {name}: {result["bytes"]:,.0f} bytes a client')
    return results


def hold_clients(server: Server, cell: Cell) -> Result:
    # What is allocated once is not the clients'.
    words = load_words(server, cell)
    call([*words, '--connections', '100'], HOLD_TIME)
    time.sleep(REST)
    count = idle_clients()
    before = resident(server.pids)
    with on_core(cores()[1]):
        process = subprocess.Popen(
            [*words, '--connections', str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    assert process.stdout is not None and process.stderr is not None
    try:
        ready, _, _ = select.select([process.stdout], [], [], HOLD_TIME)
        line = process.stdout.readline() if ready else b''
        if not line:
            process.kill()
            told = process.stderr.read().decode(errors='replace')
            raise Failure(f'10,000 clients did not come up: {told[:300]}')
        opened = json.loads(line)['open']
        if opened != count:
            raise Failure(f'{opened} of {count} clients are there')
        time.sleep(REST)
        grown = resident(server.pids) - before
    finally:
        # Nothing is left to check, and closing them all takes time.
        process.kill()
        process.communicate()
    return {'bytes': grown / count, 'clients': count}


# Clients ---------------------------------------------------------------------


def measure_client(
    client: Peer, server: Server, name: str, settings: Settings
) -> Result:
    size, tls = CLIENT_CELLS[name]
    words = [*map(str, client.command), str(server.port), str(size)]
    words += [str(settings.seconds)]
    if tls:
        words.append(str(CERTIFICATE[0]))
    return call(words, settings.seconds)


def measure_clients(
    name: str,
    server_name: str,
    names: list[str],
    settings: Settings,
    failed: dict[str, str],
) -> Results:
    """The clients take turns at one server."""
    flags = ('tls',) if CLIENT_CELLS[name][1] else ()
    with Server(SERVERS[server_name], 'binary', *flags) as server:
        return take_turns(
            names,
            settings,
            lambda client: measure_client(
                CLIENTS[client], server, name, settings
            ),
            failed,
        )


def able(cell: Cell, names: list[str]) -> Iterator[str]:
    """The servers that a cell can be measured with."""
    for name in names:
        if set(cell.flags) <= set(SERVERS[name].can.split()):
            yield name


def load_average() -> float:
    return os.getloadavg()[0]
