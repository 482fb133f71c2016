"""Frames by hand, without Connection: what it does for you, done here.

python low_level.py server [PORT]     prints the frames of one client
python low_level.py client [PORT]     sends a fragmented text with a ping
"""

import sys

import twspy
from twspy import ControlFrame, Frame


def read(sock):
    """Print frames until the peer closes; answer those that want it."""
    while True:
        frame = sock.recv()
        print(frame)
        if frame.opcode == twspy.OPCODE_PING:
            sock.send(ControlFrame(twspy.OPCODE_PONG, frame.payload))
        elif frame.opcode == twspy.OPCODE_CLOSE:
            return frame


def serve(port):
    listener = twspy.websocket(trusted_origins='same-origin')
    listener.bind(('127.0.0.1', port))
    listener.listen()
    print('listening on port', listener.getsockname()[1])
    client, address = listener.accept()
    print('a client from', address)
    client.send(Frame(twspy.OPCODE_TEXT, 'Hello, Client!'))
    client.send(ControlFrame(twspy.OPCODE_CLOSE, read(client).payload))
    client.close()
    listener.close()


def talk(port):
    sock = twspy.websocket(location='/my/path')
    sock.connect(('127.0.0.1', port))
    hello, *rest = Frame(twspy.OPCODE_TEXT, 'Hello, Server!').fragment(8)
    sock.send(hello, ControlFrame(twspy.OPCODE_PING, b'there?'), *rest)
    for _ in range(2):
        print(sock.recv())  # a text and the pong, whichever comes first
    normal = twspy.CloseMessage(twspy.CLOSE_NORMAL, 'that is all')
    sock.send(normal.frame())
    code, reason = read(sock).unpack_close()
    print('closed with', code, reason)
    sock.close()


if __name__ == '__main__':
    if sys.argv[1:2] not in (['server'], ['client']):
        sys.exit(__doc__)
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
    {'server': serve, 'client': talk}[sys.argv[1]](port)
