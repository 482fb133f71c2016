"""The command line: `twspy`, or `python -m twspy`.

    twspy connect URL     talk to a server
    twspy serve M:CLASS   run a Server
    twspy echo            run one that echoes
    twspy bench URL       put load on an echo server

Each is a module here with `add_parser()` and `run()`, which returns the exit
status: 0, 1 where the connection or the server failed, 2 for wrong arguments,
130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import bench, connect, serve
from .facts import version_text


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='twspy', description='WebSockets on the command line.'
    )
    parser.add_argument('--version', action='version', version=version_text())
    commands = parser.add_subparsers(
        dest='command', required=True, metavar='COMMAND'
    )
    for module in connect, serve, bench:
        module.add_parsers(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # What reads our output has gone: nothing is left to say.
        sys.stdout = None  # type: ignore[assignment]
        return 1
    return status
