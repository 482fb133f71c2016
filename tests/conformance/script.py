"""The words in which most rows are written, and what runs them.

A script is a list of steps, in order. A frame is sent by the peer; what is
observed of our end says so: `sees(text('hi'))`, `fails(1002)`. Frames that
follow each other are sent at a time. A script that does not say how the
connection ends proves that it lives, and that nothing else was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import rawpeer
from conformance.roles import End
from conformance.table import SERVER
from rawpeer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawFrame

# ------------------------------------------------------------------- sending


@dataclass(frozen=True)
class Frame:
    """A frame, sent by the peer or seen from our end.

    wrong_mask: masked where it must not be, or the other way round.
    length, length_bytes: a lie about the length; a form of 2 or 8 bytes.
    only: how many bytes of it are sent; the rest stays away.
    """

    opcode: int
    payload: bytes = b''
    fin: bool = True
    rsv: int = 0
    wrong_mask: bool = False
    key: bytes | None = None
    length: int | None = None
    length_bytes: int | None = None
    only: int | None = None

    def pack(self, role: str) -> bytes:
        """As the peer of an end sends it."""
        data = rawpeer.pack(
            self.opcode,
            self.payload,
            fin=self.fin,
            rsv=self.rsv,
            mask=(role == SERVER) != self.wrong_mask,
            length=self.length,
            length_bytes=self.length_bytes,
            key=self.key,
        )
        return data if self.only is None else data[: self.only]


def _bytes(payload: str | bytes) -> bytes:
    return payload.encode() if isinstance(payload, str) else payload


def frame(opcode: int, payload: str | bytes = b'', **how: Any) -> Frame:
    return Frame(opcode, _bytes(payload), **how)


def text(payload: str | bytes = b'', **how: Any) -> Frame:
    return frame(TEXT, payload, **how)


def binary(payload: str | bytes = b'', **how: Any) -> Frame:
    return frame(BINARY, payload, **how)


def more(payload: str | bytes = b'', **how: Any) -> Frame:
    """A continuation."""
    return frame(CONTINUATION, payload, **how)


def ping(payload: str | bytes = b'', **how: Any) -> Frame:
    return frame(PING, payload, **how)


def pong(payload: str | bytes = b'', **how: Any) -> Frame:
    return frame(PONG, payload, **how)


def close(
    code: int | None = None, reason: str | bytes = b'', **how: Any
) -> Frame:
    head = b'' if code is None else code.to_bytes(2, 'big')
    return frame(CLOSE, head + _bytes(reason), **how)


def first(payload: str | bytes = b'', opcode: int = TEXT) -> Frame:
    """The first fragment of a message."""
    return frame(opcode, payload, fin=False)


def part(payload: str | bytes = b'', **how: Any) -> Frame:
    """A continuation which is not the last."""
    return frame(CONTINUATION, payload, fin=False, **how)


@dataclass(frozen=True)
class Raw:
    """Bytes that the peer sends as they are."""

    data: bytes

    def pack(self, role: str) -> bytes:
        return self.data


@dataclass(frozen=True)
class Chopped:
    """Frames that the peer sends in pieces of a size, one after the other."""

    frames: tuple[Frame, ...]
    size: int

    def __call__(self, run: Run) -> None:
        data = b''.join(frame.pack(run.end.role) for frame in self.frames)
        run.end.send_chopped(data, self.size)


def chopped(size: int, *frames: Frame) -> Chopped:
    return Chopped(frames, size)


# ----------------------------------------------------------------- observing


@dataclass(frozen=True)
class Seen:
    """These frames come next, in the shortest form, and masked where they
    must be."""

    frames: tuple[Frame, ...]

    def __call__(self, run: Run) -> None:
        for wanted in self.frames:
            check_frame(run.end, run.end.peer.read_frame(), wanted)
            run.echoed += wanted.fin and wanted.opcode < CLOSE


def sees(*frames: Frame) -> Seen:
    return Seen(frames)


def check_frame(end: End, got: RawFrame, wanted: Frame) -> None:
    cut = shorten(got)
    assert got.opcode == wanted.opcode, cut
    if got.payload != wanted.payload:
        raise AssertionError(f'{cut}, not {wanted.payload[:80]!r}')
    assert (got.fin, got.rsv) == (wanted.fin, wanted.rsv), cut
    check_form(end, got)


def check_form(end: End, got: RawFrame) -> None:
    """What holds for each frame (RFC 6455 sections 5.1 and 5.2)."""
    length = len(got.payload)
    form = length if length < 126 else 126 if length < 65536 else 127
    cut = shorten(got)
    assert got.length7 == form, f'{cut}: not the shortest form'
    assert got.masked == (end.role != SERVER), f'{cut}: wrong masking'


def shorten(got: RawFrame) -> RawFrame:
    """For a message: a long payload says nothing."""
    return got._replace(payload=got.payload[:80])


@dataclass(frozen=True)
class FailureSeen:
    """The Close frame of a failure."""

    code: int

    def __call__(self, run: Run) -> RawFrame:
        got = run.end.peer.read_frame()
        assert got.opcode == CLOSE, shorten(got)
        assert got.close_code == self.code, got
        assert got.close_reason, 'the reason says what was wrong'
        check_form(run.end, got)
        return got


def sees_failure(code: int) -> FailureSeen:
    return FailureSeen(code)


@dataclass(frozen=True)
class Failed:
    """Our end fails the connection (RFC 6455 section 7.1.7): a Close frame
    with this code and a reason, and the end of the stream, even though the
    peer answers nothing. The program is told the same, and gets nothing of
    what was wrong."""

    code: int

    def __call__(self, run: Run) -> None:
        end = run.end
        got = sees_failure(self.code)(run)
        end.peer.expect_end()
        end.peer.end()
        told = end.told()
        assert (told.code, told.reason) == (self.code, got.close_reason)
        assert told.ended_by == 'limit', told
        run.check_program()
        run.ended = True


def fails(code: int) -> Failed:
    return Failed(code)


@dataclass(frozen=True)
class Closed:
    """Our end answers a Close frame: with its code, and then the end of the
    stream: by the server, or by the client after the server (RFC 6455 section
    7.1.1). The program is told the code and the reason of the peer."""

    code: int | None
    reason: str

    def __call__(self, run: Run) -> None:
        end = run.end
        got = end.peer.read_frame()
        check_frame(end, got, close(self.code))
        tcp_ends(run)
        told = end.told()
        code = 1005 if self.code is None else self.code
        assert (told.code, told.reason) == (code, self.reason)
        assert told.ended_by == 'peer', told
        run.check_program()
        run.ended = True


def closes(code: int | None = None, reason: str = '') -> Closed:
    return Closed(code, reason)


@dataclass(frozen=True)
class Told:
    """The program is told this, by onclose()."""

    code: int
    reason: str | None
    by: str

    def __call__(self, run: Run) -> None:
        told = run.end.told()
        assert (told.code, told.ended_by) == (self.code, self.by), told
        assert self.reason in (None, told.reason), told
        run.check_program()
        run.ended = True


def told(code: int, reason: str | None = None, *, by: str) -> Told:
    """`reason` is None where it is in words of our own."""
    return Told(code, reason, by)


def stream_ends(run: Run) -> None:
    """Our end ends the TCP stream, and has sent nothing else."""
    run.end.peer.expect_end()


def tcp_ends(run: Run) -> None:
    """After the closing handshake the server ends the TCP stream, then the
    client does (RFC 6455 section 7.1.1). Our end has sent nothing else."""
    if run.end.role != SERVER:
        run.end.peer.end()
    run.end.peer.expect_end()


# -------------------------------------------------------------------- acting


def peer_ends(run: Run) -> None:
    """The peer ends the TCP stream."""
    run.end.peer.end()


def peer_resets(run: Run) -> None:
    """The peer ends the TCP stream by a reset."""
    run.end.wait_until_read()
    run.end.peer.reset()


@dataclass(frozen=True)
class Act:
    """Something that the program does, in a thread of its own."""

    name: str
    args: tuple[object, ...]
    options: tuple[tuple[str, object], ...]

    def __call__(self, run: Run) -> None:
        method = getattr(run.end.connection, self.name)
        run.end.run(lambda: method(*self.args, **dict(self.options)))


def we_close(code: int = 1000, reason: str = '') -> Act:
    return Act('close', (code, reason), ())


def we_send(payload: str | bytes, **how: object) -> Act:
    return Act('send', (payload,), tuple(how.items()))


def we_ping(payload: bytes) -> Act:
    return Act('send_ping', (payload,), ())


# ------------------------------------------------------------------- running

Step = Frame | Raw | Callable[['Run'], object]


@dataclass
class Run:
    """A script on its way."""

    end: End
    ended: bool = False
    echoed: int = 0

    def check_program(self) -> None:
        """The program got what was echoed, and nothing else."""
        received = self.end.program.received
        assert len(received) == self.echoed, received[-1]


@dataclass(frozen=True)
class Script:
    """A `run` for a row."""

    steps: tuple[Step, ...]
    # Fields of the peer's part of the opening handshake.
    opening: Mapping[str, str] = field(default_factory=dict)
    # Whether the connection can be used again.
    lives: bool = field(init=False)

    def __post_init__(self) -> None:
        ends = isinstance(self.steps[-1], ENDINGS)
        object.__setattr__(self, 'lives', not ends)

    def __call__(self, end: End) -> None:
        end.open(**self.opening)
        self.go(end)

    def go(self, end: End) -> None:
        """After the opening."""
        run = Run(end)
        for step in self.bursts(end.role):
            if isinstance(step, bytes):
                end.send(step)
            else:
                end.settle()
                step(run)
        if not run.ended:
            check_lives(end)
            run.check_program()

    def bursts(self, role: str) -> Iterator[bytes | Callable[[Run], object]]:
        """Steps, with all that is sent at a time as bytes."""
        burst: list[bytes] = []
        for step in self.steps:
            if isinstance(step, (Frame, Raw)):
                burst.append(step.pack(role))
                continue
            if burst:
                yield b''.join(burst)
            burst.clear()
            yield step
        if burst:
            yield b''.join(burst)

    def cuts(self, role: str) -> list[int]:
        """The offsets that matter in what the peer sends: each in a header
        and in a short payload, and those around the ends of a long one."""
        found: set[int] = set()
        at = 0
        for step in self.steps:
            if not isinstance(step, (Frame, Raw)):
                continue
            size = len(step.pack(role))
            head = min(size, 18)
            found.update(range(at, at + head))
            if size <= MANY:
                found.update(range(at, at + size))
            else:
                found.update(range(at + size - 3, at + size))
            at += size
        return sorted(found - {0})


# A payload of which not each offset is tried.
MANY = 64
ENDINGS: tuple[type, ...] = (Failed, Closed, Told)


def check_lives(end: End) -> None:
    """Nothing else comes before the answer to a ping."""
    end.peer.send(ping(b'and now?').pack(end.role))
    check_frame(end, end.peer.read_frame(), pong(b'and now?'))
    assert not end.program.closed.is_set()
    assert not end.program.errors, end.program.errors


def script(*steps: Step, **opening: str) -> Script:
    """`opening`: fields of the peer's request or answer."""
    return Script(steps, opening)


@dataclass(frozen=True)
class Variants:
    """A `run` for a row that is several scripts, each on a connection of its
    own."""

    scripts: tuple[Script, ...]

    def __call__(self, end: End) -> None:
        raise NotImplementedError('the scripts are run one by one')


def variants(*scripts: Script) -> Variants:
    return Variants(scripts)
