"""What clients answer challenges with, worked out anew from the RFCs.

Shares no code with the package, so that a mistake there does not hide here.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping

HASHES = {'MD5': hashlib.md5, 'SHA-256': hashlib.sha256}


def basic(user: str, password: str) -> str:
    """The Authorization field of Basic (RFC 7617)."""
    text = f'{user}:{password}'.encode()
    return 'Basic ' + base64.b64encode(text).decode()


def challenges(values: list[str]) -> dict[str, dict[str, str]]:
    """WWW-Authenticate fields of Digest, by their algorithm."""
    found = {}
    for value in values:
        scheme, _, rest = value.partition(' ')
        assert scheme == 'Digest', value
        params = {
            name: quoted if quoted else plain
            for name, quoted, plain in re.findall(
                r'([\w*]+)=(?:"([^"]*)"|([^",]+))', rest
            )
        }
        assert ', '.join(rest.split(', ')) == rest
        found[params['algorithm']] = params
    return found


def digest(
    challenge: dict[str, str],
    user: str,
    password: str,
    *,
    uri: str = '/',
    method: str = 'GET',
    nc: str = '00000001',
    cnonce: str | None = None,
    change: Mapping[str, str | None] | None = None,
) -> str:
    """The Authorization field of Digest (RFC 7616 section 3.4); `change`
    replaces parameters once all is computed, or leaves them out (None)."""

    def h(text: str) -> str:
        data = text.encode()
        return HASHES[challenge['algorithm']](data).hexdigest()

    cnonce = cnonce or os.urandom(8).hex()
    nonce, realm = challenge['nonce'], challenge['realm']
    ha1 = h(f'{user}:{realm}:{password}')
    ha2 = h(f'{method}:{uri}')
    params: dict[str, str | None] = {
        'username': f'"{user}"',
        'realm': f'"{realm}"',
        'nonce': f'"{nonce}"',
        'uri': f'"{uri}"',
        'algorithm': challenge['algorithm'],
        'qop': 'auth',
        'nc': nc,
        'cnonce': f'"{cnonce}"',
        'response': f'"{h(f"{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}")}"',
    }
    params.update(change or {})
    return 'Digest ' + ', '.join(
        f'{name}={value}' for name, value in params.items() if value
    )
