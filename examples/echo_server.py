"""An echo server: sends back what it gets.

python echo_server.py [PORT]
"""

import sys

import twspy


class EchoServer(twspy.Server):
    def onopen(self, client):
        print(f'{client} has connected')

    def onmessage(self, client, message):
        client.send(message)

    def onclose(self, client, message):
        print(f'{client} has gone, with code {message.code}')


if __name__ == '__main__':
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    EchoServer(('127.0.0.1', port), trusted_origins='same-origin').run()
