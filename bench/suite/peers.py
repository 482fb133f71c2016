"""The servers and the clients that are measured, and how they are started."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

from . import installing
from .installing import CERTIFICATE, INSTALLED, VENV
from .system import BENCH, PEERS, Failure, first_line

VENV_PYTHON = str(VENV / 'bin' / 'python')


def version_of_twspy() -> str:
    code = 'import twspy; print("twspy", twspy.__version__)'
    version = first_line([sys.executable, '-c', code])
    if not version:
        raise Failure('twspy cannot be imported: make build')
    git = ['git', '-C', str(BENCH), 'describe', '--always', '--dirty']
    commit = first_line([*git, '--exclude=*'])
    return f'{version} ({commit})' if commit else version


class Peer(NamedTuple):
    """A server, or a client. What a server can do beside plain echoes stands
    in `can`:

    tls, deflate, fanout; spin: a thread in Python beside it; idle: 10,000
    clients
    """

    title: str
    install: Callable[[], str]  # returns its version, or raises Failure
    command: tuple[object, ...]
    can: str = ''
    kinds: bool = False  # is told 'text' or 'binary'

    def words(self, kind: str, *flags: str) -> list[str]:
        command = [*map(str, self.command)]
        if self.kinds:
            command.append(kind)
        for flag in flags:
            command.append(f'--{flag}')
            if flag == 'tls':
                command += map(str, CERTIFICATE)
        return command


def python(name: str, *words: str) -> tuple[object, ...]:
    return (VENV_PYTHON, PEERS / f'{name}_echo.py', *words)


package = installing.package
SUBJECT = 'twspy'
LIMIT = 'c'
ALL = 'tls deflate fanout spin idle'

SERVERS = {
    SUBJECT: Peer(
        'twspy',
        version_of_twspy,
        (sys.executable, BENCH / 'servers' / 'twspy_echo.py'),
        ALL,
        kinds=True,
    ),
    LIMIT: Peer(
        'bare C loop',
        installing.install_c,
        (INSTALLED / 'epoll_echo',),
        'fanout idle',
    ),
    'uws': Peer(
        'uWebSockets (C++)',
        installing.install_uws,
        (INSTALLED / 'uws_echo',),
        'tls deflate fanout idle',
    ),
    'picows': Peer(
        'picows, uvloop',
        package('picows', 'uvloop'),
        python('picows', 'uvloop'),
        'tls fanout spin idle',
    ),
    'websockets': Peer(
        'websockets, asyncio',
        package('websockets'),
        python('websockets', 'asyncio'),
        ALL,
    ),
    'websockets-uvloop': Peer(
        'websockets, uvloop',
        package('websockets', 'uvloop'),
        python('websockets', 'uvloop'),
        '',
    ),
    'websockets-sync': Peer(
        'websockets, threads',
        package('websockets'),
        python('websockets_sync'),
        '',
    ),
    'aiohttp': Peer(
        'aiohttp, uvloop',
        package('aiohttp', 'uvloop'),
        python('aiohttp', 'uvloop'),
        ALL,
    ),
    'uvicorn': Peer(
        'uvicorn (ASGI)',
        package('uvicorn', 'websockets', 'uvloop'),
        python('asgi', 'uvicorn'),
    ),
    'granian': Peer(
        'granian (ASGI, Rust)',
        package('granian', 'uvloop'),
        python('asgi', 'granian'),
    ),
    'socketify': Peer(
        'socketify (uWebSockets)',
        package('socketify'),
        python('socketify'),
    ),
    'ws': Peer(
        'ws (Node)',
        installing.install_node,
        ('node', PEERS / 'ws_echo.js'),
        'tls deflate fanout idle',
    ),
    'gorilla': Peer(
        'gorilla/websocket (Go)',
        installing.install_go,
        (INSTALLED / 'go_echo', 'gorilla'),
        'tls',
    ),
    'nbio': Peer(
        'nbio (Go)',
        installing.install_go,
        (INSTALLED / 'go_echo', 'nbio'),
    ),
    'tungstenite': Peer(
        'tokio-tungstenite (Rust)',
        installing.install_rust,
        (INSTALLED / 'rust' / 'target' / 'release' / 'echo',),
        'idle',
    ),
}


def client(python: str, name: str) -> tuple[object, ...]:
    return (python, BENCH / 'clients' / 'python_client.py', name)


# Programs that send, wait for the echo, and send again.
CLIENTS = {
    SUBJECT: Peer(
        'twspy.websocket',
        version_of_twspy,
        client(sys.executable, SUBJECT),
    ),
    'twspy-connect': Peer(
        'twspy.connect()',
        version_of_twspy,
        client(sys.executable, 'twspy-connect'),
    ),
    'websockets-sync': Peer(
        'websockets.sync',
        package('websockets'),
        client(VENV_PYTHON, 'websockets'),
    ),
    'websocket-client': Peer(
        'websocket-client',
        package('websocket-client'),
        client(VENV_PYTHON, 'websocket-client'),
    ),
    'picows': Peer(
        'picows, uvloop',
        package('picows', 'uvloop'),
        client(VENV_PYTHON, 'picows'),
    ),
    'beast': Peer(
        'Boost.Beast, blocking (C++)',
        installing.install_beast,
        (INSTALLED / 'beast',),
    ),
}
