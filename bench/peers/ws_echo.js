// Echoes with ws; prints the port.
//
// usage: node ws_echo.js [--fanout] [--deflate] [--tls CERTFILE KEYFILE]
'use strict';

const { readFileSync } = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const { WebSocket, WebSocketServer } = require('ws');

const words = process.argv.slice(2);
const tls = words.indexOf('--tls');
const server = tls < 0
  ? http.createServer()
  : https.createServer({
      cert: readFileSync(words[tls + 1]),
      key: readFileSync(words[tls + 2]),
    });
const sockets = new WebSocketServer({
  server,
  maxPayload: 2 ** 31 - 1,
  perMessageDeflate: words.includes('--deflate')
    ? {
        serverMaxWindowBits: 12,
        clientMaxWindowBits: 12,
        zlibDeflateOptions: { memLevel: 5 },
        threshold: 0,
      }
    : false,
});
const fanout = words.includes('--fanout');

sockets.on('connection', (client) => {
  client.on('error', () => {});
  client.on('message', (data, binary) => {
    if (!fanout) {
      client.send(data, { binary });
      return;
    }
    for (const one of sockets.clients) {
      if (one.readyState === WebSocket.OPEN) {
        one.send(data, { binary });
      }
    }
  });
});
server.listen(0, '127.0.0.1', 4096, () => {
  console.log(server.address().port);
});
