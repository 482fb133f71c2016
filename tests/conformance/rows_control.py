"""Control frames (RFC 6455 section 5.5)."""

from conformance.script import (
    close,
    closes,
    fails,
    first,
    more,
    ping,
    pong,
    script,
    sees,
    text,
)
from conformance.table import Row

ROWS = [
    Row(
        'ping-empty',
        '5.5.2',
        'a Ping without payload is answered by a Pong without',
        script(ping(), sees(pong())),
        autobahn='2.1',
    ),
    Row(
        'ping-between-fragments',
        '5.4',
        'control frames pass between fragments',
        script(
            first('Hel'),
            ping(b'now'),
            sees(pong(b'now')),
            more('lo'),
            sees(text('Hello')),
        ),
        autobahn='5.6-5.8',
    ),
    Row(
        'ping-too-long',
        '5.5',
        'a control frame has at most 125 bytes',
        script(ping(b'x' * 126), fails(1002)),
        autobahn='2.5',
    ),
    Row(
        'close-answered',
        '5.5.1',
        'a Close frame is answered with its code',
        script(close(1000, 'bye'), closes(1000, 'bye')),
        autobahn='7.1.1',
    ),
]
