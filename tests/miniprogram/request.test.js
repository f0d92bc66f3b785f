import assert from 'node:assert/strict';
import { test } from 'node:test';
import { body, inMemoryStorage, launch, nowhere, service, serving } from './device.js';

test('what is no JSON object of a 2xx is an HttpError with status, body and a sentence', async (t) => {
  const table = [
    [500, 'text/plain', 'oops', 'oops', '服务器暂时不可用（500），请稍后再试。'],
    [503, 'application/problem+json', '{"code":"outcome-unknown"}', { code: 'outcome-unknown' }, '服务器暂时不可用（503），请稍后再试。'],
    [422, 'application/problem+json', '{"detail":"no"}', { detail: 'no' }, '服务器没有接受这次请求（422）。'],
    [429, 'application/problem+json', '{}', {}, '操作太频繁，请稍后再试。'],
    [409, 'application/problem+json', '{"code":"already-checked-in"}', { code: 'already-checked-in' }, '今天已经签到过了。'],
    [409, 'application/problem+json', '{"code":"constructor"}', { code: 'constructor' }, '服务器没有接受这次请求（409）。'],
    [401, 'application/problem+json', '{}', {}, '登录已失效，请重试。'],
    [400, 'application/json', '{"err":"请先更新。"}', { err: '请先更新。' }, '请先更新。'],
    [200, 'text/html', '<title>Hotel</title>', '<title>Hotel</title>', '服务器暂时不可用（200），请稍后再试。'],
    [200, 'application/json', 'null', null, '服务器暂时不可用（200），请稍后再试。'],
  ];
  for (const [status, type, text, parsed, sentence] of table) {
    const { origin } = await serving(t, body(status, type, text));
    const device = launch({ origin });
    const { request, HttpError } = device.load('utils/request');
    await assert.rejects(request({ path: '/x' }), (error) => {
      assert.ok(error instanceof HttpError, String(error));
      assert.equal(error.status, status);
      assert.deepEqual(error.body, parsed);
      assert.equal(device.load('utils/failure').sentenceFor(error), sentence);
      return true;
    });
  }
});

test('a 429 tells how many seconds to wait, where the service says it in seconds', async (t) => {
  const table = [
    [{ 'Retry-After': '17' }, '操作太频繁，请 17 秒后再试。'],
    [{ 'retry-after': '1' }, '操作太频繁，请 1 秒后再试。'],
    [{ 'Retry-After': '0' }, '操作太频繁，请稍后再试。'],
    [{ 'Retry-After': 'Fri, 27 Nov 2026 08:00:00 GMT' }, '操作太频繁，请稍后再试。'],
    [{ 'Retry-After': '-5' }, '操作太频繁，请稍后再试。'],
    [{}, '操作太频繁，请稍后再试。'],
  ];
  for (const [headers, sentence] of table) {
    const { origin } = await serving(t, body(429, 'application/problem+json', '{"code":"rate-limited"}', headers));
    const device = launch({ origin });
    const error = await device.load('utils/request').request({ path: '/x' }).catch((failure) => failure);
    assert.equal(device.load('utils/failure').sentenceFor(error), sentence);
  }
});

test("the seconds are found in whatever letter case a phone's engine gives the header's name", async () => {
  for (const name of ['Retry-After', 'retry-after', 'RETRY-AFTER']) {
    const device = launch({ origin: await nowhere() });
    device.wx.request = ({ success }) => success({ statusCode: 429, data: {}, header: { [name]: '8' } });
    await assert.rejects(device.load('utils/request').request({ path: '/x' }), { retryAfterS: 8 });
  }
});

test('a 204 has no body and is a success', async (t) => {
  const { origin, seen } = await serving(t, (response) => { response.writeHead(204); response.end(); });
  const { request } = launch({ origin }).load('utils/request');
  assert.equal(await request({ method: 'DELETE', path: '/v1/sessions', token: 'secret-1' }), null);
  assert.equal(seen[0].method, 'DELETE');
});

test('an Idempotency-Key goes along where one is asked for', async (t) => {
  const { origin, seen } = await serving(t, body(200, 'application/json', '{}'));
  const { request } = launch({ origin }).load('utils/request');
  await request({ method: 'POST', path: '/x', idempotencyKey: 'k-1' });
  await request({ method: 'POST', path: '/x' });
  assert.deepEqual(seen.map(({ headers }) => headers['idempotency-key']), ['k-1', undefined]);
});

test('an error that nobody foresaw is thrown on, not turned into a sentence', async () => {
  const { sentenceFor } = launch({ origin: await nowhere() }).load('utils/failure');
  assert.throws(() => sentenceFor(new TypeError('x is undefined')), TypeError);
});

test('the token travels in a header and in no address', async (t) => {
  const { origin, seen } = await serving(t, body(200, 'application/json', '{}'));
  const { request } = launch({ origin }).load('utils/request');
  await request({ path: '/v1/me', token: 'secret-1' });
  await request({ path: '/v1/me' });
  assert.equal(seen[0].headers.authorization, 'Bearer secret-1');
  assert.equal(seen[0].url, '/v1/me');
  assert.equal(seen[1].headers.authorization, undefined);
});

test('a second 401 is given up on: a service that refuses every token is asked twice, not for ever', async (t) => {
  const { origin, seen } = await serving(t, (response) => {
    const login = seen[seen.length - 1].url === '/login';
    body(login ? 200 : 401, 'application/json', login ? '{"token":"new"}' : '{}')(response);
  });
  const device = launch({ origin });
  const { HttpError } = device.load('utils/request');
  await assert.rejects(device.load('utils/session').authorized({ path: '/v1/me' }), HttpError);
  assert.deepEqual(device.requests, ['POST /login', 'GET /v1/me', 'POST /login', 'GET /v1/me']);
});

test('no answer within 8 seconds is a NetworkError, and a slow service is not asked a second time', async (t) => {
  const { origin } = await serving(t, () => {});
  const storage = inMemoryStorage();
  storage.setItem('wx:token', '"kept"');
  const device = launch({ origin, storage });
  const { NetworkError } = device.load('utils/request');
  const timeouts = [];
  const { request } = device.wx;
  device.wx.request = (asked) => { timeouts.push(asked.timeout); request(asked); };
  const start = performance.now();
  await assert.rejects(device.load('utils/session').authorized({ path: '/v1/me' }), (error) => {
    assert.ok(error instanceof NetworkError);
    assert.ok(error.timedOut);
    return true;
  });
  const elapsed = performance.now() - start;
  assert.ok(elapsed > 7900, `${elapsed} ms`);
  assert.deepEqual(timeouts, [8000]); // It takes longer on a busy machine.
  assert.deepEqual(device.requests, ['GET /v1/me']);
});

test('an address outside of the configured domain is refused before anything is sent', async () => {
  const { wx } = launch({ origin: service() });
  await assert.rejects(
    new Promise((success, fail) => { wx.request({ url: 'http://example.org/', success, fail }); }),
    { errMsg: 'request:fail url not in domain list' },
  );
});
