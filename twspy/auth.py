"""HTTP authentication of the opening handshake, on the server's side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from ._ha1 import HA1
from ._twspy import Auth as _Auth

__all__ = ['HA1', 'BasicAuth', 'DigestAuth']


class BasicAuth(_Auth):
    """Ask clients for a user name and a password (RFC 7617).

    For the `auth` of a `Server` or a listening `websocket`. The password
    travels as it is: without TLS everybody on the way can read it.

    check  called as `check(username, password)`, both str, with what a client
           sent; returns whether it may come in
    realm  what the password is for, as a browser's dialog shows it; printable
           ASCII without quotes and backslashes

    A server calls `check` as a handler: on its threads, for several clients at
    a time, and others are served while it takes its time. What it raises goes
    to the server's `onerror`, and the client gets 500. Compare secrets with
    `hmac.compare_digest()`, which takes as long for a wrong one as for a right
    one, and take the same time for users that do not exist.

    Raises TypeError and ValueError that name the argument.
    """

    __module__ = 'twspy'

    def __init__(
        self, check: Callable[[str, str], object], realm: str = 'twspy'
    ) -> None:
        super().__init__(check, realm)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} realm={self.realm!r}>'


class DigestAuth(_Auth):
    """Ask clients to prove that they know a password (RFC 7616, qop=auth).

    For the `auth` of a `Server` or a listening `websocket`. The password does
    not travel, but what does can be used to guess it: TLS protects that, too.

    password_of     called as `password_of(username)` with a str; returns the
                    password, a str, or an HA1, its hash, or None where there
                    is no such user. Threads and errors as with BasicAuth;
                    anything else is a TypeError to `onerror`
    realm           what the password is for, as in BasicAuth; a part of each
                    HA1
    algorithms      which of 'SHA-256' and 'MD5' to offer, the best first. MD5
                    is for clients that know nothing else. With HA1, those
                    that they were made for
    nonce_lifetime  seconds that a challenge can be answered for; None: no
                    limit. Later answers are asked for anew (stale), which
                    clients do without asking their user

    Credentials are good once: a copy of them is refused. For that, the last
    4096 challenges that were answered are remembered, in the workers of
    `Server.run(workers=N)` together, as long as this object was made before
    they were forked.

    Raises TypeError and ValueError that name the argument.
    """

    __module__ = 'twspy'

    def __init__(
        self,
        password_of: Callable[[str], str | HA1 | None],
        realm: str = 'twspy',
        *,
        algorithms: Iterable[Literal['SHA-256', 'MD5']] = ('SHA-256', 'MD5'),
        nonce_lifetime: float | None = 300.0,
    ) -> None:
        if isinstance(algorithms, str):
            raise TypeError(
                f'algorithms is the str {algorithms!r}, expected a tuple such '
                "as ('SHA-256', 'MD5')"
            )
        self._algorithms = tuple(algorithms)
        if not self._algorithms:
            raise ValueError(
                "algorithms is empty, expected 'SHA-256', 'MD5' or both"
            )
        super().__init__(password_of, realm, self._algorithms, nonce_lifetime)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms that are offered, in order."""
        return self._algorithms

    def __repr__(self) -> str:
        return (
            f'<{type(self).__name__} realm={self.realm!r} '
            f'algorithms={self._algorithms!r}>'
        )
