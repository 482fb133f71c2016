"""Measures servers and clients of twspy beside those of others.

Installs and builds what it needs into build/, lets all take turns, and writes
tables and a chart. What was measured so far is kept after each cell.
bench/README.md tells the method, and how to read the result.
"""

from __future__ import annotations

import argparse
import datetime
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from suite.cells import CELLS, CLIENT_CELLS, QUICK_CLIENTS
from suite.chart import draw
from suite.installing import compile_load, make_certificate
from suite.measuring import (
    Settings,
    able,
    load_average,
    measure_cell,
    measure_clients,
    tell,
)
from suite.peers import CLIENTS, LIMIT, SERVERS, SUBJECT
from suite.report import Record, pick, render
from suite.system import (
    ROOT,
    Failure,
    compiler,
    first_line,
    machine,
    python_build,
)

FULL = ROOT / 'docs' / 'benchmarks'
PARTIAL = ROOT / 'build' / 'bench' / 'partial'
QUICK_SERVERS = (SUBJECT, LIMIT, 'uws', 'picows', 'websockets', 'ws')
QUICK_CALLERS = (SUBJECT, 'websockets-sync', 'beast')
# The server of the clients: the first that is there and can do TLS or not.
SERVERS_OF_CLIENTS = ('uws', LIMIT, SUBJECT)
LATENCY = 'latency'  # the cell that needs the C loop

# What measuring takes beside the measured time, in seconds: about.
START = 0.6  # a server
BESIDE = 0.3  # a round
FANOUT = 2.5  # a round with many connections
IDLE = 10.0  # a server that gets 10,000 clients
SECONDS_LEAST = 0.2  # shorter rounds tell nothing


class Run:
    """What is measured, and what has come of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.missing: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.records: dict[str, Record] = {}
        self.begun = datetime.datetime.now().astimezone()
        self.busy = load_average()
        self.settings = Settings(
            options.rounds,
            options.seconds,
            options.warmup,
            time.monotonic() + 60 * options.minutes,
        )
        self.half = 0.0
        self.left_out: list[str] = []

    def install(self) -> None:
        """Those that are asked for, and the server of the clients."""
        peers = {name: SERVERS[name] for name in self.options.servers}
        wanted = {**peers}
        if any(name in CLIENT_CELLS for name in self.options.cells):
            for name in SERVERS_OF_CLIENTS[:2]:
                wanted.setdefault(name, SERVERS[name])
        if LATENCY in self.options.cells:
            wanted.setdefault(LIMIT, SERVERS[LIMIT])
        clients = {name: CLIENTS[name] for name in self.options.clients}
        done: dict[str, str] = {}
        for peer in (*wanted.values(), *clients.values()):
            if peer.title in done or peer.title in self.missing:
                continue
            tell(f'installing {peer.title}')
            try:
                done[peer.title] = peer.install()
            except (Failure, OSError, subprocess.SubprocessError) as error:
                self.missing[peer.title] = str(error)
                tell(f'    NOT INSTALLED: {error}')
        self.versions = done

    def is_there(self, title: str) -> bool:
        return title in self.versions

    def servers(self) -> list[str]:
        return [
            name
            for name in self.options.servers
            if self.is_there(SERVERS[name].title)
        ]

    def fit(self) -> None:
        """Shorten the rounds so that all of it takes the minutes it may."""
        runs = 0
        fixed = 0.0
        for name in self.options.cells:
            if name in CELLS:
                servers = len(list(able(CELLS[name], self.servers())))
                fixed += servers * START
                if CELLS[name].how == 'idle':
                    fixed += servers * IDLE
                    continue
                if 'fanout' in name:
                    fixed += servers * self.options.rounds * FANOUT
            else:
                servers = len(self.options.clients)
            runs += servers * self.options.rounds
        fixed += runs * (self.settings.warmup + BESIDE)
        room = (60 * self.options.minutes - fixed) / max(runs, 1)
        self.settings.seconds = max(
            min(self.settings.seconds, round(room, 2)), SECONDS_LEAST
        )
        expected = fixed + runs * self.settings.seconds
        tell(
            f'{runs} rounds of {self.settings.seconds:g} s, about '
            f'{expected / 60:.0f} minutes'
        )

    def measure(self) -> None:
        self.fit()
        # Installing took its own time.
        self.settings.deadline = time.monotonic() + 60 * self.options.minutes
        for name in self.options.cells:
            if self.settings.is_over():
                self.left_out.append(name)
                continue
            tell(f'  {name}')
            failed: dict[str, str] = {}
            try:
                if name in CELLS:
                    self.measure_servers(name, failed)
                else:
                    self.measure_clients(name, failed)
            except Failure as error:
                tell(f'    FAILED: {error}')
            self.save()

    def measure_servers(self, name: str, failed: dict[str, str]) -> None:
        cell = CELLS[name]
        if name == LATENCY and not self.is_there(SERVERS[LIMIT].title):
            raise Failure('the C loop is not there')
        names = list(able(cell, self.servers()))
        results = measure_cell(cell, names, self.settings, failed)
        self.records[name] = Record(results, failed)
        if name == LATENCY:
            self.half = self.settings.half

    def measure_clients(self, name: str, failed: dict[str, str]) -> None:
        tls = CLIENT_CELLS[name][1]
        server = next(
            server
            for server in SERVERS_OF_CLIENTS
            if self.is_there(SERVERS[server].title)
            and (not tls or 'tls' in SERVERS[server].can.split())
        )
        names = [
            client
            for client in self.options.clients
            if self.is_there(CLIENTS[client].title)
        ]
        results = measure_clients(name, server, names, self.settings, failed)
        self.records[name] = Record(results, failed)

    # What is written ---------------------------------------------------------

    def setting(self) -> list[str]:
        options = self.options
        lines = [
            f'`make bench`, {self.begun:%Y-%m-%d %H:%M}: medians of '
            f'{options.rounds} rounds of {self.settings.seconds:g} s in '
            'turn, with the lowest and the highest in brackets. '
            '[bench/README.md](../../bench/README.md) tells the method.',
            '',
            f'- {machine()}; {self.busy:.2f} processes were running when it '
            'began',
            f'- {python_build()}; load built by '
            f'{first_line([*compiler(), "--version"])}; '
            f'{first_line(["openssl", "version"])}',
        ]
        texts = ', '.join(self.versions.values()).split(', ')
        lines.append(f'- {", ".join(dict.fromkeys(texts))}')
        if self.half:
            lines.append(
                f'- half of what the C loop does: {self.half:,.0f} messages/s'
            )
        if self.left_out:
            lines.append(
                f'- the {options.minutes:g} minutes were over before: '
                f'{", ".join(self.left_out)}'
            )
        return lines

    def save(self) -> None:
        folder: Path = self.options.out
        folder.mkdir(parents=True, exist_ok=True)
        picture = draw(self.records)
        if picture is not None:
            (folder / 'echoes.svg').write_text(picture, encoding='utf-8')
        (folder / 'README.md').write_text(
            render(
                self.records,
                self.setting(),
                self.missing,
                'echoes.svg' if picture else None,
            ),
            encoding='utf-8',
        )
        raw = {
            name: {'results': record.results, 'failed': record.failed}
            for name, record in self.records.items()
        }
        path = ROOT / 'build' / 'bench' / f'{folder.name}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(raw, indent=1), encoding='utf-8')

    def print_medians(self) -> None:
        for name, record in self.records.items():
            for peer, rounds in record.results.items():
                value = 'bytes' if 'bytes' in rounds[0] else 'rate'
                print(f'{name}\t{peer}\t{median(pick(rounds, value)):,.0f}')


# Options ---------------------------------------------------------------------


def words_of(text: str) -> list[str]:
    return text.replace(',', ' ').split()


def choose(
    parser: argparse.ArgumentParser,
    what: str,
    given: str,
    known: list[str],
    default: list[str],
) -> list[str]:
    chosen = words_of(given) or default
    for name in chosen:
        if name not in known:
            parser.error(f'no {what} {name!r}: one of {", ".join(known)}')
    return chosen


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measures twspy beside others.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--quick', action='store_true', help='some cells, some minutes')
    add('--cells', default='', help='names, with commas; all by default')
    add('--peers', default='', help='servers and clients, likewise')
    add('--rounds', type=int, default=0, help='3, or 2 if quick')
    add(
        '--seconds',
        type=float,
        default=0.0,
        help='of a round, at most: 1, or 0.5',
    )
    add('--warmup', type=float, default=0.2, help='seconds before that')
    add('--minutes', type=float, default=24.0, help='to measure at most')
    add('--out', type=Path, help='folder for tables and chart')
    add('--list', action='store_true', help='tell the names, and end')
    options = parser.parse_args()
    quick = options.quick
    partial = quick or options.cells or options.peers
    cells = [*CELLS, *CLIENT_CELLS]
    if options.list:
        print('cells:', *cells)
        print('servers:', *SERVERS)
        print('clients:', *CLIENTS)
        parser.exit()
    quick_cells = [name for name in CELLS if CELLS[name].quick]
    options.cells = choose(
        parser,
        'cell',
        options.cells,
        cells,
        [*quick_cells, *QUICK_CLIENTS] if quick else cells,
    )
    known = list(dict.fromkeys([*SERVERS, *CLIENTS]))
    peers = choose(parser, 'peer', options.peers, known, [])
    for field, all_of_them, quick_ones in (
        ('servers', SERVERS, QUICK_SERVERS),
        ('clients', CLIENTS, QUICK_CALLERS),
    ):
        default = list(quick_ones if quick else all_of_them)
        chosen = [name for name in peers if name in all_of_them]
        setattr(options, field, chosen if peers else default)
    options.rounds = options.rounds or (2 if quick else 3)
    options.seconds = options.seconds or (0.5 if quick else 1.0)
    options.out = options.out or (PARTIAL if partial else FULL)
    return options


def main() -> int:
    options = parse_options()
    if not sys.platform.startswith('linux'):
        print('bench: the load generator needs Linux', file=sys.stderr)
        return 2
    # So that a SIGTERM ends the servers, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    run = Run(options)
    try:
        compile_load()
        make_certificate()
        run.install()
        run.measure()
    except (Failure, OSError, subprocess.CalledProcessError) as error:
        print(f'bench: {error}', file=sys.stderr)
        return 1
    finally:
        if run.records:
            run.save()
            run.print_medians()
            print(f'wrote {options.out / "README.md"}')
    failed = {name for r in run.records.values() for name in r.failed}
    for title in run.missing:
        print(f'not installed: {title}: {run.missing[title]}')
    return 1 if SUBJECT in failed else 0


if __name__ == '__main__':
    sys.exit(main())
