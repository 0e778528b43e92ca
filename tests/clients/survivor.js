// Receives a topic's records over SockJS, whatever happens to the server, and says how far it is, a line of JSON each.
// node survivor.js '{"url", "token", "transport", "topic", "until"}'

'use strict';

const { client, fail } = require('./client');

const { url, token, transport, topic, until: last } = JSON.parse(process.argv[2]);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
let connects = 0;
let next = 0;
let position;

const stomp = client({
  url,
  token,
  transport,
  onConnect: (made) => {
    connects += 1;
    made.subscribe(
      `/topic/${topic}`,
      (message) => {
        if (Number(message.headers.offset) !== next) fail(`offset ${message.headers.offset} after ${next - 1}`);
        position = message.headers['message-id'];
        next += 1;
        say({ next, connects });
        if (next === last) made.deactivate().then(() => process.exit(0));
      },
      { receipt: `subscribed-${connects}`, ...(position ? { resume: position } : { offset: 'earliest' }) },
    );
  },
});
stomp.activate();

// Under node sockjs-client does not see the end of a streaming answer that was cut; it sees its next request fail.
setInterval(() => stomp.connected && stomp.publish({ destination: '/topic/nobody', body: '' }), 100);
