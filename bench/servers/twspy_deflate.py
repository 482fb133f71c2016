"""Echoes with twspy, compressed; prints the port.

usage: twspy_deflate.py none|shared|WINDOW_BITS MEM_LEVEL LEVEL
"""

import logging
import sys

import twspy


class Echo(twspy.Server):
    def onmessage(self, client, message):
        client.send(message)


def main() -> None:
    kind, *numbers = sys.argv[1:]
    deflate = None
    if kind == 'shared':
        deflate = twspy.DeflateMessage(shared=True)
    elif kind != 'none':
        mem_level, level = map(int, numbers)
        deflate = twspy.DeflateMessage(
            server_max_window_bits=int(kind),
            client_max_window_bits=int(kind),
            mem_level=mem_level,
            level=level,
        )
    server = Echo(
        ('127.0.0.1', 0),
        compression=deflate,
        loglevel=logging.ERROR,
        ping_interval=None,
    )
    print(server.address[1], flush=True)
    server.run()


if __name__ == '__main__':
    main()
