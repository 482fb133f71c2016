// The server of server_ends.py in Node: prints its port, then what clients
// closed with, in lines of JSON.
'use strict';

const {WebSocketServer} = require('ws');

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  perMessageDeflate: true,
  verifyClient: ({req}, done) =>
    req.url === '/forbidden' ? done(false, 403, 'go away') : done(true),
  handleProtocols: offered =>
    [...offered].find(protocol => protocol === 'superchat') ?? false,
});

const commands = {
  close(socket, [code, ...reason]) {
    socket.close(Number(code), reason.join(' '));
  },
  ping(socket, [payload]) {
    socket.once('pong', data => socket.send(`pong ${data}`));
    socket.ping(payload);
  },
  fragments(socket, parts) {
    parts.forEach((part, index) =>
      socket.send(part, {fin: index === parts.length - 1}));
  },
};

server.on('connection', socket => {
  socket.on('message', (data, binary) => {
    const text = binary ? '' : data.toString();
    if (text.startsWith('!')) {
      const [name, ...rest] = text.slice(1).split(' ');
      commands[name](socket, rest);
    } else {
      socket.send(data, {binary});
    }
  });
  socket.on('close', (code, reason) =>
    console.log(JSON.stringify({code, reason: reason.toString()})));
});
server.on('listening', () =>
  console.log(JSON.stringify({port: server.address().port})));
process.stdin.on('end', () => process.exit(0)).resume();
