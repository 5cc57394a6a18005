// The Node client's suite: `interop.js NAMESRV PREFIX FEATURE…` prints one line `RESULT⇥feature⇥ok|FAIL|n/a⇥reason` each.
'use strict';

const crypto = require('crypto');
const { Producer, Consumer, Message } = require('ali-ons');

const LIMIT_MS = 100_000;
const AT_ONCE = 4;
const ROUTE_MS = 1_000; // an auto-created topic reaches the name server shortly after its first acknowledgement
const QUEUES = 4; // this producer goes round them
const [namesrv, prefix, ...features] = process.argv.slice(2);
const NOT_APPLICABLE = {
  'send-oneway': 'every send of this client awaits its answer',
  'send-batch': 'not in this client',
  suspend: 'not in this client',
  'consume-directly': 'not in this client',
  'dead-letter': 'not in this client: it drops the message itself after maxReconsumeTimes',
};

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
const checksum = text => crypto.createHash('md5').update(text).digest('hex').slice(0, 8);
const check = (holds, otherwise) => { if (!holds) throw new Error(otherwise); };

// Carries its own checksum: `name:filler:checksum`.
function body(name, filler) {
  const text = `${name}:${crypto.createHash('sha512').update(name).digest('hex').repeat(2).slice(0, filler)}`;
  return `${text}:${checksum(text)}`;
}

function intact(text) {
  const colon = text.lastIndexOf(':');
  return checksum(text.slice(0, colon)) === text.slice(colon + 1);
}

class Inbox {
  constructor() { this.messages = []; }

  add(message) {
    const { topic, tags, keys, properties, queueId, reconsumeTimes } = message;
    const bytes = message.body || Buffer.alloc(0);
    this.messages.push({ at: Date.now(), topic, tags, keys, properties, queueId, reconsumeTimes, bytes, text: bytes.toString() });
  }

  async atLeast(count, patienceMs = 60_000) {
    for (const end = Date.now() + patienceMs; this.messages.length < count; await sleep(10)) {
      check(Date.now() < end, `after ${patienceMs} ms ${this.messages.length} of ${count} messages`);
    }
  }

  // These bodies, intact, each once, and nothing else within a second.
  async exactly(bodies) {
    await this.atLeast(bodies.length);
    await sleep(1_000);
    const seen = new Map();
    for (const { text } of this.messages) {
      check(intact(text), `a body arrived changed: ${text.slice(0, 40)}`);
      seen.set(text, (seen.get(text) || 0) + 1);
    }
    for (const text of bodies) check(seen.get(text) === 1, `arrived ${seen.get(text) || 0} times: ${text.slice(0, 40)}`);
    check(seen.size === bodies.length, `${seen.size} bodies instead of ${bodies.length}`);
  }
}

class Stage {
  constructor(feature) {
    this.topic = `${prefix}-${feature}`;
    this.clients = 0;
    this.closers = [];
    this.errors = [];
  }

  group(suffix) { return `${this.topic}-${suffix}`; }

  options(more) {
    const logger = { info() {}, debug() {}, warn() {}, error: e => this.errors.push(e) };
    return { nameSrv: namesrv, httpclient: {}, logger, instanceName: `${this.topic}-${this.clients++}`, sendMsgTimeout: 15_000, ...more };
  }

  async producer(more) {
    const producer = new Producer(this.options({ producerGroup: this.group('p'), ...more }));
    producer.on('error', e => this.errors.push(e));
    await producer.ready();
    // For an unknown topic this client throws before its own code that would fall back on the template topic's route
    // (a missing `break`); that code is called here, so that topics are created by sending as with every other client.
    await producer._mqClient.updateTopicRouteInfoFromNameServer(this.topic, true, producer);
    this.closers.push(() => producer.close());
    return producer;
  }

  consumer(group, expression, inbox, more = {}, handler = async message => inbox.add(message)) {
    const consumer = new Consumer(this.options({ consumerGroup: group, consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET', ...more }));
    consumer.on('error', e => this.errors.push(e));
    consumer.subscribe(this.topic, expression, handler);
    this.closers.push(() => consumer.close());
    return consumer;
  }

  async send(producer, tag, from, count) {
    const sent = [];
    for (let i = from; i < from + count; i++) {
      sent.push(body(`${tag}${i}`, 64));
      const result = await producer.send(new Message(this.topic, tag, sent.at(-1)));
      check(result.sendStatus === 'SEND_OK', `status ${result.sendStatus}`);
    }
    return sent;
  }

  async expect(bodies) {
    await sleep(ROUTE_MS);
    const inbox = new Inbox();
    this.consumer(this.group(`expect${this.clients}`), '*', inbox);
    await inbox.exactly(bodies);
  }

  close() {
    for (const closer of this.closers) closer().catch(() => {});
  }
}

const scenarios = {
  // ---- sending

  async 'send-sync'(s) {
    const producer = await s.producer();
    const sent = [];
    const next = {};
    for (let i = 0; i < 40; i++) {
      sent.push(body(`sync${i}`, 100));
      const { sendStatus, msgId, queueOffset, messageQueue } = await producer.send(new Message(s.topic, sent.at(-1)));
      check(sendStatus === 'SEND_OK' && msgId.length === 32, `status ${sendStatus}, id ${msgId}`);
      check(queueOffset === (next[messageQueue.queueId] || 0), `queue offset ${queueOffset} instead of ${next[messageQueue.queueId]}`);
      next[messageQueue.queueId] = queueOffset + 1;
    }
    await s.expect(sent);
  },

  async 'send-async'(s) {
    const producer = await s.producer();
    const sent = await s.send(producer, 'first', 0, 1);
    const more = Array.from({ length: 100 }, (_, i) => body(`async${i}`, 100));
    await Promise.all(more.map(text => producer.send(new Message(s.topic, text))));
    await s.expect(sent.concat(more));
  },

  // ---- consuming

  async 'consume-1000'(s) {
    const producer = await s.producer();
    const sent = await s.send(producer, 'first', 0, 1);
    await sleep(ROUTE_MS);
    const inboxes = [new Inbox(), new Inbox()];
    inboxes.forEach((inbox, i) => s.consumer(s.group(`c${i}`), '*', inbox, { parallelConsumeLimit: 16 }));
    sent.push(...await s.send(producer, 'n', 0, 999));
    for (const inbox of inboxes) await inbox.exactly(sent);
  },

  // A waiting consumer gets a message when it arrives, not when a five-second scan finds it.
  async live(s) {
    const producer = await s.producer();
    await s.send(producer, 'first', 0, 8);
    await sleep(ROUTE_MS);
    const inbox = new Inbox();
    s.consumer(s.group('c'), '*', inbox);
    await inbox.atLeast(8);
    for (let i = 0; i < 8; i++) {
      await sleep(300);
      const start = Date.now();
      await s.send(producer, 'live', i, 1);
      await inbox.atLeast(9 + i, 10_000);
      check(Date.now() - start < 3_000, `a waiting consumer got the message after ${Date.now() - start} ms`);
    }
  },

  tags: s => tags(s, 'a', 'b', 'c'),
  'unicode-tags': s => tags(s, '标签', 'тег', 'étiquette'),

  async order(s) {
    const producer = await s.producer();
    const sent = [];
    for (let i = 0; i < 50; i++) {
      for (let key = 0; key < 8; key++) {
        sent.push(body(`${key}/${i}`, 20));
        const message = new Message(s.topic, sent.at(-1));
        message.shardingKey = `key${key}`;
        await producer.send(message);
      }
    }
    await sleep(ROUTE_MS);
    const inbox = new Inbox();
    s.consumer(s.group('c'), '*', inbox); // one message at a time is this client's default
    await inbox.exactly(sent);
    const due = {};
    const queue = {};
    for (const { text, queueId } of inbox.messages) {
      const [key, i] = text.split(':')[0].split('/').map(Number);
      check((due[key] || 0) === i, `key ${key}: message ${i} came when ${due[key] || 0} was due`);
      check((queue[key] ?? queueId) === queueId, `key ${key} came from two queues`);
      due[key] = i + 1;
      queue[key] = queueId;
    }
  },

  rebalance: s => rebalance(s, false),
  'rebalance-leave': s => rebalance(s, true),

  async 'offsets-restart'(s) {
    const producer = await s.producer();
    const first = await s.send(producer, 'first', 0, 100);
    await sleep(ROUTE_MS);
    const before = new Inbox();
    const after = new Inbox();
    const consumer = s.consumer(s.group('c'), '*', before);
    await before.exactly(first);
    await consumer.close();
    const second = await s.send(producer, 'second', 0, 100);
    s.consumer(s.group('c'), '*', after);
    await after.exactly(second);
  },

  async bodies(s) {
    const plain = await s.producer({ compressMsgBodyOverHowmuch: 1 << 30 });
    const compressing = await s.producer();
    const margin = 4 * 1024;
    const sent = new Map();
    for (const size of [1, 1024, 256 * 1024, 4 * 1024 * 1024 - margin]) {
      const bytes = crypto.randomBytes(size);
      sent.set(size, bytes);
      await plain.send(new Message(s.topic, Buffer.from(bytes)));
    }
    const zeros = Buffer.alloc(300_000); // travels compressed
    sent.set(zeros.length, zeros);
    await compressing.send(new Message(s.topic, Buffer.from(zeros)));
    await sleep(ROUTE_MS);
    const inbox = new Inbox();
    s.consumer(s.group('c'), '*', inbox);
    await inbox.atLeast(sent.size);
    for (const { bytes } of inbox.messages) {
      check(sent.has(bytes.length) && bytes.equals(sent.get(bytes.length)), `a body of ${bytes.length} bytes arrived changed or twice`);
      sent.delete(bytes.length);
    }
  },

  async 'body-empty'(s) {
    const producer = await s.producer();
    await producer.send(new Message(s.topic, 'empty', Buffer.alloc(0)));
    await sleep(ROUTE_MS);
    const inbox = new Inbox();
    s.consumer(s.group('c'), '*', inbox);
    await inbox.atLeast(1);
    check(inbox.messages[0].bytes.length === 0 && inbox.messages[0].tags === 'empty', JSON.stringify(inbox.messages[0]));
  },

  async unicode(s) {
    const producer = await s.producer();
    const message = new Message(s.topic, 'тег', 'héllo 消息 😀');
    message.keys = ['ключ-1', 'キー二'];
    message.properties['属性'] = 'значение 😀';
    await producer.send(message);
    await sleep(ROUTE_MS);
    const inbox = new Inbox();
    s.consumer(s.group('c'), '*', inbox);
    await inbox.atLeast(1);
    const { text, tags, keys, properties } = inbox.messages[0];
    const got = JSON.stringify([text, tags, keys, properties['属性']]);
    check(got === JSON.stringify(['héllo 消息 😀', 'тег', 'ключ-1 キー二', 'значение 😀']), got);
  },

  async 'too-large'(s) {
    const producer = await s.producer({ compressMsgBodyOverHowmuch: 1 << 30 });
    const sent = await s.send(producer, 'before', 0, 1);
    const refused = await producer.send(new Message(s.topic, Buffer.alloc(5 << 20))).catch(e => e);
    check(refused instanceof Error, `the broker took 5 MiB: ${JSON.stringify(refused)}`);
    check(refused.code === 13, `refused with code ${refused.code}: ${refused.message}`);
    sent.push(...await s.send(producer, 'after', 0, 10));
    await s.expect(sent);
  },

  async 'auto-topic'(s) {
    const producer = await s.producer({ defaultTopicQueueNums: 3 });
    const sent = [];
    const queues = new Set();
    for (let i = 0; i < 12; i++) {
      sent.push(body(`n${i}`, 64));
      queues.add((await producer.send(new Message(s.topic, sent.at(-1)))).messageQueue.queueId);
    }
    check(queues.size === 3, `${queues.size} queues instead of the 3 asked for`);
    await s.expect(sent);
  },

  async 'from-first'(s) {
    const producer = await s.producer();
    const sent = await s.send(producer, 'early', 0, 50);
    await sleep(ROUTE_MS);
    const inbox = new Inbox();
    s.consumer(s.group('late'), '*', inbox);
    await inbox.atLeast(50);
    sent.push(...await s.send(producer, 'later', 0, 50));
    await inbox.exactly(sent);
  },

  async broadcast(s) {
    const producer = await s.producer();
    const sent = await s.send(producer, 'n', 0, 50);
    await sleep(ROUTE_MS);
    const inboxes = [new Inbox(), new Inbox()];
    for (const inbox of inboxes) s.consumer(s.group('c'), '*', inbox, { isBroadcast: true });
    for (const inbox of inboxes) await inbox.exactly(sent);
  },

  // ---- second tier

  async 'from-last'(s) {
    const producer = await early(s);
    const inbox = new Inbox();
    s.consumer(s.group('late'), '*', inbox, { consumeFromWhere: 'CONSUME_FROM_LAST_OFFSET' });
    // What comes before the group looked at a queue is skipped with the rest.
    const read = () => new Set(inbox.messages.map(({ queueId }) => queueId)).size;
    for (const end = Date.now() + 60_000; read() < QUEUES; await sleep(200)) {
      check(Date.now() < end, `read from ${read()} queues alone`);
      await s.send(producer, `hello${Date.now()}-`, 0, QUEUES);
    }
    const later = await s.send(producer, 'later', 0, 40);
    const named = start => inbox.messages.filter(({ text }) => text.startsWith(start));
    for (const end = Date.now() + 30_000; named('later').length < later.length && Date.now() < end;) await sleep(50);
    await sleep(1_000);
    const counted = new Inbox();
    counted.messages = named('later');
    await counted.exactly(later);
    check(named('early').length === 0, `${named('early').length} messages from before the group was`);
  },

  async 'from-timestamp'(s) {
    const producer = await early(s);
    const second = (Math.floor(Date.now() / 1000) + 1) * 1000; // a client names whole seconds
    await sleep(second + 100 - Date.now());
    const later = await s.send(producer, 'later', 0, 40);
    const inbox = new Inbox();
    const local = new Date(second - 60_000 * new Date(second).getTimezoneOffset()).toISOString();
    const consumeTimestamp = local.slice(0, 19).replace(/\D/g, '');
    s.consumer(s.group('late'), '*', inbox, { consumeFromWhere: 'CONSUME_FROM_TIMESTAMP', consumeTimestamp });
    await inbox.exactly(later);
  },

  async retry(s) {
    const producer = await s.producer();
    const sent = await s.send(producer, 'n', 0, 3);
    await sleep(ROUTE_MS);
    const inbox = new Inbox();
    s.consumer(s.group('c'), '*', inbox, {}, async message => {
      inbox.add(message);
      return message.reconsumeTimes < 1 ? Consumer.ACTION_RETRY : undefined;
    });
    await inbox.atLeast(6, 90_000);
    await sleep(1_000);
    for (const text of sent) {
      const times = inbox.messages.filter(message => message.text === text).map(message => message.reconsumeTimes).join();
      check(times === '0,1', `reconsume times ${times}`);
    }
  },

  async delay(s) {
    const producer = await s.producer();
    const sent = await s.send(producer, 'first', 0, 1);
    await sleep(ROUTE_MS);
    const inbox = new Inbox();
    s.consumer(s.group('c'), '*', inbox);
    await inbox.atLeast(1);
    const due = new Map();
    for (let i = 0; i < 10; i++) {
      const message = new Message(s.topic, body(`delayed${i}`, 20));
      message.delayTimeLevel = 1;
      due.set(message.body.toString(), Date.now() + 1_000);
      await producer.send(message);
    }
    await inbox.exactly(sent.concat([...due.keys()]));
    for (const { at, text } of inbox.messages.slice(1)) {
      check(at >= due.get(text) - 2 && at < due.get(text) + 5_000, `late by ${at - due.get(text)} ms`);
    }
  },

  async sql92(s) {
    const producer = await s.producer();
    const wanted = [];
    for (let i = 0; i < 40; i++) {
      const message = new Message(s.topic, 'tag', body(`n${i}`, 20));
      Object.assign(message.properties, { n: `${i}`, colour: i % 4 ? 'blue' : 'red' });
      await producer.send(message);
      if (i > 9 && i % 4 === 0) wanted.push(message.body.toString());
    }
    await sleep(ROUTE_MS);
    const inbox = new Inbox();
    s.consumer(s.group('c'), { expressionType: 'SQL92', subString: "n > 9 AND colour = 'red' AND TAGS IS NOT NULL" }, inbox);
    await inbox.exactly(wanted);
  },
};

async function tags(s, one, other, unwanted) {
  const producer = await s.producer();
  const wanted = await s.send(producer, one, 0, 30);
  await s.send(producer, unwanted, 0, 30);
  wanted.push(...await s.send(producer, other, 0, 30));
  await sleep(ROUTE_MS);
  const inbox = new Inbox();
  s.consumer(s.group('c'), `${one} || ${other}`, inbox);
  await inbox.exactly(wanted);
}

// Forty messages that the queues know of: one that looks empty begins at 0 whatever was asked.
async function early(s) {
  const producer = await s.producer();
  await s.expect(await s.send(producer, 'early', 0, 40));
  return producer;
}

async function rebalance(s, leave) {
  const producer = await s.producer();
  await s.send(producer, 'first', 0, 1);
  await sleep(ROUTE_MS);
  const inboxes = [new Inbox(), new Inbox()];
  const consumers = inboxes.map(inbox => s.consumer(s.group('c'), '*', inbox));

  // Rounds that touch every queue, since this producer goes round, until a whole round arrived and everyone got a part of it.
  async function spread(name) {
    for (const end = Date.now() + 80_000; Date.now() < end;) {
      const round = new Set(await s.send(producer, `${name}${Date.now()}-`, 0, QUEUES));
      await sleep(1_000);
      const shares = inboxes.map(inbox => inbox.messages.filter(({ text }) => round.has(text)).length);
      for (const inbox of inboxes) inbox.messages.forEach(({ text }) => round.delete(text));
      if (round.size === 0 && shares.every(share => share > 0)) return;
    }
    throw new Error(`after 80 s the queues are not spread over ${inboxes.length} consumers`);
  }

  await spread('settle');
  if (leave) {
    await consumers.shift().close();
    inboxes.shift();
    await spread('left');
  }
  // From here on nobody comes or goes: each message exactly once.
  const sent = await s.send(producer, 'steady', 0, 200);
  const together = new Inbox();
  const steady = () => inboxes.flatMap(inbox => inbox.messages.filter(({ text }) => text.startsWith('steady')));
  for (const end = Date.now() + 30_000; steady().length < sent.length && Date.now() < end;) await sleep(100);
  await sleep(1_000);
  together.messages = steady();
  await together.exactly(sent);
  check(new Set(together.messages.map(({ queueId }) => queueId)).size === QUEUES, 'not all queues covered');
}

async function play(feature) {
  const start = Date.now();
  let verdict = `n/a\t${NOT_APPLICABLE[feature] || 'not in this client'}`;
  if (scenarios[feature]) {
    const stage = new Stage(feature);
    let bell;
    const late = new Promise((_, reject) => { bell = setTimeout(() => reject(new Error(`not finished after ${LIMIT_MS} ms`)), LIMIT_MS); });
    try {
      await Promise.race([scenarios[feature](stage), late]);
      verdict = 'ok\t';
    } catch (e) {
      console.log(feature, e.stack, ...stage.errors.slice(0, 3).map(String));
      verdict = `FAIL\t${e.message.replace(/\s+/g, ' ')}`;
    }
    clearTimeout(bell);
    stage.close();
  }
  console.log(`RESULT\t${feature}\t${verdict}\t${Date.now() - start}`);
}

process.on('unhandledRejection', e => console.log('unhandled:', String(e)));

(async () => {
  const queue = [...features];
  const player = async () => { while (queue.length) await play(queue.shift()); };
  await Promise.all(Array.from({ length: AT_ONCE }, player));
  process.exit(0); // the client's own timers must not keep the process
})();
