// One client's day: connect, subscribe, send with a receipt, receive, be cut, resume, acknowledge, disconnect.
// node journey.js '{"url", "token", "transport", "topic", "queue"}'

'use strict';

const { assert, client, cut, publish, receipt, until } = require('./client');

const { url, token, transport, topic, queue } = JSON.parse(process.argv[2]);
const TEXTS = ['plain', '50% of %41 %2F %zz', 'caf\u00e9 \u2028\u200d \ud83d\udeeb', 'a NUL \u0000 within', ' a:b\\c\r\n\t'];

(async () => {
  const received = [];
  let last;
  const stomp = client({
    url,
    token,
    transport,
    onConnect: (made) => {
      connects += 1;
      made.subscribe(
        `/topic/${topic}`,
        (message) => {
          received.push(message);
          last = message.headers['message-id'];
        },
        { id: 's', receipt: `subscribed-${connects}`, ...(last ? { resume: last } : {}) },
      );
      made.watchForReceipt(`subscribed-${connects}`, () => (subscribed = connects));
    },
  });
  let connects = 0;
  let subscribed = 0;
  const bodies = () => received.map((message) => message.body);

  stomp.activate();
  await until(() => subscribed === 1, 'the first subscription');
  assert.equal(stomp.connectedVersion, '1.2');

  // Sent with receipts, received as they were sent.
  for (const text of TEXTS) {
    const headers = { key: 'k', 'content-type': 'text/plain', 'x-trace': 'a:b \n c' };
    await receipt(stomp, (asked) =>
      stomp.publish({ destination: `/topic/${topic}`, body: text, headers: { ...headers, ...asked } }),
    );
  }
  await until(() => received.length === TEXTS.length, 'what was sent');
  assert.deepEqual(bodies(), TEXTS);
  assert.equal(received[0].headers['x-trace'], 'a:b \n c');
  assert.equal(received[0].headers.key, 'k');

  // More than a streaming answer of SockJS holds.
  const many = Array.from({ length: 100 }, (_, number) => `${number} ${'x'.repeat(5000)}`);
  for (const text of many) stomp.publish({ destination: `/topic/${topic}`, body: text, headers: { key: 'k' } });
  await until(() => received.length === TEXTS.length + many.length, 'half a megabyte');
  assert.deepEqual(bodies().slice(TEXTS.length), many);

  // Cut three times, while records come; resumed where it was.
  let expected = received.length;
  for (let round = 0; round < 3; round += 1) {
    const before = connects;
    cut();
    const values = Array.from({ length: 10 }, (_, number) => `round ${round} record ${number}`);
    await publish(url, token, topic, values);
    expected += values.length;
    // A session of SockJS outlives a cut between two answers, and under node sockjs-client does not see the end of one
    // that was cut: it sees its next request fail.
    const again = setInterval(() => {
      if (!stomp.connected || connects > before) return;
      cut();
      stomp.publish({ destination: '/topic/nobody', body: '' });
    }, 100);
    await until(() => subscribed > before, 'the subscription after a cut');
    clearInterval(again);
    await until(() => received.length >= expected, 'what came meanwhile');
    assert.deepEqual(bodies().slice(-10), values.map((value) => JSON.stringify(value)));
  }
  const offsets = received.map((message) => Number(message.headers.offset));
  assert.deepEqual(offsets, offsets.map((_, number) => offsets[0] + number), 'no gap and no duplicate');

  // A queue, acknowledged one by one.
  for (const text of ['one', 'two', 'three']) {
    await receipt(stomp, (asked) => stomp.publish({ destination: `/queue/${queue}`, body: text, headers: asked }));
  }
  const taken = [];
  const consumer = stomp.subscribe(`/queue/${queue}`, (message) => taken.push(message), { ack: 'client-individual' });
  await until(() => taken.length === 3, 'three messages');
  assert.deepEqual(taken.map((message) => message.body), ['one', 'two', 'three']);
  taken[0].ack();
  taken[2].ack();
  taken[1].nack({ requeue: 'true' });
  await until(() => taken.length === 4, 'the message that went back');
  assert.equal(taken[3].body, 'two');
  await receipt(stomp, (asked) => taken[3].ack(asked));
  await receipt(stomp, (asked) => consumer.unsubscribe(asked));

  await stomp.deactivate();
  process.stdout.write(`${JSON.stringify({ connects, used: [...stomp.used], received: received.length })}\n`);
  process.exit(0);
})();

process.on('unhandledRejection', (error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
