"""A chat server: tells every client what any client says, in JSON.

python chat.py [PORT]

A client sends {"name": "Ada", "text": "Hello"}; every client gets the same
with the number of clients. Other messages end the connection with code 1008.
"""

import json
import sys

import twspy


def msg(**data):
    return twspy.TextMessage(json.dumps(data))


class ChatServer(twspy.Server):
    def onmessage(self, client, message):
        try:
            data = json.loads(message.payload)
            name, text = str(data['name']), str(data['text'])
        except (ValueError, TypeError, KeyError):
            client.close(twspy.CLOSE_POLICY, 'expected name and text')
            return
        members = len(self.clients)
        self.broadcast(msg(name=name, text=text, members=members))


if __name__ == '__main__':
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = ChatServer(
        ('127.0.0.1', port), trusted_origins='same-origin', max_size=10_000
    )
    server.run()
