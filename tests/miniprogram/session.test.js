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

test('what an earlier version kept of the credit is shown as far as it goes', async () => {
  const storage = inMemoryStorage();
  storage.setItem('wx:credit', '{"credit":7,"at":1}');
  const known = await launch({ origin: await nowhere(), storage }).load('utils/account').lastKnownCredit();
  assert.deepEqual(known, { version: null, credit: 7, held: 0, frozen: false, lots: [], holds: [], checkin: null, at: 1 });
});

test('what was kept of lots and holds is left out once it has come to its end', async () => {
  const moment = (afterMs) => new Date(Date.now() + afterMs).toISOString().replace('Z', '456Z');
  const lots = [{ grant: 3, credit: 1, expires_at: moment(-1000) }, { grant: 4, credit: 2, expires_at: moment(60000) }];
  const holds = [-1000, 60000].map((after, index) => ({ version: 6 + index, amount: 5 + index, deadline: moment(after), reference: null }));
  const storage = inMemoryStorage();
  storage.setItem('wx:credit', JSON.stringify({ credit: 50, held: 11, frozen: true, lots, holds, checkin: null, at: 1 }));
  const known = await launch({ origin: await nowhere(), storage }).load('utils/account').lastKnownCredit();
  assert.deepEqual([known.lots, known.holds, known.held, known.frozen], [[lots[1]], [holds[1]], 6, true]);
});

/** Whether the service itself still takes the token. */
async function isAlive(token) {
  const answer = await fetch(`${service()}/v1/me`, { headers: { Authorization: `Bearer ${token}` } });
  return answer.status === 200;
}

test('after a logout nothing of the user is left on the device, and nothing logs in until he asks for it', async () => {
  const device = launch({ origin: service() });
  const { fetchCredit, logout } = device.load('utils/account');
  await fetchCredit();
  const token = device.storedToken();
  await logout('here');
  assert.equal(await isAlive(token), false);
  assert.equal(device.storage.getItem('wx:token'), null);
  assert.equal(device.storage.getItem('wx:credit'), null);
  await assert.rejects(fetchCredit(), { name: 'LoggedOut', message: '已退出登录。' });

  const later = launch({ origin: service(), storage: device.storage, login: device.login });
  const session = later.load('utils/session');
  await session.launch();
  await assert.rejects(session.authorized({ path: '/v1/me' }), session.LoggedOut);
  assert.equal(await session.isLoggedOut(), true);
  assert.deepEqual(later.requests, []);
  await session.comeBack();
  assert.equal((await session.authorized({ path: '/v1/me/credit' })).credit, 100);
  assert.equal(later.count('POST /login'), 1);

  const again = launch({ origin: service(), storage: device.storage, login: device.login });
  await again.load('utils/session').launch();
  assert.deepEqual(again.requests, ['GET /checklogin']);
});

test('a logout of all devices ends every session of the user, and no other', async () => {
  const tokens = [];
  const stranger = launch({ origin: service() });
  await stranger.load('utils/session').launch();
  tokens.push(stranger.storedToken());
  const there = launch({ origin: service() });
  await there.load('utils/session').launch();
  tokens.push(there.storedToken());
  const here = launch({ origin: service(), login: there.login });
  await here.load('utils/session').launch();
  tokens.push(here.storedToken());
  await here.load('utils/account').logout('everywhere');
  assert.deepEqual(await Promise.all(tokens.map(isAlive)), [true, false, false]);
  assert.equal(here.storage.getItem('wx:token'), null);
});

test('a token that is refused does not keep all devices from being logged out', async () => {
  const other = launch({ origin: service() });
  await other.load('utils/session').launch();
  const device = launch({ origin: service(), storage: withToken('long-gone'), login: other.login });
  await device.load('utils/account').logout('everywhere');
  assert.deepEqual(device.requests, ['DELETE /v1/sessions', 'POST /login', 'DELETE /v1/sessions']);
  assert.equal(await isAlive(other.storedToken()), false);
  assert.equal(device.storage.getItem('wx:token'), null);
});

test('a session that is over already is a logout, and logs nobody in first', async () => {
  for (const desktop of [false, true]) {
    const device = launch({ origin: service(), storage: withToken('long-gone'), desktop });
    await device.load('utils/account').logout('here');
    assert.equal(device.storage.getItem('wx:token'), null);
    assert.equal(device.count('POST /login'), 0);
  }
});

test('without a network nobody is told that he is logged out', async () => {
  for (const where of ['here', 'everywhere']) {
    const device = launch({ origin: await nowhere(), storage: withToken('kept') });
    const { NetworkError } = device.load('utils/request');
    await assert.rejects(device.load('utils/account').logout(where), NetworkError);
    assert.equal(device.storedToken(), 'kept');
    assert.equal(await device.load('utils/session').isLoggedOut(), false);
    // And the user is still one who gets asked for: this fails for the network, not for the logout.
    await assert.rejects(device.load('utils/session').authorized({ path: '/v1/me' }), NetworkError);
  }
});

test('a request that is refused during the logout does not log in again', async () => {
  const device = launch({ origin: service() });
  const session = device.load('utils/session');
  await session.launch();
  const answered = device.hold('DELETE /v1/sessions/current');
  const leaving = session.logout();
  await until(() => device.count('DELETE /v1/sessions/current') === 1);
  await assert.rejects(session.authorized({ path: '/v1/me' }), session.LoggedOut);
  answered();
  await leaving;
  assert.equal(device.count('POST /login'), 1);
});

test('a credit that arrives after the logout is neither shown nor kept', async () => {
  const device = launch({ origin: service() });
  const { fetchCredit, logout } = device.load('utils/account');
  await fetchCredit();
  const arrive = device.hold(CREDIT);
  const late = fetchCredit();
  await until(() => device.count(CREDIT) === 2);
  await logout('here');
  arrive();
  await assert.rejects(late, { name: 'LoggedOut' });
  assert.equal(device.storage.getItem('wx:credit'), null);
});

test('a login under way is waited for, and its session ended', async () => {
  const device = launch({ origin: service(), storage: withToken('revoked') });
  const session = device.load('utils/session');
  const answered = device.hold('POST /login');
  const late = assert.rejects(session.authorized({ path: '/v1/me' }), session.LoggedOut);
  await until(() => device.count('POST /login') === 1);
  const leaving = session.logout();
  answered();
  await leaving;
  await late;
  assert.equal(device.count('DELETE /v1/sessions/current'), 1);
  assert.equal(device.storage.getItem('wx:token'), null);
});

test('a login that a refused request started during the logout leaves no token behind', async () => {
  const device = launch({ origin: service() });
  const session = device.load('utils/session');
  await session.launch();
  const ended = device.hold('DELETE /v1/sessions');
  const loggedIn = device.hold('POST /login');
  const leaving = session.logoutEverywhere();
  await until(() => device.count('DELETE /v1/sessions') === 1);
  let alive = true;
  while (alive) alive = await isAlive(device.storedToken());
  const late = assert.rejects(session.authorized({ path: '/v1/me' }), session.LoggedOut);
  await until(() => device.count('POST /login') === 2);
  ended();
  await leaving;
  loggedIn();
  await late;
  assert.equal(device.storage.getItem('wx:token'), null);
});
