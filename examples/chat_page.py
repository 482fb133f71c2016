"""A chat with its page, on one port and in one file.

python chat_page.py [PORT]      then open http://127.0.0.1:8000/ in two tabs

`onrequest` answers the browser's plain requests; what the page sends over its
WebSocket goes to `onmessage`. `python -m twspy.demo` is the same in the large.
"""

import sys

import twspy

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Chat</title>
<form><input autofocus aria-label="Message"><button>Send</button></form>
<ul></ul>
<script>
const socket = new WebSocket(location.href.replace('http', 'ws'));
const input = document.querySelector('input');
socket.onmessage = (event) => {
  const item = document.createElement('li');
  item.textContent = event.data;  // as text: it is no markup
  document.querySelector('ul').prepend(item);
};
document.querySelector('form').onsubmit = (event) => {
  event.preventDefault();
  socket.send(input.value);
  input.value = '';
};
</script>
"""


class ChatPage(twspy.Server):
    def onrequest(self, request):
        if request.path != '/':
            return twspy.Response(404, body='there is only /\n')
        headers = {'Content-Type': 'text/html; charset=utf-8'}
        return twspy.Response(200, headers, PAGE)

    def onopen(self, client):
        self.broadcast(f'{client} has joined')

    def onmessage(self, client, message):
        self.broadcast(f'{client}: {message.payload}')

    def onclose(self, client, message):
        self.broadcast(f'{client} has left')


if __name__ == '__main__':
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    ChatPage(
        ('127.0.0.1', port), trusted_origins='same-origin', max_size=10_000
    ).run()
