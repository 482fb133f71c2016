"""`twspy serve module:Class` and `twspy echo`."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from .. import Connection, Message, Server, WebSocketError
from .options import UsageError, add_server_options, server_arguments
from .reload import run_reloading


class Echo(Server):
    """Sends each message back."""

    def onmessage(self, client: Connection, message: Message) -> None:
        client.send(message)


def add_parsers(commands: Any) -> None:
    parser = commands.add_parser(
        'serve',
        help='run a Server',
        description='Imports a module, makes the Server and runs it.',
    )
    parser.add_argument(
        'target',
        metavar='MODULE:CLASS',
        help='a subclass of twspy.Server, or a function that takes the same '
        'arguments and returns one; the current directory comes first',
    )
    parser.add_argument(
        '--reload',
        action='store_true',
        help='start again when a file of the program changes',
    )
    add_server_options(parser)
    parser.set_defaults(run=run)
    parser = commands.add_parser(
        'echo',
        help='run a server that echoes',
        description='Sends each message back to where it came from.',
    )
    add_server_options(parser)
    parser.set_defaults(run=run, target=None, reload=False)


def find_class(target: str) -> Any:
    """What `module:name` names."""
    module, colon, name = target.partition(':')
    if not colon or not module or not name:
        raise UsageError(
            f'{target!r} is no MODULE:CLASS, such as chat:ChatServer'
        )
    if '' not in sys.path:
        sys.path.insert(0, '')
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f'{module}.'.startswith(f'{error.name}.'):
            raise  # of something that the module imports
        raise UsageError(
            f'there is no module {module!r} in the current directory, or '
            'installed'
        ) from None
    for part in name.split('.'):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UsageError(f'{module} has no {name!r}') from None
    if not callable(found):
        raise UsageError(f'{target} is no class, but {found!r}')
    return found


def run(options: argparse.Namespace) -> int:
    try:
        if options.reload:
            return run_reloading()
        made = Echo if options.target is None else find_class(options.target)
        address, arguments = server_arguments(options)
        server = made(address, **arguments)
        if not isinstance(server, Server):
            raise UsageError(
                f'{options.target} returned {server!r}, expected '
                'a twspy.Server'
            )
        if options.workers > 1:
            server.run(workers=options.workers)
        else:
            server.run()
    except UsageError as error:
        print(f'twspy: {error}', file=sys.stderr)
        return 2
    except (OSError, ValueError, WebSocketError) as error:
        print(f'twspy: {error}', file=sys.stderr)
        return 1
    return 0
