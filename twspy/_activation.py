"""Sockets that a service manager has opened: systemd's socket activation."""

from __future__ import annotations

import os
import socket

_FIRST = 3  # SD_LISTEN_FDS_START
_VARIABLES = ('LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID')


def listen_fds() -> list[socket.socket]:
    """Return the sockets that the service manager has passed, in its order.

    This is the protocol of sd_listen_fds(3): descriptors from 3 on, as many
    as `LISTEN_FDS` says, if `LISTEN_PID` is this process. An empty list where
    there are none. The caller owns the sockets; programs that are started
    later inherit neither them nor the variables, which are removed. So a
    second call returns an empty list.

    Raises ValueError where a variable is no number, OSError where a
    descriptor is closed or no socket.
    """
    count = count_passed()
    found: list[socket.socket] = []
    try:
        for number in range(_FIRST, _FIRST + count):
            try:
                os.set_inheritable(number, False)
                found.append(socket.socket(fileno=number))
            except OSError as error:
                raise OSError(
                    error.errno,
                    f'LISTEN_FDS is {count}, but descriptor {number} is '
                    f'unusable: {error.strerror}',
                ) from None
    except BaseException:
        for sock in found:
            sock.detach()
        raise
    for name in _VARIABLES:
        os.environ.pop(name, None)
    return found


def count_passed() -> int:
    """How many there are for this process; the variables stay."""
    process = _number('LISTEN_PID')
    count = _number('LISTEN_FDS')
    return count if process == os.getpid() else 0


def _number(name: str) -> int:
    text = os.environ.get(name, '')
    if text == '':
        return 0
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f'{name} is {text!r}, expected a number')
    return int(text)
