"""What a row of the conformance tables is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.roles import End

# The role of our end; its peer is made of plain sockets.
SERVER, CLIENT = 'server', 'client'
BOTH = (SERVER, CLIENT)

# How the peer's bytes arrive.
WHOLE = 'whole'  # what is sent at a time in one piece
BYTES = 'bytes'  # byte by byte
CUTS = 'cuts'  # in two pieces, cut at each offset that matters in turn
JOINED = 'joined'  # what is sent first, in one piece with the opening's end
EVERY = (WHOLE, BYTES, CUTS, JOINED)


@dataclass(frozen=True)
class Row:
    """A requirement and how it is tried.

    id: unique; the first word is the topic.
    section: where it stands, of RFC 6455 unless it names another one.
    requirement: in a few words.
    run: tries it on an end; AssertionError where it does not hold. A list of
        steps for a script, see script.py, or any callable.
    roles: whose requirement it is; `why` says it is not that of both.
    splits: how the peer's bytes arrive; it is tried in each way.
    autobahn: the cases of the Autobahn test suite that it covers.
    options: of our end: `twspy.Server` or `twspy.connect`.
    echo: how our end sends back what it gets: arguments of `send()`.
    """

    id: str
    section: str
    requirement: str
    run: Callable[[End], None]
    roles: tuple[str, ...] = BOTH
    why: str = ''
    splits: tuple[str, ...] = EVERY
    autobahn: str = ''
    options: Mapping[str, Any] = field(default_factory=dict)
    echo: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert bool(self.why) == (self.roles != BOTH), (
            f'{self.id}: a row for one role says why'
        )
