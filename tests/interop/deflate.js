// Servers and clients that compress, as lines of JSON on standard input say.
//
// The server takes the options of `perMessageDeflate` from the query of the
// URL, and echoes. {"do": "run"} has a client send messages, compare the
// echoes, and tell how that went in a line of JSON.
//
// Both send every fourth message in fragments, and every fourth as it is.
'use strict';

const http = require('node:http');
const readline = require('node:readline');
const WebSocket = require('ws');

const MAX = 8 << 20;

function sendOne(socket, number, data, binary) {
  const mode = number % 4;
  if (mode === 1) {
    const third = Math.ceil(data.length / 3);
    const parts = [0, 1, 2].map(
      index => data.subarray(index * third, (index + 1) * third));
    parts.forEach((part, index) =>
      socket.send(part, {binary, fin: index === 2, compress: true}));
  } else {
    socket.send(data, {binary, compress: mode !== 2});
  }
}

const http_server = http.createServer();

http_server.on('upgrade', (request, socket, head) => {
  const query = new URL(request.url, 'ws://localhost').search.slice(1);
  const options = JSON.parse(decodeURIComponent(query));
  const server = new WebSocket.Server(
    {noServer: true, maxPayload: MAX, perMessageDeflate: options});
  server.handleUpgrade(request, socket, head, client => {
    let count = 0;
    client.on('message', (data, binary) =>
      sendOne(client, count++, data, binary));
    client.on('error', () => {});
  });
});

function run({url, options, messages}) {
  const expected = messages.map(
    ({text, binary}) => Buffer.from(text ?? binary, text ? 'utf8' : 'base64'));
  const kinds = messages.map(({text}) => text === undefined);
  const result = {extensions: '', echoes: 0, error: null};
  const client = new WebSocket(
    url, {perMessageDeflate: options, maxPayload: MAX});
  client.on('upgrade', ({headers}) => {
    result.extensions = headers['sec-websocket-extensions'] ?? '';
  });
  client.on('open', () => expected.forEach(
    (data, index) => sendOne(client, index, data, kinds[index])));
  client.on('message', (data, binary) => {
    const index = result.echoes++;
    if (binary !== kinds[index] || !data.equals(expected[index]))
      result.error ??= `echo ${index} differs`;
    if (result.echoes === expected.length)
      client.close(1000);
  });
  client.on('error', error => { result.error ??= String(error); });
  client.on('close', code => {
    if (code !== 1000)
      result.error ??= `closed with ${code}`;
    console.log(JSON.stringify(result));
  });
}

readline.createInterface({input: process.stdin})
  .on('line', line => run(JSON.parse(line)))
  .on('close', () => process.exit(0));

http_server.listen(0, '127.0.0.1', () =>
  console.log(JSON.stringify({port: http_server.address().port})));
