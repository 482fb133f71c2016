"""`twspy connect URL`: talk to a server from a terminal or in a pipe."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import (
    BinaryMessage,
    Connection,
    HandshakeError,
    Message,
    SocketClosed,
    TextMessage,
    WebSocketError,
)
from .. import connect as open_connection
from .display import message_text, printable
from .options import UsageError, add_client_options, client_options
from .prompt import Prompt

_HELP = """\
A line is sent as a text message, and these are commands:
  /ping [TEXT]           send a ping
  /binary HEX            send a binary message: /binary 00 ff 7f
  /file PATH             send a file, as text where it is UTF-8
  /close [CODE [TEXT]]   close the connection
  /help                  this text
A line that begins with // is sent with one slash less. Ctrl-D closes."""


def add_parsers(commands: Any) -> None:
    parser = commands.add_parser(
        'connect',
        help='talk to a server',
        description='Sends each line as a message, and prints what comes.',
    )
    parser.add_argument('url', help='ws://HOST[:PORT]/PATH, or wss://...')
    add = parser.add_argument
    add(
        '-m',
        '--message',
        action='append',
        metavar='TEXT',
        help='send this instead of standard input; may be given often',
    )
    add(
        '-f',
        '--file',
        metavar='PATH',
        help='send this file as one message instead of standard input',
    )
    add('-b', '--binary', action='store_true', help='send binary messages')
    add('-j', '--json', action='store_true', help='indent texts that are JSON')
    add(
        '-q',
        '--quiet',
        action='store_true',
        help='print the payloads of messages as they are, and nothing else',
    )
    add(
        '-w',
        '--wait',
        type=float,
        metavar='SECONDS',
        default=1.0,
        help='of silence before it closes, once all is sent (default: 1)',
    )
    add_client_options(parser)
    parser.set_defaults(run=run)


class Client(Connection):
    """Tells the user of pings and pongs."""

    output: Output

    def onping(self, payload: bytes, /) -> None:
        self.output.note(f'ping {_quoted(payload)}')

    def onpong(self, payload: bytes, /) -> None:
        self.output.note(f'pong {_quoted(payload)}')


def _quoted(payload: bytes) -> str:
    return repr(payload.decode('utf-8', 'backslashreplace'))


class Output:
    """Where messages and notes go to."""

    def __init__(
        self, options: argparse.Namespace, prompt: Prompt | None
    ) -> None:
        self.quiet: bool = options.quiet
        self.as_json: bool = options.json
        self.prompt = prompt

    def message(self, message: Message) -> None:
        if not self.quiet:
            self._print(message_text(message, self.as_json), sys.stdout)
        elif isinstance(message, BinaryMessage):
            sys.stdout.flush()
            sys.stdout.buffer.write(message.payload)
            sys.stdout.buffer.flush()
        else:
            sys.stdout.write(message.payload + '\n')
            sys.stdout.flush()

    def note(self, text: str) -> None:
        if not self.quiet:
            self._print(f'* {printable(text)}', sys.stderr)

    def _print(self, text: str, stream: Any) -> None:
        if self.prompt is not None:
            self.prompt.print_above(text)
        else:
            print(text, file=stream, flush=True)


def run(options: argparse.Namespace) -> int:
    interactive = (
        options.message is None
        and options.file is None
        and sys.stdin.isatty()
        and sys.stdout.isatty()
    )
    prompt = Prompt() if interactive and not options.quiet else None
    output = Output(options, prompt)
    try:
        arguments = client_options(options)
        messages = None if prompt is not None else _messages(options)
        connection = open_connection(
            options.url, connection_class=Client, **arguments
        )
    except (UsageError, ValueError, TypeError) as error:
        return _fail(str(error), 2)
    except HandshakeError as error:
        return _fail(str(error), 1)
    except (OSError, WebSocketError) as error:
        return _fail(f'{options.url}: {error}', 1)
    assert isinstance(connection, Client)
    connection.output = output
    output.note(_greeting(connection))
    receiver = Receiver(connection, output)
    if prompt is not None:
        output.note('/help lists the commands, Ctrl-D closes')
        _talk(connection, prompt, output, receiver)
    else:
        assert messages is not None
        _send_all(connection, messages, receiver, options.wait)
    return receiver.finish()


def _fail(text: str, status: int) -> int:
    print(f'twspy: {printable(text)}', file=sys.stderr)
    return status


def _greeting(connection: Connection) -> str:
    text = f'connected to {connection}'
    sock = connection.sock
    if sock.secure:
        text += f', {sock.version}'
    if sock.protocol is not None:
        text += f', subprotocol {sock.protocol}'
    if connection.extensions:
        names = ', '.join(one.name for one in connection.extensions)
        text += f', extensions: {names}'
    return text


class Receiver:
    """Prints what comes, on a thread of its own, until the end."""

    def __init__(self, connection: Connection, output: Output) -> None:
        self.connection = connection
        self.output = output
        self.closing = False  # by us
        self.status = 0
        self.heard = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for message in self.connection:
                self.heard.set()
                self.output.message(message)
            self.output.note('closed')
        except SocketClosed as error:
            self.status = 0 if self.closing else 1
            self.output.note(str(error))
        except (OSError, WebSocketError) as error:
            self.status = 1
            self.output.note(str(error))
        finally:
            if self.output.prompt is not None:
                self.output.prompt.interrupt()

    def is_over(self) -> bool:
        return not self.thread.is_alive()

    def finish(self) -> int:
        self.closing = True
        self.connection.close()
        self.thread.join()
        return self.status


# --- what is sent ---


def _messages(options: argparse.Namespace) -> Iterator[Message]:
    kind = BinaryMessage if options.binary else TextMessage
    if options.file is not None:
        data = Path(options.file).read_bytes()
        message = BinaryMessage(data) if options.binary else _as_text(data)
        return iter([message])
    if options.message is not None:
        return iter([_message(kind, text) for text in options.message])
    return (_message(kind, line.rstrip('\n')) for line in sys.stdin)


def _message(kind: type[Message], text: str) -> Message:
    if kind is BinaryMessage:
        return BinaryMessage(text.encode())
    return TextMessage(text)


def _as_text(data: bytes) -> Message:
    try:
        return TextMessage(data.decode())
    except UnicodeDecodeError:
        return BinaryMessage(data)


def _send_all(
    connection: Connection,
    messages: Iterator[Message],
    receiver: Receiver,
    wait: float,
) -> None:
    try:
        for message in messages:
            connection.send(message)
    except SocketClosed:
        return  # the receiver tells of it
    while not receiver.is_over() and receiver.heard.wait(wait):
        receiver.heard.clear()


def _talk(
    connection: Connection, prompt: Prompt, output: Output, receiver: Receiver
) -> None:
    for line in prompt.lines():
        if receiver.is_over():
            return
        try:
            if not _obey(connection, line, output):
                return
        except SocketClosed:
            return
        except (OSError, ValueError, WebSocketError) as error:
            output.note(str(error))


def _obey(connection: Connection, line: str, output: Output) -> bool:
    """Sends a line, or does what it says. False: that was the last one."""
    command, _, rest = line.partition(' ')
    if not line.startswith('/') or line.startswith('//'):
        connection.send(line.removeprefix('/') if line[:2] == '//' else line)
    elif command == '/ping':
        connection.send_ping(rest)
    elif command == '/binary':
        connection.send(bytes.fromhex(rest))
    elif command == '/file':
        connection.send(_as_text(Path(rest).expanduser().read_bytes()))
    elif command == '/close':
        code, _, reason = rest.partition(' ')
        connection.close(int(code or 1000), reason)
        return False
    elif command == '/help':
        output.note(_HELP)
    else:
        output.note(f'there is no command {command}: see /help')
    return True
