"""What this build is made of, for `twspy --version` and for bug reports."""

from __future__ import annotations

import platform

from .. import _twspy
from .._version import __version__


def version_text() -> str:
    facts = _twspy.build_facts()
    return '\n'.join(
        [
            f'twspy {__version__}',
            f'{platform.python_implementation()} {platform.python_version()}, '
            f'{platform.platform()}',
            facts['openssl'],
            f'zlib {facts["zlib"]}',
            f'masking and UTF-8: {facts["simd"]}',
        ]
    )
