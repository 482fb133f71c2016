"""What a server may keep of a password for Digest authentication."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Literal

# Name of the algorithm to its name in hashlib, and the digits of a digest.
_ALGORITHMS = {'SHA-256': ('sha256', 64), 'MD5': ('md5', 32)}
_HEX = re.compile('[0-9a-f]*')


class HA1:
    """The hash of a user's name, realm and password (RFC 7616 section 3.4.2).

    It is what Digest authentication needs of a password, so that the password
    itself need not be kept. It opens the same doors, as far as the realm goes:
    keep it as secret.

    hex        the hash in hexadecimal, as `HA1.of(...).hex` gives it
    algorithm  'SHA-256' or 'MD5', as which it was made

    Raises ValueError for another algorithm, and for what is not its hash.
    """

    __module__ = 'twspy'
    __slots__ = ('__weakref__', '_algorithm', '_hex')

    def __init__(
        self, hex: str, algorithm: Literal['SHA-256', 'MD5'] = 'SHA-256'
    ) -> None:
        _, digits = _look_up(algorithm)
        if not isinstance(hex, str):
            raise TypeError(f'hex must be a str, got {type(hex).__name__}')
        text = hex.lower()
        if len(text) != digits or _HEX.fullmatch(text) is None:
            # Not shown: it may be a password that got here by mistake.
            raise ValueError(
                f'hex must be {digits} hexadecimal digits for {algorithm}, '
                f'got a str of length {len(hex)}'
            )
        self._hex = text
        self._algorithm = algorithm

    @classmethod
    def of(
        cls,
        username: str,
        realm: str,
        password: str,
        algorithm: Literal['SHA-256', 'MD5'] = 'SHA-256',
    ) -> HA1:
        """Hash a password.

        realm: that of the DigestAuth. User name and password are taken in
        UTF-8 and in Unicode's form NFC, as clients do (RFC 7616 section 4).
        """
        name, _ = _look_up(algorithm)
        text = unicodedata.normalize('NFC', f'{username}:{realm}:{password}')
        digest = hashlib.new(name, text.encode(), usedforsecurity=False)
        return cls(digest.hexdigest(), algorithm)

    @property
    def hex(self) -> str:
        """The hash, in lower-case hexadecimal. A secret."""
        return self._hex

    @property
    def algorithm(self) -> Literal['SHA-256', 'MD5']:
        """The name of the algorithm."""
        return self._algorithm

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HA1):
            return NotImplemented
        return (self._hex, self._algorithm) == (other._hex, other._algorithm)

    def __hash__(self) -> int:
        return hash((self._hex, self._algorithm))

    def __repr__(self) -> str:
        return f'<HA1 {self._algorithm}>'


def _look_up(algorithm: str) -> tuple[str, int]:
    """An algorithm's name in hashlib, and the digits of its digests."""
    found = _ALGORITHMS.get(algorithm)
    if found is None:
        raise ValueError(
            f"algorithm must be 'SHA-256' or 'MD5', got {algorithm!r}"
        )
    return found
