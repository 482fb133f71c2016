"""A client that stays: where the connection ends, it opens the next one.

python reconnecting_client.py [URL]

Start it, then start and stop a server as often as you like. The first message
on each connection tells the server where to go on, so that nothing is missed
or told twice.
"""

import sys

import twspy


def follow(url):
    seen = 0
    for connection in twspy.reconnect(url):
        print(f'connected to {connection}', flush=True)
        try:
            connection.send(f'after {seen}')
            for message in connection:
                seen += 1
                print(message.payload, flush=True)
        except twspy.SocketClosed as error:
            print(error, flush=True)


if __name__ == '__main__':
    try:
        follow(sys.argv[1] if len(sys.argv) > 1 else 'ws://127.0.0.1:8000/')
    except KeyboardInterrupt:
        pass
