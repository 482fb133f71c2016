"""A client: sends lines from standard input and prints what comes back.

python echo_client.py [URL]
"""

import sys

import twspy

if __name__ == '__main__':
    url = sys.argv[1] if len(sys.argv) > 1 else 'ws://127.0.0.1:8000/'
    with twspy.connect(url) as connection:
        for line in sys.stdin:
            connection.send(line.rstrip('\n'))
            print(connection.recv(timeout=10).payload)
