"""Echoes with the installed twspy, without TLS and with it.

A program as a user writes it: `make dist` has mypy read it, with the stubs
that were installed, and runs it; so do the builds of wheels.

usage: user.py [--bundled] DIRECTORY

DIRECTORY is where `python -m trustme` has left its files. With --bundled the
OpenSSL of the wheel has to be what is loaded.
"""

import os
import ssl
import sys
from pathlib import Path

import twspy


class Echo(twspy.Server):
    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        client.send(message)


def echo(scheme: str, server: twspy.Server, text: str) -> None:
    assert isinstance(server.address, tuple)
    url = f'{scheme}://localhost:{server.address[1]}/'
    with twspy.connect(url) as connection:
        connection.send(text)
        assert connection.recv(timeout=10).payload == text
    print(f'{scheme}: {text}')


def loaded() -> set[str]:
    """The files that this process has OpenSSL's libcrypto from."""
    maps = Path('/proc/self/maps').read_text(encoding='utf-8')
    return {
        line.split()[-1] for line in maps.splitlines() if 'libcrypto' in line
    }


def main(directory: str, bundled: bool) -> None:
    certfile, keyfile, authority = (
        os.path.join(directory, name)
        for name in ('server.pem', 'server.key', 'client.pem')
    )
    os.environ['SSL_CERT_FILE'] = authority
    files = {'certfile': certfile, 'keyfile': keyfile}
    python = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    python.load_cert_chain(certfile, keyfile)
    with Echo(('localhost', 0)) as server:
        echo('ws', server, 'without TLS')
    with Echo(('localhost', 0), ssl_args=files) as server:
        echo('wss', server, 'both ends are ours')
    with Echo(('localhost', 0), ssl=python) as server:
        echo('wss', server, "one end is Python's ssl")
    print('libcrypto:', *sorted(loaded()))
    if bundled:
        assert any('twspy.libs' in path for path in loaded())


main(sys.argv[-1], '--bundled' in sys.argv)
