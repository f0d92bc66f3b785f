/** The pages in WeChat's classic runtime: exparser and the wcc compiler, by way of miniprogram-simulate. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';
import { before, test } from 'node:test';
import { JSDOM } from 'jsdom';
import { launch, nowhere, service, SOURCE, until } from './device.js';
import { SealedLedger } from './sealing.js';

const require = createRequire(import.meta.url);
let simulate;

before(() => {
  const { window } = new JSDOM('<!doctype html><body></body>', { pretendToBeVisual: true });
  for (const name of ['document', 'HTMLElement', 'Element', 'Node', 'Event', 'CustomEvent', 'TouchEvent', 'MutationObserver']) {
    globalThis[name] = window[name];
  }
  globalThis.window = window;
  simulate = require('miniprogram-simulate');
  // It knows components only: a page is one whose functions are methods and whose other fields are its own.
  globalThis.Page = ({ data, ...fields }) => {
    const isMethod = ([, value]) => typeof value === 'function';
    const own = Object.entries(fields).filter((field) => !isMethod(field));
    globalThis.Component({
      data,
      methods: Object.fromEntries(Object.entries(fields).filter(isMethod)),
      created() { Object.assign(this, structuredClone(Object.fromEntries(own))); },
    });
  };
});

/** Opens a page as WeChat does. */
function open(device, page) {
  globalThis.wx = device.wx;
  const rendered = simulate.render(simulate.load(path.join(SOURCE, page), { rootPath: SOURCE }));
  rendered.attach(document.body.appendChild(document.createElement('div')));
  rendered.instance.onLoad({});
  rendered.instance.onShow?.();
  return {
    instance: rendered.instance,
    find: (id) => rendered.querySelector(`#${id}`),
    text: (id) => rendered.querySelector(`#${id}`)?.dom.textContent.trim(),
    all: () => rendered.dom.textContent,
  };
}

test('the button gets the credit of a new user and the statement below it', async () => {
  const device = launch({ origin: service() });
  const page = open(device, 'pages/login/login');
  assert.equal(page.text('fetch'), '获取用户的积分');
  page.find('fetch').dispatchEvent('tap');
  await until(() => page.text('credit') === '100' && page.find('event-1'), 'credit and statement');
  assert.match(page.text('credit-time'), /^更新于 今天 \d\d:\d\d$/);
  assert.match(page.text('event-2'), /获得积分新用户礼包.*\+100余额 100/);
  assert.match(page.text('event-1'), /注册.*余额 0/);
  assert.equal(page.text('end'), '没有更早的记录了');
  assert.ok(!JSON.stringify(page.instance.data).includes(device.storedToken()));
});

test('without a network the last known credit stays, with a sentence and a retry', async () => {
  const first = launch({ origin: service() });
  open(first, 'pages/login/login').find('fetch').dispatchEvent('tap');
  await until(() => first.storage.getItem('wx:credit'), 'the credit to be kept');

  const offline = launch({ origin: await nowhere(), storage: first.storage });
  const page = open(offline, 'pages/login/login');
  await until(() => page.text('error'), 'the error');
  assert.equal(page.text('error'), '连接不上服务器，请检查网络后重试。');
  assert.equal(page.text('credit'), '100');
  assert.match(page.text('credit-time'), /^未能更新 · 今天 \d\d:\d\d 的积分$/);
  assert.equal(offline.count('GET /v1/me/credit'), 1);
  page.find('retry').dispatchEvent('tap');
  await until(() => offline.count('GET /v1/me/credit') === 2, 'a retry');
});

test('pull-down refresh stops once the data is there, and when it could not come', async () => {
  for (const origin of [service(), await nowhere()]) {
    const device = launch({ origin });
    const page = open(device, 'pages/login/login');
    let shown = null;
    device.wx.stopPullDownRefresh = () => { shown = { credit: page.text('credit'), error: page.text('error') }; };
    await page.instance.onPullDownRefresh();
    if (origin === service()) assert.deepEqual(shown, { credit: '100', error: undefined });
    else assert.deepEqual(shown, { credit: undefined, error: '连接不上服务器，请检查网络后重试。' });
  }
});

test('the nickname of the form is saved, and shown on the first page after coming back', async () => {
  const device = launch({ origin: service() });
  const told = [];
  device.wx.showToast = ({ title }) => told.push(title);
  device.wx.navigateBack = () => told.push('back');
  const first = open(device, 'pages/login/login');
  const profile = open(device, 'pages/profile/profile');
  await until(() => !profile.instance.data.unread, 'the profile to be read');
  await profile.instance.onSubmit({ detail: { value: { nickname: ' 小满 ' } } });
  assert.deepEqual(told, ['已保存', 'back']);
  first.instance.onShow();
  await until(() => first.text('nickname') === '小满', 'the nickname');
});

test('a check-in earns what its button says, once however often it is tapped', async () => {
  const device = launch({ origin: service() });
  const toasts = [];
  device.wx.showToast = ({ title }) => toasts.push(title);
  const page = open(device, 'pages/login/login');
  await page.instance.refresh();
  assert.equal(page.text('streak'), '每日签到');
  assert.equal(page.text('checkin'), '今日签到 +5');
  const first = page.instance.checkIn();
  const second = page.instance.checkIn();
  assert.equal(page.text('checkin'), '正在签到…');
  await Promise.all([first, second]);
  assert.deepEqual(toasts, ['签到成功 +5']);
  assert.equal(device.count('POST /v1/me/checkin'), 1);
  assert.equal(page.text('credit'), '105');
  assert.equal(page.text('streak'), '已连续签到 1 天');
  assert.equal(page.text('checkin-hint'), '明天签到 +5');
  assert.equal(page.text('checkin'), '已签到');
  assert.match(page.text('event-4'), /签到第 1 天.*\+5余额 105/);
  assert.equal(page.find('event-3'), undefined);
});

test('a page that comes back on another day asks what that day brings', async () => {
  const device = launch({ origin: service() });
  const page = open(device, 'pages/login/login');
  await page.instance.refresh();
  device.requests.length = 0;
  await page.instance.onShow();
  assert.deepEqual(device.requests, ['GET /v1/me']);
  page.instance.known = { ...page.instance.known, at: Date.now() - 86400000 };
  await page.instance.onShow();
  assert.ok(device.requests.includes('GET /v1/me/credit'), device.requests.join());
});

test('a logout goes back to a page that asks for a login, and for nothing else', async () => {
  const device = launch({ origin: service() });
  await open(device, 'pages/login/login').instance.refresh();
  const opened = [];
  device.wx.reLaunch = ({ url }) => opened.push(url);
  device.wx.showModal = async () => ({ confirm: false });
  const profile = open(device, 'pages/profile/profile');
  await profile.instance.logoutEverywhere();
  assert.deepEqual(opened, []);
  await profile.instance.logout();
  assert.deepEqual(opened, ['/pages/login/login']);

  device.requests.length = 0;
  const page = open(device, 'pages/login/login');
  await until(() => page.text('login') === '登录', 'the login button');
  device.wx.stopPullDownRefresh = () => {};
  await page.instance.onPullDownRefresh();
  await page.instance.onShow();
  assert.deepEqual(device.requests, []);
  assert.equal(page.find('credit'), undefined);
  page.find('login').dispatchEvent('tap');
  await until(() => page.text('credit') === '100', 'the credit');
});

test('older rows are compared when they are loaded, and a lie in them is told', async () => {
  const ledger = new SealedLedger();
  ledger.register('oMe', 40);
  for (let count = 0; count < 60; count += 1) ledger.grant('oMe', 1);
  ledger.seal();
  const device = launch({ origin: service() });
  const { request } = device.wx;
  const proofs = [];
  let lie = {};
  device.wx.request = (asked) => {
    const { pathname, searchParams } = new URL(asked.url);
    if (pathname === '/v1/me/proof') {
      proofs.push(Number(searchParams.get('after')));
      asked.success({ statusCode: 200, data: ledger.proof('oMe', proofs.at(-1)) });
    } else if (pathname === '/v1/me/events') {
      const page = ledger.statement('oMe', Number(searchParams.get('before') ?? Infinity));
      page.events = page.events.map((event) => (event.version === 30 ? { ...event, ...lie } : event));
      asked.success({ statusCode: 200, data: page });
    } else if (pathname === '/v1/me/credit') {
      asked.success({ statusCode: 200, data: { version: 62, credit: 100, held: 0 } });
    } else request(asked);
  };
  const page = open(device, 'pages/login/login');
  const said = (line) => until(() => page.instance.data.seal?.checked.includes(line), line);
  await page.instance.refresh();
  await said('下面列出的明细，已封存的 20 条都和封存里的一样');
  await page.instance.loadMore();
  await said('下面列出的明细，已封存的 40 条都和封存里的一样');
  await page.instance.loadMore();
  await page.instance.loadMore();
  await said('下面列出的明细，已封存的 62 条都和封存里的一样');
  await page.instance.refresh();
  await said('下面列出的明细，已封存的 20 条都和封存里的一样');
  assert.ok(proofs.length <= 6, proofs.join());
  lie = { credit: 1000 };
  await page.instance.loadMore();
  await until(() => page.text('seal-word') === '核验失败', 'the failure');
  assert.equal(page.instance.data.seal.notes[0], '页面上第 30 条记录的余额和封存的不一样。');
  lie = {};
  await page.instance.refresh();
  await until(() => page.text('seal-word') === '已核验', 'the word');
});

test('the line below the credit says what the phone found, and a tap shows the details', async () => {
  const ledger = new SealedLedger();
  ledger.register('oMe', 100);
  ledger.seal();
  const device = launch({ origin: service() });
  const { request } = device.wx;
  let answer = { statusCode: 200, data: ledger.proof('oMe') };
  const statement = { statusCode: 200, data: ledger.statement('oMe') };
  device.wx.request = (asked) => {
    if (asked.url.includes('/v1/me/proof')) asked.success(answer);
    else if (asked.url.includes('/v1/me/events')) asked.success(statement);
    else request(asked);
  };
  const page = open(device, 'pages/login/login');
  await page.instance.refresh();
  await until(() => page.text('seal-word') === '已核验', 'the word');
  assert.match(page.text('seal'), /^已核验.* 第 1 次封存$/);
  assert.equal(page.find('seal-details'), undefined);
  page.find('seal').dispatchEvent('tap');
  await until(() => page.find('seal-details'), 'the details');
  assert.match(page.text('seal-details'), /你的账户在封存的总账里：到第 2 条记录为止，100 积分/);

  answer = { statusCode: 200, data: { ...answer.data, credit: 5 } };
  await page.instance.refresh();
  await until(() => page.text('seal-word') === '核验失败', 'the failure');
  assert.match(page.text('seal-details'), /你的账户不在封存的总账里，或者数目不同。.*请联系客服。/);
  assert.equal(page.text('credit'), '100');
  answer = { statusCode: 404, data: { code: 'not-sealed' } };
  device.storage.removeItem('wx:proved');
  await page.instance.refresh();
  await until(() => page.text('seal-word') === '尚未封存', 'the word');
});
