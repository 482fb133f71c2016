"""Single cases of faults, each in a process of its own:

    python tests/faults/cases.py LIBRARY TRUST CERTIFICATE KEY CASE

Ends with status 0 if all went well.
"""

from __future__ import annotations

import errno
import faulthandler
import gc
import io
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import injector as faults
import scenarios
from injector import Injector
from scenarios import PATIENCE, SERVER, TEXT, Echo, Park

import twspy

LIMIT = 40  # seconds
# Of storms; `make faults` has more.
SEEDS = range(1 if os.environ.get('TWSPY_FAULTS_DEPTH', '1') == '1' else 4)

Case = Callable[[Injector, Park], None]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


@contextmanager
def raised(*kinds: type[BaseException]) -> Iterator[list[BaseException]]:
    caught: list[BaseException] = []
    try:
        yield caught
    except kinds as error:
        caught.append(error)
    else:
        raise AssertionError(f'{kinds} was not raised')


def descriptors() -> int:
    return len(os.listdir('/proc/self/fd'))


def echo(client: twspy.Connection, text: str = TEXT) -> None:
    client.send(text)
    answer = client.recv(PATIENCE).payload
    assert answer == text, answer


# Calls of the system ---------------------------------------------------------


@case
def storms(injector: Injector, park: Park) -> None:
    """Calls that move one byte, or are interrupted, change nothing."""
    for kind in (
        faults.ONE_BYTE,
        faults.RANDOM,
        faults.EINTR,
        faults.EAGAIN,
    ):
        names = ['sockets', 'pair']
        names += [f'served-{k}' for k in ('plain', 'tls', 'deflate')]
        names += ['streaming-plain', 'streaming-tls', 'served-digest']
        scenarios.LARGE = bytes(range(256)) * (
            16 if kind == faults.ONE_BYTE else 400
        )
        for name in names:
            for seed in SEEDS:
                with injector.storm(kind, seed):
                    scenarios.SCENARIOS[name](park)
                park.check()


@case
def client_reads_a_reset(injector: Injector, park: Park) -> None:
    for code, text in (
        (errno.ECONNRESET, 'reset'),
        (errno.ETIMEDOUT, 'timed out'),
    ):
        client = park.connect(park.server('plain'), 'plain', max_queue=None)
        echo(client)
        injector.arm_function('recv', times=1, code=code)
        # The server has nothing to read, so it is the client's.
        with raised(twspy.SocketClosed) as caught:
            client.recv(0.5)
        assert injector.disarm() == 1
        assert caught[0].code == 1006, caught
        assert caught[0].errno == code, (caught[0].errno, text)
        client.close()
        park.check()


@case
def websocket_calls_fail(injector: Injector, park: Park) -> None:
    """A websocket raises what the system says."""
    client, server = twspy.pair()
    one, two = client.sock, server.sock
    frame = twspy.Frame(twspy.OPCODE_TEXT, 'text')
    for code, kind in (
        (errno.ENOBUFS, OSError),
        (errno.EPIPE, BrokenPipeError),
        (errno.ECONNRESET, ConnectionResetError),
    ):
        injector.arm_function('send', code=code)
        with raised(OSError) as caught:
            one.send(frame)
        assert injector.disarm() == 1
        said = caught[0].__cause__ or caught[0]
        assert isinstance(said, kind) and said.errno == code, said
        one, two = fresh(one, two)
    injector.arm_function('recv', code=errno.ECONNRESET)
    with raised(OSError) as caught:
        one.recv()
    assert injector.disarm() == 1
    said = caught[0].__cause__ or caught[0]
    assert isinstance(said, ConnectionResetError), said
    one.close()
    two.close()


def fresh(*old: twspy.websocket) -> tuple[twspy.websocket, twspy.websocket]:
    for sock in old:
        sock.close()
    client, server = twspy.pair()
    return client.sock, server.sock


@case
def interrupted_and_not_ready(injector: Injector, park: Park) -> None:
    """EINTR and EAGAIN, a hundred in a row, are waited out."""
    client = park.connect(park.server('plain'), 'plain')
    for name in ('recv', 'send'):
        for code in (errno.EINTR, errno.EAGAIN):
            for skip in range(2):
                injector.arm_function(name, skip, 100, code)
                echo(client)
                assert injector.disarm() > 1, name
    for name in ('poll', 'epoll_wait'):
        injector.arm_function(name, 0, 20, errno.EINTR)
        echo(client)
        injector.disarm()
    client.close()
    park.check()


@case
def no_descriptor_for_accept(injector: Injector, park: Park) -> None:
    """A server that is out of descriptors pauses, says so once, goes on."""
    server = park.server('plain')
    with scenarios.quiet() as log:
        for code in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            injector.arm_function('accept4', times=1, code=code)
            with park.connect(server, 'plain') as client:
                echo(client)
            assert injector.disarm() == 1, code
            park.check()
        assert sum('descriptors' in line or 'accept' in line for line in log)
    for code in (errno.ECONNABORTED, errno.EINTR, errno.EPROTO):
        injector.arm_function('accept4', times=3, code=code)
        with park.connect(server, 'plain') as client:
            echo(client)
        assert injector.disarm() == 3, code
        park.check()


@case
def websocket_accept_without_descriptors(
    injector: Injector, park: Park
) -> None:
    """accept() of a websocket raises, and can be called again."""
    with twspy.websocket() as listener:
        listener.settimeout(PATIENCE)
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        done = threading.Thread(target=_connect_once, args=[listener])
        for code in (errno.EMFILE, errno.ENFILE):
            injector.arm_function('accept4', times=1, code=code)
            with socket.create_connection(listener.getsockname()):
                with raised(OSError) as caught:
                    listener.accept()
            assert caught[0].errno == code, caught
            assert injector.disarm() == 1
        done.start()
        with listener.accept() as end:
            end.send(twspy.Frame(twspy.OPCODE_TEXT, 'ok'))
        done.join()


def _connect_once(listener: twspy.websocket) -> None:
    with twspy.websocket() as sock:
        sock.connect(listener.getsockname())
        assert sock.recv().payload == b'ok'


@case
def no_socket_for_connect(injector: Injector, park: Park) -> None:
    server = park.server('plain')
    before = descriptors()
    for code in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS):
        injector.arm_function('socket', times=10, code=code)
        with raised(OSError) as caught:
            park.connect(server, 'plain')
        assert injector.disarm() >= 1
        assert caught[0].errno == code, repr(caught)
    assert descriptors() == before
    park.check()


@case
def no_room_in_epoll(injector: Injector, park: Park) -> None:
    """The new client is dropped at once, and nobody else."""
    server = park.server('plain')
    for skip in range(3):
        injector.arm_function('epoll_ctl', skip, 1, errno.ENOSPC)
        began = time.monotonic()
        try:
            with park.connect(server, 'plain') as client:
                echo(client)
        except (ConnectionError, OSError) as error:
            assert not isinstance(error, TimeoutError), error
        assert time.monotonic() - began < PATIENCE
        injector.disarm()
        park.check()


@case
def no_descriptor_for_a_loop(injector: Injector, park: Park) -> None:
    """start() raises, and leaves nothing behind."""
    before = descriptors()
    for name in ('epoll_create1', 'eventfd', 'timerfd_create'):
        for code in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            server = Echo(('127.0.0.1', 0), **SERVER)
            injector.arm_function(name, times=10, code=code)
            try:
                server.start()
            except OSError as error:
                assert error.errno == code, error
                assert injector.disarm() >= 1
                server.stop()
            else:  # there is a way without it
                injector.disarm()
                with park.connect(server, 'plain') as client:
                    echo(client)
                server.stop()
            del server
    assert descriptors() == before, (descriptors(), before)


@case
def no_random_bytes(injector: Injector, park: Park) -> None:
    """No key, no frame: and again once there are bytes."""
    injector.arm_function('getrandom', times=1000, code=errno.ENOSYS)
    with raised(OSError):
        client = park.connect(park.server('plain'), 'plain')
        for _ in range(2000):  # what is left of a block of keys
            echo(client)
    assert injector.disarm() >= 1
    park.server('plain')
    with park.connect(park.server('plain'), 'plain') as client:
        echo(client)
    park.check()


@case
def random_bytes_in_pieces(injector: Injector, park: Park) -> None:
    """Keys differ though the system gives but a byte at a time."""
    for code in (faults.SHORT, errno.EINTR):
        injector.arm_function('getrandom', times=100000, code=code)
        if code == errno.EINTR:
            injector.arm_function('getrandom', times=50, code=code)
        client, server = twspy.pair()
        keys = set()
        for _ in range(1000):
            client.sock.send(twspy.Frame(twspy.OPCODE_BINARY, b''))
            keys.add(_key_of(server))
        assert injector.disarm() > 0
        assert len(keys) > 990, len(keys)
        client.sock.close()
        server.sock.close()


def _key_of(server: twspy.Connection) -> bytes:
    """That of the frame that has come."""
    data = socket.socket(fileno=os.dup(server.sock.fileno()))
    with data:
        select.select([data], [], [], PATIENCE)
        return data.recv(6)[2:]


@case
def no_thread(injector: Injector, park: Park) -> None:
    """For a name's look-up, and for a server's watchdog."""
    before = descriptors()
    injector.arm_function('pthread_create', times=1, code=errno.EAGAIN)
    with raised(OSError) as caught:
        twspy.connect('ws://localhost:9/', proxy=None)
    assert caught[0].errno == errno.EAGAIN, repr(caught)
    assert injector.disarm() == 1
    server = Echo(('127.0.0.1', 0), **SERVER)
    injector.arm_function('pthread_create', times=1, code=errno.EAGAIN)
    caught_by_run: list[BaseException] = []
    try:
        server.run()
    except OSError as error:
        caught_by_run.append(error)
    assert injector.disarm() == 1
    assert caught_by_run and caught_by_run[0].errno == errno.EAGAIN
    del server, caught_by_run
    gc.collect()  # tracebacks
    assert descriptors() == before, (descriptors(), before)


def await_thread(number: str) -> None:
    """Of the only server that there is."""
    end = time.monotonic() + PATIENCE
    while not any(t.name.endswith(number) for t in threading.enumerate()):
        assert time.monotonic() < end, f'there is no thread {number}'
        time.sleep(0.001)


@case
def spare_thread_comes_later(injector: Injector, park: Park) -> None:
    """A thread that could not begin is tried again: a slow handler does not
    hold up the others."""
    with injector.recording(faults.MEMORY) as recorded:
        with Echo(('127.0.0.1', 0), **SERVER) as server:
            await_thread('#2')
            with park.connect(server, 'plain') as client:
                echo(client)
    # Both threads have had one: their workers.
    twice = [p for p in recorded if p.name == 'calloc' and p.times == 2]
    assert twice, recorded
    for place in twice:
        release = threading.Event()

        class Slow(Echo):
            def onmessage(
                self,
                client: twspy.Connection,
                message: twspy.Message,
                release: threading.Event = release,
            ) -> None:
                if message.payload == 'slow':
                    release.wait(3 * PATIENCE)
                client.send(message)

        injector.arm(place, skip=1)
        with Slow(('127.0.0.1', 0), **SERVER) as server:
            await_thread('#3')
            assert injector.disarm() == 1
            with (
                park.connect(server, 'plain') as one,
                park.connect(server, 'plain') as two,
            ):
                one.send('slow')
                echo(two, 'quick')
                release.set()
                assert one.recv(PATIENCE).payload == 'slow'


@case
def first_thread_can_not_begin(injector: Injector, park: Park) -> None:
    """run() raises instead of waiting for ever."""
    with injector.recording(faults.MEMORY) as recorded:
        with Echo(('127.0.0.1', 0), max_threads=1, **SERVER):
            pass
    raises = 0
    for place in recorded:
        server = Echo(('127.0.0.1', 0), max_threads=1, **SERVER)
        injector.arm(place)
        served: list[bool] = []

        def look(server: Echo = server, served: list[bool] = served) -> None:
            with suppress(Exception):
                with park.connect(server, 'plain', open_timeout=1) as client:
                    echo(client)
                    served.append(True)
            server.stop()

        other = threading.Timer(0.2, look)
        other.start()
        try:
            server.run()
        except (MemoryError, OSError):
            raises += 1
            with raised(OSError):
                socket.create_connection(server.address, PATIENCE).close()
        else:
            other.join()
            assert served or injector.disarm() == 0, place
        injector.disarm()
        other.join()
    assert raises >= 2, raises


# Extensions ------------------------------------------------------------------


@case
def lost_object_is_told(injector: Injector, park: Park) -> None:
    """A message that an extension has passed, and there is no memory for."""
    errors: list[BaseException] = []

    class Server(Echo):
        def onerror(
            self, client: twspy.Connection | None, error: Exception
        ) -> None:
            errors.append(error)

    options = SERVER | {'extensions': [scenarios.Reverse()]}
    with Server(('127.0.0.1', 0), **options) as server:
        injector.attach_types(twspy._twspy)
        with injector.recording(faults.PYTHON) as places:
            with park.connect(server, 'extension') as client:
                client.send('text')
                client.recv(PATIENCE)
        told = 0
        for place in places:
            errors.clear()
            try:
                with park.connect(server, 'extension') as client:
                    injector.arm(place)
                    client.send('text')
                    client.recv(0.2)
            except TimeoutError:
                # The server has lost it, in a handler or before one.
                assert injector.disarm() == 1
                assert [type(e) for e in errors] == [MemoryError], place
                told += 1
            except (MemoryError, twspy.WebSocketError):
                pass
            injector.disarm()
        assert told > 1


# Logging ---------------------------------------------------------------------


@case
def full_disk(injector: Injector, park: Park) -> None:
    """Whatever a handler of the log does, the server serves."""

    class Raises(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError(errno.ENOSPC, 'no space left')

    logger = logging.getLogger('twspy')
    logger.propagate = False
    logging.raiseExceptions = False
    sys.unraisablehook = lambda hook: None
    threading.excepthook = lambda hook: None
    with park.connect(park.server('plain'), 'plain') as client:
        echo(client)  # the keeper's descriptors are not what is counted
    park.check()
    with (
        open('/dev/full', 'wb', buffering=0) as file,
        io.TextIOWrapper(file, write_through=True) as full,
    ):
        for handler in (logging.StreamHandler(full), Raises()):
            logger.addHandler(handler)
            before = descriptors()
            try:
                server = Echo(('127.0.0.1', 0), **SERVER)
                try:
                    server.start()
                except OSError:  # the program's own handler has raised it
                    assert isinstance(handler, Raises)
                for _ in range(2):
                    with park.connect(server, 'plain') as client:
                        echo(client)
                with socket.create_connection(server.address) as raw:
                    raw.sendall(b'GET / HTTP/1.1\r\nbad\r\n\r\n')
                    assert raw.recv(100).startswith(b'HTTP/1.1 4')
                began = time.monotonic()
                try:
                    server.stop()
                except OSError:
                    assert isinstance(handler, Raises)
                assert time.monotonic() - began < 2.0
                assert 'stopped' in repr(server), server
            finally:
                logger.removeHandler(handler)
            del server
            gc.collect()
            assert descriptors() <= before, handler


# Clocks ----------------------------------------------------------------------


@case
def stepped_clock(injector: Injector, park: Park) -> None:
    """Nothing that waits looks at the time of day."""
    before = injector.clocks_read()
    for step in (-(10**8), 10**8, 3600, -3600):
        injector.step_clock(step)
        for kind in ('plain', 'deflate', 'basic'):
            with park.connect(park.server(kind), kind) as client:
                echo(client)
                injector.step_clock(-step)
                with raised(TimeoutError):
                    client.recv(0.05)
                echo(client)
                injector.step_clock(step)
        with socket.create_connection(park.server('plain').address):
            pass
        park.check()
    assert injector.clocks_read() == before, 'a clock that can be stepped'
    for step in (-(10**8), 10**8, 0):
        injector.step_clock(step)
        for kind in ('tls', 'digest'):
            for _ in range(2):  # the second resumes, and knows the nonce
                with park.connect(park.server(kind), kind) as client:
                    echo(client)
                    if kind == 'tls':
                        found = client.sock.peer_certificate
                        assert found is not None and found.not_after
        park.check()


# Forks -----------------------------------------------------------------------


def fork(child: Callable[[], object]) -> int:
    """The status of a child that ends as a Python program does."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.alarm(int(PATIENCE))
        status = 1
        try:
            child()
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@case
def child_ends(injector: Injector, park: Park) -> None:
    """A child that drops all it has inherited does not hurt the parent."""
    for kind in ('plain', 'tls', 'deflate'):
        server = park.server(kind)
        client = park.connect(server, kind)
        holder = [client]

        def child(server: Echo = server, holder: list[Any] = holder) -> None:
            began = time.monotonic()
            server.stop()
            with raised(RuntimeError):
                server.broadcast('from the child')
            warnings.simplefilter('ignore')  # it is not closed, indeed
            holder.clear()
            park._servers.clear()
            gc.collect()
            assert time.monotonic() - began < 2.0

        del client
        assert fork(child) == 0
        echo(holder[0])
        with holder.pop() as again:
            echo(again, 'once more')
        park.check()


@case
def child_of_a_reader(injector: Injector, park: Park) -> None:
    """Another thread of the parent is in recv() while it forks."""
    for kind in ('plain', 'tls'):
        client = park.connect(park.server(kind), kind)
        holder = [client]
        got: list[twspy.Message] = []

        def read(client: twspy.Connection, got: list[Any] = got) -> None:
            while not got:
                with suppress(twspy.ConcurrencyError):  # of _reads()
                    got.append(client.recv(PATIENCE))

        def child(holder: list[Any] = holder) -> None:
            warnings.simplefilter('ignore')
            # The stack of the reader, which is not here, still has it.
            holder.pop().sock.__del__()  # type: ignore[attr-defined]

        reader = threading.Thread(target=read, args=[client])
        reader.start()
        while not _reads(client):
            time.sleep(0.001)
        del client
        assert fork(child) == 0
        holder[0].send('for the reader')
        reader.join(PATIENCE)
        assert got and got[0].payload == 'for the reader'
        with holder.pop() as client:
            echo(client)
        park.check()


def _reads(client: twspy.Connection) -> bool:
    try:
        client.recv(0)
    except twspy.ConcurrencyError:
        return True
    except TimeoutError:
        return False
    raise AssertionError('there is something to be read')


@case
def child_exits_as_a_program(injector: Injector, park: Park) -> None:
    """With all that Python does at the end."""
    server = park.server('plain')
    client = park.connect(server, 'plain')
    echo(client)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.alarm(int(PATIENCE))
        sys.exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, status
    echo(client)
    client.close()
    park.check()


class Forks(Echo):
    """A handler that forks, and whose child goes its own way."""

    pids: list[int]
    how: str

    def fork(self, client: Any) -> bool:
        sys.stderr.flush()
        pid = os.fork()
        if pid != 0:
            self.pids.append(pid)
            return False
        os.dup2(os.open('/dev/null', os.O_WRONLY), 2)
        signal.alarm(int(PATIENCE))
        if self.how == 'exit':
            sys.exit(7)
        if self.how == 'raise':
            raise ValueError('of the child')
        if self.how == 'send':
            for use in (
                lambda: client.send('from the child'),
                lambda: client.send_ping(),
                lambda: client.recv(0.1),
                lambda: client.close(),
                lambda: client.send_stream(),
                lambda: list(client.recv_stream()),
                lambda: self.broadcast('from the child'),
            ):
                with raised(RuntimeError):
                    with use() or ExitStack():
                        pass
            os._exit(42)
        return True

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        if message.payload != 'fork' or not self.fork(client):
            client.send(message)

    def onrequest(self, request: twspy.Request) -> twspy.Response:
        self.fork(None)
        return twspy.Response(200, body=b'parent')


class ForksEarly(Forks):
    def onhandshake(
        self, client: twspy.Connection, request: twspy.Request
    ) -> None:
        self.fork(client)


@case
def handler_forks(injector: Injector, park: Park) -> None:
    for kind in ('plain', 'tls'):
        for how in ('return', 'exit', 'raise', 'send'):
            for type_ in (Forks, ForksEarly):
                if how == 'send' and type_ is ForksEarly:
                    continue
                server = type_(('127.0.0.1', 0), **park.options(kind))
                server.pids, server.how = [], how
                with server:
                    talk_while_forking(park, server, kind)


def talk_while_forking(park: Park, server: Forks, kind: str) -> None:
    expected = {'send': 42, 'exit': 7}.get(server.how, 1)
    with park.connect(server, kind) as client:
        with park.connect(server, kind) as other:
            for _ in range(2):
                client.send('fork')
                assert client.recv(PATIENCE).payload == 'fork'
                echo(other)
            for _ in range(3):
                echo(client)
            if kind == 'plain' and server.how == 'return':
                with socket.create_connection(server.address) as raw:
                    raw.sendall(b'GET / HTTP/1.1\r\nHost: a\r\n\r\n')
                    answer = b''
                    while part := raw.recv(1000):
                        answer += part
                    assert answer.count(b'parent') == 1, answer
            assert len(server.pids) >= 2
            while server.pids:
                pid = server.pids.pop()
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                assert status == expected, (status, server.how)
            with raised(TimeoutError):
                client.recv(0.05)  # nothing twice
            echo(client)
            echo(other)


def main(
    library: str, cafile: str, certfile: str, keyfile: str, name: str
) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Not dump_traceback_later(): a forked child would wait for its thread.
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(LIMIT)
    injector = Injector(library)
    park = Park(cafile, certfile, keyfile)
    logger = logging.getLogger('twspy')
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    CASES[name](injector, park)
    park.close()
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
