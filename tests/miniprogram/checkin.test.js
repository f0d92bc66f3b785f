import assert from 'node:assert/strict';
import { test } from 'node:test';
import { body, inMemoryStorage, launch, service, serving } from './device.js';

const CHECKIN = 'POST /v1/me/checkin';
const DAY_MS = 86400000;

function loggedIn() {
  const storage = inMemoryStorage();
  storage.setItem('wx:token', '"kept"');
  return storage;
}

test('a check-in earns once a day, and the second is refused with a sentence', async () => {
  const device = launch({ origin: service() });
  const { checkIn } = device.load('utils/checkin');
  const { event, credit } = await checkIn();
  assert.deepEqual([event.type, event.data.amount, credit], ['CreditGranted', 5, 105]);
  await assert.rejects(checkIn(), (error) => {
    assert.deepEqual([error.status, error.code], [409, 'already-checked-in']);
    assert.equal(device.load('utils/failure').sentenceFor(error), '今天已经签到过了。');
    return true;
  });
  assert.equal((await device.load('utils/account').fetchCredit()).credit, 105);
  assert.equal(new Set(device.keys).size, 2);
});

test('where the answer gets lost, the next tap uses the same key and hears what came of the first', async () => {
  const device = launch({ origin: service() });
  const { checkIn } = device.load('utils/checkin');
  const { NetworkError } = device.load('utils/request');
  device.lose(CHECKIN);
  await assert.rejects(checkIn(), NetworkError);
  const { event, credit } = await checkIn();
  assert.deepEqual([event.version, credit], [4, 105]);
  assert.equal((await device.load('utils/account').fetchCredit()).credit, 105);
  assert.deepEqual(device.keys, [device.keys[0], device.keys[0]]);
});

test('a token that is refused costs a login, not another key', async () => {
  const storage = inMemoryStorage();
  storage.setItem('wx:token', '"of-another-life"');
  const device = launch({ origin: service(), storage });
  assert.equal((await device.load('utils/checkin').checkIn()).credit, 105);
  assert.deepEqual(device.requests, [CHECKIN, 'POST /login', CHECKIN]);
  assert.equal(new Set(device.keys).size, 1);
});

test('only a definite answer ends a key', async (t) => {
  const problem = 'application/problem+json';
  const table = [
    [503, problem, '{"code":"outcome-unknown"}', 'same'],
    [500, problem, '{}', 'same'],
    [502, 'text/html', '<h1>Bad Gateway</h1>', 'same'],
    [200, 'text/html', '<title>Hotel</title>', 'same'],
    [409, problem, '{"code":"account-frozen"}', 'new'],
    [422, problem, '{"code":"key-reused"}', 'new'],
    [201, 'application/json', '{"event":{"data":{"amount":5}},"credit":5}', 'new'],
  ];
  for (const [status, type, text, expected] of table) {
    const { origin, seen } = await serving(t, body(status, type, text));
    const { checkIn } = launch({ origin, storage: loggedIn() }).load('utils/checkin');
    await checkIn().catch(() => {});
    await checkIn().catch(() => {});
    const [first, second] = seen.map(({ headers }) => headers['idempotency-key']);
    assert.match(first, /^[\x21-\x7e]{1,255}$/);
    assert.equal(first === second ? 'same' : 'new', expected, `${status} ${text}`);
  }
});

test("yesterday's key, whose answer never came, is not used for today's check-in", async (t) => {
  const { origin, seen } = await serving(t, body(503, 'text/plain', ''));
  const { checkIn } = launch({ origin, storage: loggedIn() }).load('utils/checkin');
  const { now } = Date;
  t.after(() => { Date.now = now; });
  await checkIn().catch(() => {});
  Date.now = () => now() + DAY_MS;
  await checkIn().catch(() => {});
  await checkIn().catch(() => {});
  const [first, second, third] = seen.map(({ headers }) => headers['idempotency-key']);
  assert.notEqual(first, second);
  assert.equal(second, third);
});

test('the button says what today earns, and what is kept from another day says nothing about it', () => {
  const { checkinView } = launch({ origin: service() }).load('utils/checkin');
  // 16:00 UTC is midnight in Shanghai, wherever the phone is.
  const [evening, midnight] = ['2026-11-22T15:59:59Z', '2026-11-22T16:00:00Z'].map(Date.parse);
  const state = (checked_in, streak, next_reward) => ({ checked_in, streak, next_reward });
  const table = [
    [state(false, 0, 5), midnight, '每日签到|今天还没有签到|今日签到 +5|false'],
    [state(false, 3, 20), midnight, '已连续签到 3 天|今天还没有签到|今日签到 +20|false'],
    [state(true, 1234, 1000), midnight, '已连续签到 1,234 天|明天签到 +1,000|已签到|true'],
    [state(true, 4, null), midnight, '已连续签到 4 天|明天签到|已签到|true'],
    [state(true, 4, 5), evening, '每日签到||今日签到|false'],
    [state(false, 4, 5), evening, '每日签到||今日签到|false'],
  ];
  for (const [checkin, at, text] of table) {
    const { title, hint, button, done } = checkinView({ checkin, at }, midnight);
    assert.equal([title, hint, button, done].join('|'), text);
  }
  assert.equal(checkinView({ checkin: null, at: midnight }, midnight), null);
});
