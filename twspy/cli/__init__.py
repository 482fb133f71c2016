"""The command line: `twspy`, or `python -m twspy`.

    twspy connect URL     talk to a server
    twspy serve M:CLASS   run a Server
    twspy echo            run one that echoes
    twspy bench URL       put load on an echo server

Each is a module here with `add_parsers()` and `run()`, which returns the exit
status: see _STATUS.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from . import bench, connect, serve
from .display import complain
from .facts import version_text
from .options import UsageError

_STATUS = """\
The exit status is 0 where all went well, also for a server that Ctrl-C or
SIGTERM has stopped; 1 where the connection or the server failed, 2 for wrong
arguments, 130 after Ctrl-C in a client."""


class _Version(argparse.Action):
    """Prints what this build is made of, one fact a line."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        print(version_text())
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='twspy',
        description='WebSockets on the command line.',
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--version',
        action=_Version,
        nargs=0,
        help='print the version, and what this build is made of',
    )
    commands = parser.add_subparsers(
        dest='command', required=True, metavar='COMMAND'
    )
    for module in connect, serve, bench:
        module.add_parsers(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    arguments: those of the command line, without the program's name; None:
    `sys.argv[1:]`. Raises SystemExit, as argparse does, for `--help`,
    `--version` and what it does not understand.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    try:
        options = make_parser().parse_args(arguments)
        options.arguments = arguments
        status: int = options.run(options)
        sys.stdout.flush()
    except UsageError as error:
        return complain(str(error), 2)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Who reads our output, such as head, has enough of it. What is left
        # goes nowhere, so that the interpreter does not complain at its end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return 0
    return status
