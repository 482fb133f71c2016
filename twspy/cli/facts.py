"""What this build is made of, for `twspy --version` and for bug reports."""

from __future__ import annotations

import platform

from .. import _twspy
from .._version import __version__


def version_text() -> str:
    """The version and the facts, one a line."""
    facts = _twspy.build_facts()
    return '\n'.join(
        [
            f'twspy {__version__}',
            f'{platform.python_implementation()} {platform.python_version()}, '
            f'{platform.platform()}',
            f'{facts["openssl"]} (built with {facts["openssl_built"]})',
            f'zlib {facts["zlib"]} (built with {facts["zlib_built"]})',
            f'SIMD: {facts["simd"]}, for UTF-8: {facts["simd_utf8"]}',
            f'compiler: {facts["compiler"]}',
        ]
    )
