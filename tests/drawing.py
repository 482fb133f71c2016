"""What several of the property tests draw from."""

from __future__ import annotations

from hypothesis import strategies as st
from rawpeer import BINARY, CONTINUATION, PING, PONG, TEXT

DATA = (CONTINUATION, TEXT, BINARY)
CONTROL = (PING, PONG)

# Around the lengths at which the header changes its form (RFC 6455 5.2).
_EDGES = st.sampled_from([0, 1, 2, 3, 4, 7, 8, 15, 16, 125, 126, 127, 128])
_LARGE = st.sampled_from([65535, 65536, 65537])
lengths = st.one_of(_EDGES, st.integers(0, 300), _LARGE)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Bytes of any length that matters, without drawing each of many."""
    length = draw(lengths)
    some = draw(st.binary(min_size=1, max_size=16))
    return (some * (length // len(some) + 1))[:length]


control_payloads = st.binary(max_size=125)
texts = st.text(max_size=60)
codes = st.one_of(
    st.sampled_from([*range(1000, 1004), *range(1007, 1015)]),
    st.integers(3000, 4999),
)
# At most 123 bytes of UTF-8.
reasons = st.text(max_size=30)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]
