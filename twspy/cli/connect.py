"""`twspy connect URL`: talk to a server from a terminal or in a pipe."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterable, Iterator
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
    websocket,
)
from .. import connect as open_connection
from ..uri import hide_secrets
from .display import complain, message_text, one_line
from .lines import Lines
from .options import (
    UsageError,
    add_client_options,
    client_options,
    seconds,
)
from .prompt import Prompt

# Codes of an end that is no failure: normal, going away, none given.
_FINE = (1000, 1001, 1005)

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
        description='Sends each line as a message, and prints what comes: '
        'messages on standard output, all else on standard error. At a '
        'terminal /help lists further commands.',
        allow_abbrev=False,
    )
    parser.add_argument('url', help='ws://HOST[:PORT]/PATH, or wss://...')
    add = parser.add_mutually_exclusive_group().add_argument
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
        help='send this file as one message instead of standard input, as '
        'text where it is UTF-8',
    )
    add = parser.add_argument
    add('-b', '--binary', action='store_true', help='send binary messages')
    add('-j', '--json', action='store_true', help='indent texts that are JSON')
    add(
        '-q',
        '--quiet',
        action='store_true',
        help='print the payloads of messages and errors, nothing else; in a '
        'pipe or a file they stay as they are',
    )
    add(
        '-w',
        '--wait',
        type=seconds,
        metavar='SECONDS',
        default=1.0,
        help='of silence before it closes, once all is sent; inf: until the '
        'server closes (default: 1)',
    )
    add_client_options(parser)
    parser.set_defaults(run=run)


class Client(Connection):
    """Tells the user of pings, and of the answers to his own."""

    output: Output

    def __init__(self, sock: websocket) -> None:
        super().__init__(sock)
        # When those that are not answered were sent.
        self._asked: dict[bytes, float] = {}

    def ping(self, text: str) -> None:
        """Sends one whose answer is timed."""
        self._asked[text.encode()] = time.perf_counter()
        self.send_ping(text)

    def onping(self, payload: bytes, /) -> None:
        self.output.note(f'ping {_quoted(payload)}')

    def onpong(self, payload: bytes, /) -> None:
        text = f'pong {_quoted(payload)}'
        at = self._asked.pop(payload, None)
        if at is not None:
            text += f' after {(time.perf_counter() - at) * 1000:.3g} ms'
        self.output.note(text)


def _quoted(payload: bytes) -> str:
    return repr(payload.decode('utf-8', 'backslashreplace'))


class Output:
    """Where messages and notes go to."""

    def __init__(
        self, options: argparse.Namespace, prompt: Prompt | None
    ) -> None:
        self.prompt = prompt
        self._quiet: bool = options.quiet
        self._as_json: bool = options.json
        # Nobody's text gets to a terminal as it is.
        self._raw = self._quiet and not sys.stdout.isatty()
        for stream in sys.stdout, sys.stderr:
            # What the terminal's encoding does not have is no reason to fail.
            stream.reconfigure(errors='backslashreplace')  # type: ignore[union-attr]

    def message(self, message: Message) -> None:
        if not self._raw:
            text = message_text(message, self._as_json)
            if not self._quiet:
                # No line of it looks like one of ours.
                text = '< ' + text.replace('\n', '\n  ')
            self._print(text, sys.stdout)
        elif isinstance(message, BinaryMessage):
            _write(message.payload)
        elif self._as_json:
            _write(message_text(message, True).encode() + b'\n')
        else:
            _write(message.payload.encode() + b'\n')

    def note(self, text: str) -> None:
        if not self._quiet:
            self._print(f'* {one_line(text)}', sys.stderr)

    def help(self) -> None:
        self._print(_HELP, sys.stderr)

    def error(self, text: str) -> None:
        self._print(f'twspy: {one_line(text)}', sys.stderr)

    def _print(self, text: str, stream: Any) -> None:
        if self.prompt is not None:
            self.prompt.print_above(text)
        else:
            print(text, file=stream, flush=True)


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def run(options: argparse.Namespace) -> int:
    piped = options.message is not None or options.file is not None
    interactive = not piped and sys.stdin.isatty() and sys.stdout.isatty()
    prompt = Prompt() if interactive and not options.quiet else None
    try:
        arguments = client_options(options)
        prepared = _prepared(options)
    except OSError as error:
        return complain(str(error), 2)
    try:
        connection = open_connection(
            options.url, connection_class=Client, **arguments
        )
    except HandshakeError as error:
        return complain(str(error), 1)
    except (OSError, WebSocketError) as error:
        return complain(f'{hide_secrets(options.url)}: {error}', 1)
    except (ValueError, TypeError) as error:
        return complain(str(error), 2)
    output = Output(options, prompt)
    connection.output = output
    output.note(_greeting(connection))
    with Lines() as lines:
        receiver = Receiver(connection, output, lines)
        try:
            if prompt is not None:
                output.note('/help lists the commands, Ctrl-D closes')
                _talk(connection, prompt, output, receiver)
            elif prepared is not None:
                _send_all(connection, prepared, receiver, options.wait)
            else:
                messages = _typed(lines, options.binary)
                _send_all(connection, messages, receiver, options.wait)
        finally:
            status = receiver.finish()
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

    def __init__(
        self, connection: Connection, output: Output, lines: Lines
    ) -> None:
        self.connection = connection
        self.output = output
        self.lines = lines
        self.closing = False  # by us
        self.over = False
        self.status = 0
        self.broken_pipe: BrokenPipeError | None = None
        self.heard = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            while (message := self._receive()) is not None:
                try:
                    self.output.message(message)
                except BrokenPipeError as error:
                    self.broken_pipe = error
                    return
                self.heard.set()
        finally:
            self.over = True
            self.heard.set()
            self.lines.interrupt()
            if self.output.prompt is not None:
                self.output.prompt.interrupt()

    def _receive(self) -> Message | None:
        try:
            return self.connection.recv()
        except SocketClosed as error:
            fine = self.closing or error.code in _FINE
            self._end(str(error), fine)
        except (OSError, WebSocketError) as error:
            self._end(str(error), False)
        return None

    def _end(self, text: str, fine: bool) -> None:
        self.status = 0 if fine else 1
        if fine:
            self.output.note(text)
        else:
            self.output.error(text)

    def finish(self) -> int:
        """Closes; returns the exit status. BrokenPipeError where nobody reads
        what is printed."""
        self.closing = True
        self.connection.close()
        self.thread.join()
        if self.broken_pipe is not None:
            raise self.broken_pipe
        return self.status


# --- what is sent ---


def _prepared(options: argparse.Namespace) -> list[Message] | None:
    """What the arguments say is to be sent, if they do."""
    if options.file is not None:
        data = Path(options.file).read_bytes()
        return [BinaryMessage(data) if options.binary else _as_text(data)]
    if options.message is not None:
        texts: list[str] = options.message
        return [
            BinaryMessage(text.encode(errors='surrogateescape'))
            if options.binary
            else _text_message(text, f'message is {text!r}')
            for text in texts
        ]
    return None


def _text_message(text: str, name: str) -> Message:
    try:
        return TextMessage(text)
    except UnicodeEncodeError:
        raise UsageError(f'{name}, expected UTF-8: see --binary') from None


def _typed(lines: Iterable[bytes], binary: bool) -> Iterator[Message]:
    """The lines of standard input as messages."""
    for number, line in enumerate(lines, 1):
        if binary:
            yield BinaryMessage(line)
            continue
        try:
            yield TextMessage(line.decode())
        except UnicodeDecodeError:
            raise UsageError(
                f'line {number} of standard input is not UTF-8: see --binary'
            ) from None


def _as_text(data: bytes) -> Message:
    try:
        return TextMessage(data.decode())
    except UnicodeDecodeError:
        return BinaryMessage(data)


def _send_all(
    connection: Connection,
    messages: Iterable[Message],
    receiver: Receiver,
    wait: float | None,
) -> None:
    try:
        for message in messages:
            connection.send(message)
    except SocketClosed:
        receiver.thread.join()  # it tells why
        return
    while not receiver.over and receiver.heard.wait(wait):
        receiver.heard.clear()


def _talk(
    connection: Client, prompt: Prompt, output: Output, receiver: Receiver
) -> None:
    for line in prompt.lines():
        try:
            if receiver.over or not _obey(connection, line, output, receiver):
                return
        except SocketClosed:
            return
        except (OSError, ValueError, WebSocketError) as error:
            output.note(str(error))


def _obey(
    connection: Client, line: str, output: Output, receiver: Receiver
) -> bool:
    """Sends a line, or does what it says. False: that was the last one."""
    command, _, rest = line.partition(' ')
    if line.startswith('//'):
        connection.send(line[1:])
    elif not line.startswith('/'):
        connection.send(line)
    elif command == '/ping':
        connection.ping(rest)
    elif command == '/binary':
        connection.send(bytes.fromhex(rest))
    elif command == '/file':
        connection.send(_as_text(Path(rest).expanduser().read_bytes()))
    elif command == '/close':
        code, _, reason = rest.partition(' ')
        number = int(code or 1000)
        receiver.closing = True
        connection.close(number, reason)
        return False
    elif command == '/help':
        output.help()
    else:
        output.note(f'there is no command {command}: see /help')
    return True
