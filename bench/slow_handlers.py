"""Measures what others notice of a server's slow handlers.

Clients send echoes all the time, while the handlers of others sleep, compute
or wait for a message. Prints how long the echoes took, as Markdown.
bench/README.md tells more.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from contextlib import ExitStack
from typing import NamedTuple

from suite.system import Failure
from support import (
    TEXT,
    connect,
    frame,
    milliseconds,
    read_frame,
    serving,
    take_last_core,
    time_echoes,
)


def serve() -> None:
    """The server's process: does what a message says, then echoes."""
    import twspy

    class Server(twspy.Server):
        def onmessage(self, client, message):  # type: ignore[no-untyped-def]
            word, _, seconds = message.payload.partition(' ')
            if word == 'sleep':
                time.sleep(float(seconds))
            elif word == 'spin':
                end = time.monotonic() + float(seconds)
                while time.monotonic() < end:
                    pass
            elif word == 'recv':
                client.recv()
            client.send(message)

    server = Server(('127.0.0.1', 0), loglevel=logging.ERROR)
    print(server.address[1], flush=True)
    server.run()


class Trial(NamedTuple):
    """What some clients' handlers do meanwhile."""

    name: str
    clients: int
    word: str


TRIALS = [
    Trial('nothing slow', 0, 'echo'),
    Trial('30 handlers asleep', 30, 'sleep'),
    Trial('1 handler computing in Python', 1, 'spin'),
    Trial('50 handlers in recv()', 50, 'recv'),
]


def run_trial(
    trial: Trial, port: int, options: argparse.Namespace
) -> list[float]:
    message = f'{trial.word} {options.seconds}'.encode()
    with ExitStack() as stack:
        others = [
            stack.enter_context(connect(port)) for _ in range(options.others)
        ]
        slow = [
            stack.enter_context(connect(port)) for _ in range(trial.clients)
        ]

        def begin() -> None:
            for sock in slow:
                sock.sendall(frame(TEXT, message))

        taken = time_echoes(others, options.seconds, begin)
        for sock in slow:
            if trial.word == 'recv':
                sock.sendall(frame(TEXT, b'go on'))
            if read_frame(sock) != (TEXT, message):
                raise Failure('a slow handler answered something else')
    return taken


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measures echoes beside slow handlers.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--others', type=int, default=20, help='clients that send echoes')
    add('--seconds', type=float, default=2.0, help='that handlers are slow')
    add('--rounds', type=int, default=3)
    add(
        '--limit',
        type=float,
        help='ms: end with status 1 where an echo took longer',
    )
    add('--serve', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    if options.serve:
        serve()
        return 0
    results: dict[Trial, list[float]] = {trial: [] for trial in TRIALS}
    try:
        with serving(__file__, '--serve') as server:
            take_last_core()
            for _ in range(options.rounds):
                for trial in TRIALS:
                    taken = run_trial(trial, server.port, options)
                    results[trial] += taken
    except (Failure, OSError, EOFError) as error:
        print(f'bench: {error!r}', file=sys.stderr)
        return 1
    print(f'Echoes of {options.others} clients, in ms.\n')
    print('| meanwhile | echoes | median | 99 % | maximum |')
    print('| --- | ---: | ---: | ---: | ---: |')
    for trial, taken in results.items():
        print(f'| {trial.name} | {len(taken):,} | {milliseconds(taken)} |')
    worst = max(max(taken) for taken in results.values())
    return int(options.limit is not None and worst * 1e3 > options.limit)


if __name__ == '__main__':
    sys.exit(main())
