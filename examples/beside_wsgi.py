"""WebSockets beside a web framework: Flask, Django, or any other WSGI program.

pip install flask
python beside_wsgi.py [PORT [WEBSOCKET_PORT]]   then open http://127.0.0.1:8000/

Pages and WebSockets have a port each, in one process: so a view may call
`broadcast()`. The page's origin is named, as it is not that of the
WebSocket's port. With Django, `app` is what `get_wsgi_application()` returns;
in production a server such as nginx hands both out on one port.
"""

import sys
import threading
from wsgiref.simple_server import make_server

from flask import Flask, request

import twspy

app = Flask(__name__)

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>News</title>
<form method="post" action="/news" target="nowhere">
  <input name="text" aria-label="News"><button>Tell everybody</button>
</form>
<iframe name="nowhere" hidden></iframe>
<ul></ul>
<script>
new WebSocket('ws://127.0.0.1:PORT/').onmessage = (event) => {
  const item = document.createElement('li');
  item.textContent = event.data;
  document.querySelector('ul').prepend(item);
};
</script>
"""


@app.get('/')
def index():
    return PAGE.replace('PORT', str(app.config['news'].address[1]))


@app.post('/news')
def news():
    app.config['news'].broadcast(request.form['text'])
    return '', 204


if __name__ == '__main__':
    numbers = [int(word) for word in sys.argv[1:]]
    port, socket_port = (*numbers, *(8000, 8001)[len(numbers) :])
    with make_server('127.0.0.1', port, app) as pages:
        origin = f'http://127.0.0.1:{pages.server_port}'
        app.config['news'] = twspy.Server(
            ('127.0.0.1', socket_port), trusted_origins=[origin]
        )
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        print(f'open {origin}/', flush=True)
        app.config['news'].run()  # until Ctrl-C
        pages.shutdown()
