// What the programs here have in common: stomp.js over each transport, and a way to cut it.

'use strict';

const assert = require('node:assert/strict');
const net = require('node:net');
const { Client } = require('@stomp/stompjs');
const SockJS = require('sockjs-client');

const SECONDS = 30;

// Every TCP connection of this program, so that it can lose them.
const sockets = new Set();
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...where) {
  sockets.add(this);
  this.once('close', () => sockets.delete(this));
  return connect.apply(this, where);
};

/** Loses all connections, as when a network goes away. */
function cut() {
  for (const socket of sockets) socket.destroy();
}

// What a browser has by itself.
globalThis.WebSocket = require('ws');

/** stomp.js over `websocket-native`, or over sockjs-client with this transport and no other. */
function client({ url, token, transport, onConnect }) {
  const used = new Set();
  const overSockJs = () => {
    const socket = new SockJS(`${url}/ws`, null, { transports: [transport] });
    socket.addEventListener('open', () => used.add(socket.transport));
    return socket;
  };
  const made = new Client({
    ...(transport === 'websocket-native'
      ? { brokerURL: `${url.replace('http', 'ws')}/ws` }
      : { webSocketFactory: overSockJs }),
    connectHeaders: { passcode: token },
    reconnectDelay: 100,
    heartbeatIncoming: 10000,
    heartbeatOutgoing: 10000,
    onConnect: () => onConnect(made),
    onStompError: (frame) => fail(`ERROR ${frame.headers.message}: ${frame.body}`),
  });
  made.used = used;
  return made;
}

/** Returns when `condition` holds. */
async function until(condition, what) {
  const deadline = Date.now() + SECONDS * 1000;
  while (!condition()) {
    if (Date.now() > deadline) fail(`waited too long for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

let receipts = 0;

/** Sends a frame by `send(headers)` and returns when its receipt is there. */
async function receipt(stomp, send) {
  const id = `receipt-${++receipts}`;
  let came = false;
  stomp.watchForReceipt(id, () => (came = true));
  send({ receipt: id });
  await until(() => came, `${id} of a frame`);
}

/** Publishes records over REST, while the client is away. */
async function publish(url, token, topic, values) {
  const answer = await fetch(`${url}/api/v1/topics/${topic}/records`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ records: values.map((value) => ({ key: 'k', value })) }),
  });
  assert.equal(answer.status, 200, await answer.text());
}

function fail(why) {
  process.stderr.write(`${why}\n`);
  process.exit(1);
}

module.exports = { assert, client, cut, fail, publish, receipt, until };
