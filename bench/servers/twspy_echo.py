"""Echoes with twspy, as its documentation shows; prints the port.

usage: twspy_echo.py [text|binary]
"""

import logging
import sys

import twspy


class TextEcho(twspy.Server):
    def onmessage(self, client, message):
        client.send(twspy.TextMessage(message.payload))


class BinaryEcho(twspy.Server):
    def onmessage(self, client, message):
        client.send(twspy.BinaryMessage(message.payload))


def main() -> None:
    kind = BinaryEcho if sys.argv[1:] == ['binary'] else TextEcho
    # The load counts messages in flight by number, whatever their size.
    server = kind(('127.0.0.1', 0), loglevel=logging.ERROR, max_size=None)
    print(server.address[1], flush=True)
    server.run()


if __name__ == '__main__':
    main()
