"""A dashboard: what this machine's processor does, as a plot that moves.

python dashboard.py [PORT]      then open http://127.0.0.1:8000/

A thread measures and broadcasts; who connects gets what was measured so far.
"""

import json
import os
import sys
import threading
import time
from collections import deque

import twspy

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Dashboard</title>
<h1>Load: <output>?</output></h1>
<svg viewBox="0 0 120 60" width="600" style="border: 1px solid">
  <polyline fill="none" stroke="green" stroke-width="0.5"></polyline>
</svg>
<script>
const points = [];
const socket = new WebSocket(location.href.replace('http', 'ws'));
socket.onmessage = (event) => {
  points.push(...JSON.parse(event.data));
  points.splice(0, points.length - 120);
  if (!points.length) return;
  const most = Math.max(1, ...points.map((point) => point.load));
  document.querySelector('output').value = points.at(-1).load.toFixed(2);
  document.querySelector('polyline').setAttribute('points', points.map(
    (point, i) => `${i},${60 - point.load / most * 55}`).join(' '));
};
</script>
"""


class Dashboard(twspy.Server):
    def __init__(self, address, **options):
        super().__init__(address, **options)
        self.points = deque(maxlen=120)
        self.lock = threading.Lock()

    def onrequest(self, request):
        headers = {'Content-Type': 'text/html; charset=utf-8'}
        return twspy.Response(200, headers, PAGE)

    def onopen(self, client):
        with self.lock:
            client.send(json.dumps(list(self.points)))

    def measure(self):
        while True:
            point = {'time': time.time(), 'load': os.getloadavg()[0]}
            with self.lock:
                self.points.append(point)
                self.broadcast(json.dumps([point]))
            time.sleep(0.5)


if __name__ == '__main__':
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = Dashboard(('127.0.0.1', port), trusted_origins='same-origin')
    threading.Thread(target=server.measure, daemon=True).start()
    server.run()
