"""Uploads of files of any size, with a progress bar in the page.

python upload.py [PORT [DIRECTORY]]     then open http://127.0.0.1:8000/

A file is one binary message. The handler reads it in pieces as it arrives, so
that a large one takes no memory, and tells the page how far it got.
"""

import sys
import tempfile
from pathlib import Path

import twspy

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Upload</title>
<input type="file"> <progress value="0"></progress> <p role="status"></p>
<script>
const bar = document.querySelector('progress');
document.querySelector('input').onchange = (event) => {
  const file = event.target.files[0];
  const socket = new WebSocket(location.href.replace('http', 'ws'));
  bar.max = file.size;
  socket.onopen = () => socket.send(file);
  socket.onmessage = (event) => {
    const said = JSON.parse(event.data);
    bar.value = said.bytes;
    if (said.name) {
      document.querySelector('p').textContent = 'saved as ' + said.name;
      socket.close();
    }
  };
};
</script>
"""


class Uploads(twspy.Server):
    directory = Path('.')

    def onrequest(self, request):
        headers = {'Content-Type': 'text/html; charset=utf-8'}
        return twspy.Response(200, headers, PAGE)

    def onopen(self, client):
        # We choose the name: the other end's could be `../../.profile`.
        with tempfile.NamedTemporaryFile(
            dir=self.directory, prefix='upload-', delete=False
        ) as file:
            told = 0
            try:
                for piece in client.recv_stream():
                    file.write(piece)
                    if file.tell() - told >= 1 << 18:
                        told = file.tell()
                        client.send(f'{{"bytes": {told}}}')
            except (twspy.SocketClosed, TypeError):
                Path(file.name).unlink()  # it came in part, or is a text
                client.close(twspy.CLOSE_NOACCEPT_DTYPE)
                return
        path = Path(file.name)
        client.send(
            f'{{"bytes": {path.stat().st_size}, "name": "{path.name}"}}'
        )


if __name__ == '__main__':
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    if len(sys.argv) > 2:
        Uploads.directory = Path(sys.argv[2])
    Uploads(
        ('127.0.0.1', port), trusted_origins='same-origin', max_size=None
    ).run()
