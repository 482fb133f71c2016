"""wss: an echo server with a certificate, and a client that checks it.

python tls.py server CERTIFICATE KEY [PORT]
python tls.py client AUTHORITY [URL]

All files are PEM. For a try, a certificate that is its own authority:

openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost \\
    -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem

The server reads its files again on SIGHUP, so that a new certificate takes
effect without a restart.
"""

import signal
import sys

import twspy


class Echo(twspy.Server):
    def onmessage(self, client, message):
        client.send(message)


def serve(certfile, keyfile, port=8443):
    server = Echo(
        ('127.0.0.1', int(port)),
        ssl_args={'certfile': certfile, 'keyfile': keyfile},
        trusted_origins='same-origin',
    )
    signal.signal(signal.SIGHUP, lambda *_: server.reload_certificates())
    server.run()


def talk(cafile, url='wss://localhost:8443/'):
    with twspy.connect(url, ssl_args={'cafile': cafile}) as connection:
        connection.send('Hello, safely!')
        print(connection.recv(timeout=10).payload, connection.sock.version)


if __name__ == '__main__':
    if len(sys.argv) < 3 or sys.argv[1] not in ('server', 'client'):
        sys.exit(__doc__)
    {'server': serve, 'client': talk}[sys.argv[1]](*sys.argv[2:])
