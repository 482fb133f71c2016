"""Who is it? A page with a password, whose WebSocket has a ticket.

python authentication.py [PORT]     then open http://127.0.0.1:8000/
                                    (user: alice, password: wonderland)

The browser asks for the password of the page (Digest, RFC 7616). The page has
a ticket in it that is good for one WebSocket within a minute. This works in
every browser, and no other site can use it.
"""

import secrets
import sys
import threading
import time

import twspy

PASSWORDS = {'alice': 'wonderland', 'bob': 'builder'}
SECONDS = 60

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Members</title>
<p role="status">connecting ...</p>
<script>
const url = location.origin.replace('http', 'ws') + '/?ticket=TICKET';
new WebSocket(url).onmessage = (event) => {
  document.querySelector('p').textContent = event.data;
};
</script>
"""


class Tickets:
    """Each is good once."""

    def __init__(self):
        self.made = {}
        self.lock = threading.Lock()

    def make(self, user):
        now = time.monotonic()
        ticket = secrets.token_urlsafe()
        with self.lock:
            for old, (_, until) in list(self.made.items()):
                if until < now:
                    del self.made[old]
            self.made[ticket] = user, now + SECONDS
        return ticket

    def take(self, ticket):
        """Whose it is, or None."""
        with self.lock:
            user, until = self.made.pop(ticket, (None, 0))
        return user if time.monotonic() < until else None


class Members(twspy.Server):
    tickets = Tickets()
    asks = twspy.DigestAuth(PASSWORDS.get)

    def onrequest(self, request):
        user = self.asks.authenticate(request)
        if isinstance(user, twspy.Response):
            return user  # 401: the browser shows its dialog
        headers = {
            'Content-Type': 'text/html; charset=utf-8',
            'Cache-Control': 'no-store',
        }
        page = PAGE.replace('TICKET', self.tickets.make(user))
        return twspy.Response(200, headers, page)

    def onhandshake(self, client, request):
        ticket = request.query.removeprefix('ticket=')
        client.user = self.tickets.take(ticket)
        if client.user is None:
            raise twspy.HandshakeError('that ticket is not good', 403)

    def onopen(self, client):
        client.send(f'Hello, {client.user}!')


if __name__ == '__main__':
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    Members(('127.0.0.1', port), trusted_origins='same-origin').run()
