"""Echoes with twspy, as its documentation shows; prints the port.

usage: twspy_echo.py [text|binary] [--fanout] [--deflate] [--spin]
                     [--tls CERTFILE KEYFILE]

With --fanout a message goes to all clients. With --spin a thread computes in
Python all the time.
"""

import argparse
import logging
import threading

import twspy


class TextEcho(twspy.Server):
    def onmessage(self, client, message):
        client.send(twspy.TextMessage(message.payload))


class BinaryEcho(twspy.Server):
    def onmessage(self, client, message):
        client.send(twspy.BinaryMessage(message.payload))


class Fanout(twspy.Server):
    def onmessage(self, client, message):
        self.broadcast(message)


def spin() -> None:
    number = 0
    while True:
        number = (number * 3 + 1) % 1_000_003


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('kind', nargs='?', default='text')
    parser.add_argument('--fanout', action='store_true')
    parser.add_argument('--deflate', action='store_true')
    parser.add_argument('--spin', action='store_true')
    parser.add_argument('--tls', nargs=2, default=[None, None])
    options = parser.parse_args()
    certfile, keyfile = options.tls
    kind = BinaryEcho if options.kind == 'binary' else TextEcho
    # The load counts messages in flight by number, whatever their size.
    server = (Fanout if options.fanout else kind)(
        ('127.0.0.1', 0),
        loglevel=logging.ERROR,
        max_size=None,
        compression=twspy.DeflateMessage(
            server_max_window_bits=12, client_max_window_bits=12, mem_level=5
        )
        if options.deflate
        else None,
        ssl_args={'certfile': certfile, 'keyfile': keyfile}
        if certfile
        else None,
    )
    if options.spin:
        threading.Thread(target=spin, daemon=True).start()
    print(server.address[1], flush=True)
    server.run()


if __name__ == '__main__':
    main()
