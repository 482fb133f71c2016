"""Messages as a person reads them."""

from __future__ import annotations

import json
import re
import sys

from .. import BinaryMessage, Message

_BYTES_SHOWN = 64

# A peer's text must not move the cursor, change colours or type for us: C0
# and C1 controls, what reorders text, and what some terminals take for the
# end of a line (Unicode TR 36).
_CONTROL = re.compile(
    '[\x00-\x08\x0b-\x1f\x7f-\x9f'
    '\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]'
)


def printable(text: str) -> str:
    """The text without a control character but line feeds and tabs."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """The text as one line, without a control character."""
    return printable(text).replace('\n', '\\n')


def complain(text: str, status: int) -> int:
    """Tells standard error why a command ends; returns its exit status."""
    print(f'twspy: {one_line(text)}', file=sys.stderr)
    return status


def hex_text(data: bytes) -> str:
    """Binary data in one line: its size, and its beginning in hexadecimal."""
    shown = data[:_BYTES_SHOWN].hex(' ')
    more = ' ...' if len(data) > _BYTES_SHOWN else ''
    unit = 'byte' if len(data) == 1 else 'bytes'
    return f'<{len(data)} {unit}: {shown}{more}>' if data else '<0 bytes>'


def message_text(message: Message, as_json: bool = False) -> str:
    """A message for a terminal; `as_json` indents a text that is JSON."""
    if isinstance(message, BinaryMessage):
        return hex_text(message.payload)
    text: str = message.payload
    if as_json:
        try:
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            pass  # not JSON, or too deep: shown as it is
    return printable(text)
