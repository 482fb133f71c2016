"""`twspy serve module:Class` and `twspy echo`."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from .. import Connection, Message, Server, WebSocketError
from .display import complain
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
        allow_abbrev=False,
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
        help='start again when a Python file below the current directory '
        'changes',
    )
    add_server_options(parser)
    parser.set_defaults(run=run)
    parser = commands.add_parser(
        'echo',
        help='run a server that echoes',
        description='Sends each message back to where it came from.',
        allow_abbrev=False,
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
    if options.reload:
        return run_reloading(options.arguments)
    made = Echo if options.target is None else find_class(options.target)
    address, arguments = server_arguments(options)
    if getattr(made, '__init__', None) is Server.__init__:
        # What has one of its own may choose there whom it trusts.
        arguments.setdefault('trusted_origins', 'same-origin')
    try:
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
    except (OSError, WebSocketError) as error:
        return complain(str(error), 1)
    except ValueError as error:
        if made is not Echo:
            raise  # with a traceback: it may be of the class itself
        return complain(str(error), 2)
    return 0
