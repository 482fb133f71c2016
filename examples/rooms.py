"""Rooms: a message goes to those who are in the same one.

python rooms.py [PORT]

The path of the URL is the room: try `twspy connect ws://127.0.0.1:8000/cats`
in two terminals, and /dogs in a third one.
"""

import sys
import threading
from collections import defaultdict

import twspy


class Rooms(twspy.Server):
    def __init__(self, address, **options):
        super().__init__(address, **options)
        self.rooms = defaultdict(set)
        self.lock = threading.Lock()  # handlers of several clients may run

    def members(self, client):
        """Those who are in the client's room."""
        with self.lock:
            return list(self.rooms[client.sock.location])

    def tell(self, client, text):
        for member in self.members(client):
            try:
                member.send(text, timeout=0)
            except (twspy.SocketClosed, BlockingIOError):
                pass  # it has gone, or reads too slowly to be waited for

    def onopen(self, client):
        with self.lock:
            self.rooms[client.sock.location].add(client)
        self.tell(client, f'{len(self.members(client))} in this room')

    def onmessage(self, client, message):
        self.tell(client, message.payload)

    def onclose(self, client, message):
        with self.lock:
            room = self.rooms[client.sock.location]
            room.discard(client)
            if not room:
                del self.rooms[client.sock.location]


if __name__ == '__main__':
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    Rooms(('127.0.0.1', port), trusted_origins='same-origin').run()
