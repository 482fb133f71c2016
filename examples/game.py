"""A game's heart: a world that moves 60 times a second, and a page with a
canvas that shows it.

python game.py [PORT]       then open http://127.0.0.1:8000/ in two tabs

A thread moves the world and broadcasts it as binary, two 16 bit numbers for
each player: 4 bytes, where JSON takes 20. Who is too slow misses some pictures
(`broadcast()` skips him), and holds up nobody. Move with the arrow keys.
"""

import struct
import sys
import threading
import time

import twspy

SIZE = 400
SPEED = 200  # pixels a second
RATE = 60  # pictures a second

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Game</title>
<canvas width="410" height="410" style="border: 1px solid"></canvas>
<p>Move with the arrow keys.</p>
<script>
const canvas = document.querySelector('canvas').getContext('2d');
const socket = new WebSocket(location.href.replace('http', 'ws'));
socket.binaryType = 'arraybuffer';
socket.onmessage = (event) => {
  const places = new DataView(event.data);
  canvas.clearRect(0, 0, 410, 410);
  for (let i = 0; i < places.byteLength; i += 4) {
    canvas.fillRect(places.getUint16(i), places.getUint16(i + 2), 10, 10);
  }
};
const keys = new Set();
function tell() {
  socket.send(JSON.stringify({
    x: keys.has('ArrowRight') - keys.has('ArrowLeft'),
    y: keys.has('ArrowDown') - keys.has('ArrowUp'),
  }));
}
document.onkeydown = (event) => { keys.add(event.key); tell(); };
document.onkeyup = (event) => { keys.delete(event.key); tell(); };
</script>
"""


class Game(twspy.Server):
    def onrequest(self, request):
        headers = {'Content-Type': 'text/html; charset=utf-8'}
        return twspy.Response(200, headers, PAGE)

    def onopen(self, client):
        client.place = [SIZE / 2, SIZE / 2]
        client.direction = 0, 0

    def onmessage(self, client, message):
        said = message.json()
        # Whatever a player says: one step in each direction.
        client.direction = tuple(
            max(-1, min(1, float(said[axis]))) for axis in 'xy'
        )

    def move(self, seconds):
        """Move everybody, and return the picture."""
        picture = b''
        for client in self.clients:
            if not hasattr(client, 'place'):
                continue  # it has just come: onopen is still to be called
            for axis, direction in enumerate(client.direction):
                place = client.place[axis] + direction * SPEED * seconds
                client.place[axis] = max(0, min(SIZE, place))
            picture += struct.pack('>HH', *map(int, client.place))
        return picture

    def play(self):
        last = due = time.monotonic()
        while True:
            now = time.monotonic()
            # Where the machine was busy, the world stood still.
            picture = self.move(min(now - last, 0.1))
            self.broadcast(twspy.BinaryMessage(picture))
            last = now
            # By the clock, not by sleeping: so it stays 60 a second.
            due = max(due + 1 / RATE, now)
            time.sleep(due - now)


if __name__ == '__main__':
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    game = Game(
        ('127.0.0.1', port), trusted_origins='same-origin', max_size=1000
    )
    threading.Thread(target=game.play, daemon=True).start()
    game.run()
