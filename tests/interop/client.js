// A client that does what lines of JSON on its standard input tell it, and
// tells what happens in lines of JSON.
'use strict';

const readline = require('node:readline');
const WebSocket = require('ws');

let socket = null;

function tell(event, details) {
  console.log(JSON.stringify({event, ...details}));
}

function connect({url, protocols}) {
  socket = new WebSocket(url, protocols);
  socket.on('open', () => tell('open', {protocol: socket.protocol}));
  socket.on('unexpected-response', (request, response) => {
    tell('refused', {status: response.statusCode});
    request.destroy();
  });
  socket.on('message', (data, binary) => tell('message',
    binary ? {binary: data.toString('base64')} : {text: data.toString()}));
  socket.on('pong', data => tell('pong', {payload: data.toString()}));
  socket.on('close', (code, reason) =>
    tell('close', {code, reason: reason.toString()}));
  socket.on('error', error => tell('error', {text: String(error)}));
}

const commands = {
  connect,
  send({text, binary}) {
    socket.send(text ?? Buffer.from(binary, 'base64'));
  },
  fragments({parts}) {
    parts.forEach((part, index) =>
      socket.send(part, {fin: index === parts.length - 1}));
  },
  ping: ({payload}) => socket.ping(payload),
  close: ({code, reason}) => socket.close(code, reason),
};

readline.createInterface({input: process.stdin})
  .on('line', line => {
    const command = JSON.parse(line);
    commands[command.do](command);
  })
  .on('close', () => process.exit(0));
