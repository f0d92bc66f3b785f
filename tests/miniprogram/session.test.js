import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inMemoryStorage, launch, nowhere, service, until } from './device.js';

const CREDIT = 'GET /v1/me/credit';
const ME = 'GET /v1/me';

function withToken(token) {
  const storage = inMemoryStorage();
  storage.setItem('wx:token', JSON.stringify(token));
  return storage;
}

test('all who need a login at once share one, and the next need starts another', async () => {
  const device = launch({ origin: service() });
  const session = device.load('utils/session');
  const answers = await Promise.all([
    session.launch(),
    session.authorized({ path: '/v1/me/credit' }),
    session.authorized({ path: '/v1/me' }),
    session.authorized({ path: '/v1/me/credit' }),
  ]);
  assert.equal(answers[1].credit, 100);
  assert.equal(device.count('POST /login'), 1);
  const again = launch({ origin: service(), login: device.login });
  assert.equal((await again.load('utils/session').authorized({ path: '/v1/me/credit' })).credit, 100);
  assert.equal(again.count('POST /login'), 1);
});

test('a failed login is not remembered: the next caller tries anew', async () => {
  const device = launch({ origin: await nowhere() });
  const { authorized } = device.load('utils/session');
  const { NetworkError } = device.load('utils/request');
  await assert.rejects(authorized({ path: '/v1/me' }), NetworkError);
  await assert.rejects(authorized({ path: '/v1/me' }), NetworkError);
  assert.equal(device.count('POST /login'), 2);
});

test('a launch with a stored token asks the service about it, and logs in only where it has expired', async () => {
  const first = launch({ origin: service() });
  await first.load('utils/session').launch();
  const token = first.storedToken();
  assert.deepEqual(first.requests, ['POST /login']);

  const second = launch({ origin: service(), storage: first.storage, login: first.login });
  await second.load('utils/session').launch();
  assert.deepEqual(second.requests, ['GET /checklogin']);
  assert.equal(second.storedToken(), token);

  const third = launch({ origin: service(), storage: withToken('long-gone'), login: first.login });
  await third.load('utils/session').launch();
  assert.deepEqual(third.requests, ['GET /checklogin', 'POST /login']);
  assert.notEqual(third.storedToken(), 'long-gone');
});

test('a stored token that never was one is as good as none', async () => {
  for (const kept of ['', null, {}, 7]) {
    const device = launch({ origin: service(), storage: withToken(kept) });
    await device.load('utils/session').launch();
    assert.deepEqual(device.requests, ['POST /login'], JSON.stringify(kept));
  }
});

test('a 401 costs one login and one retry', async () => {
  const device = launch({ origin: service(), storage: withToken('revoked') });
  const { credit } = await device.load('utils/session').authorized({ path: '/v1/me/credit' });
  assert.equal(credit, 100);
  assert.deepEqual(device.requests, [CREDIT, 'POST /login', CREDIT]);
});

test('a 401 that comes late does not throw away the token of a login made meanwhile', async () => {
  const device = launch({ origin: service(), storage: withToken('revoked') });
  const { authorized } = device.load('utils/session');
  const release = device.hold(CREDIT);
  const late = authorized({ path: '/v1/me/credit' });
  await until(() => device.requests.length === 1);
  await authorized({ path: '/v1/me' });
  const token = device.storedToken();
  release();
  assert.equal((await late).credit, 100);
  assert.equal(device.storedToken(), token);
  assert.deepEqual(device.requests, [CREDIT, ME, 'POST /login', ME, CREDIT]);
});

test("an answer of /checklogin that comes late does not throw away the newer token either", async () => {
  const device = launch({ origin: service(), storage: withToken('revoked') });
  const session = device.load('utils/session');
  const release = device.hold('GET /checklogin');
  const checking = session.launch();
  await until(() => device.requests.length === 1);
  await session.authorized({ path: '/v1/me' });
  const token = device.storedToken();
  release();
  await checking;
  assert.equal(device.storedToken(), token);
  assert.equal(device.count('POST /login'), 1);
});

test("on WeChat's desktop client, where a 401 looks like no network, an expired token is replaced too", async () => {
  const device = launch({ origin: service(), storage: withToken('revoked'), desktop: true });
  const { credit } = await device.load('utils/session').authorized({ path: '/v1/me/credit' });
  assert.equal(credit, 100);
  assert.deepEqual(device.requests, [CREDIT, 'GET /checklogin', 'POST /login', CREDIT]);
});

test("a refused login carries the service's sentence and code, and leaves no token behind", async () => {
  const device = launch({ origin: service(), storage: withToken('revoked'), login: 'refused' });
  const { authorized, LoginRefused } = device.load('utils/session');
  await assert.rejects(authorized({ path: '/v1/me' }), (error) => {
    assert.ok(error instanceof LoginRefused);
    assert.equal(error.code, 'code-invalid');
    assert.match(error.message, /[\u4e00-\u9fff]/);
    assert.equal(device.load('utils/failure').sentenceFor(error), error.message);
    return true;
  });
  assert.equal(device.storage.getItem('wx:token'), null);
  assert.equal(device.count('POST /login'), 1);
});

test('a full storage does not keep anyone from logging in', async () => {
  const storage = inMemoryStorage();
  storage.setItem = () => { throw new Error('exceed storage max size 10Mb'); };
  const device = launch({ origin: service(), storage });
  const { fetchCredit, lastKnownCredit } = device.load('utils/account');
  assert.equal((await fetchCredit()).credit, 100);
  assert.equal((await fetchCredit()).credit, 100);
  assert.equal(await lastKnownCredit(), null);
  assert.equal(device.count('POST /login'), 1);
});

test('the credit of the last time is kept with its time', async () => {
  const device = launch({ origin: service() });
  const before = Date.now();
  await device.load('utils/account').fetchCredit();
  const later = launch({ origin: await nowhere(), storage: device.storage });
  const { credit, at } = await later.load('utils/account').lastKnownCredit();
  assert.equal(credit, 100);
  assert.ok(at >= before && at <= Date.now());
});
