"""A proxy: what clients say goes to another server, and back.

python proxy.py URL [PORT]

Each client has a connection of its own to the server behind, with the path
and the query that it asked for. Messages are printed.
"""

import sys
import threading

import twspy


class Proxy(twspy.Server):
    behind = 'ws://127.0.0.1:8001'

    def onopen(self, client):
        url = self.behind.rstrip('/') + client.sock.request.target
        try:
            client.far = twspy.connect(url)
        except (OSError, twspy.WebSocketError) as error:
            print(f'{client}: {error}')
            client.close(twspy.CLOSE_BAD_GATEWAY)
            return
        threading.Thread(target=self.back, args=[client]).start()

    def back(self, client):
        """From the server behind to the client, until one of them ends."""
        try:
            while True:
                message = client.far.recv()
                print(f'{client} < {message}')
                client.send(message)
        except twspy.SocketClosed as end:
            self.end(client, end.code, end.reason)

    def onmessage(self, client, message):
        print(f'{client} > {message}')
        client.far.send(message)

    def onclose(self, client, message):
        if hasattr(client, 'far'):
            self.end(client.far, message.code, message.reason)

    def end(self, connection, code, reason):
        # 1005 and the like are no codes to send (RFC 6455 section 7.4.1).
        unsendable = code in (1004, 1005, 1006, 1015)
        connection.close(1001 if unsendable else code, reason)


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    Proxy.behind = sys.argv[1]
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
    Proxy(('127.0.0.1', port), trusted_origins='same-origin').run()
