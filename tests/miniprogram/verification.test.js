/** What the phone remembers from one check to the next, and what it says of a service that lies. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inMemoryStorage, launch, nowhere, serving, until } from './device.js';
import { SealedLedger, Signer } from './sealing.js';


const ME = 'oMe';
const NOT_SEALED = { status: 404, code: 'not-sealed' };

function loggedIn() {
  const storage = inMemoryStorage();
  storage.setItem('wx:token', '"kept"');
  return storage;
}

/**
 * A service over `given.ledger`, and a phone; `given.page` is how many events an answer has. `verify` launches
 * the mini-program anew each time.
 */
async function phone(t, ledger, options = {}) {
  const given = { ledger, page: 1000, change: (proof) => proof, ...options };
  const { origin, seen } = await serving(t, (response, { method, url }) => {
    const { pathname, searchParams } = new URL(url, 'http://service');
    const [, first, second] = /^\/v1\/seals\/(\d+)\/consistency\/(\d+)$/.exec(pathname) ?? [];
    let answer = { status: 404, code: 'unexpected' };
    if (given.refusal) answer = given.refusal;
    else if (method === 'DELETE') answer = null;
    else if (pathname === '/v1/me/proof') answer = given.change(given.ledger.proof(ME, Number(searchParams.get('after')), given.page));
    else if (first) answer = given.consistency ?? given.ledger.consistency(Number(first), Number(second));
    const status = answer ? answer.status ?? 200 : 204;
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(answer ? JSON.stringify(answer) : '');
  });
  const storage = loggedIn();
  const at = (where) => {
    const device = launch({ origin: where, storage });
    device.load('config').sealKey = given.sealKey ?? '';
    return device.load('utils/verification');
  };
  return {
    given, storage, origin, launch: at, kept: (key) => JSON.parse(storage.getItem(`wx:${key}`)),
    verify: async (where = origin) => { seen.length = 0; return at(where).verify(); },
    asked: () => seen.map(({ url }) => url),
    keepReceipt: (receipt) => at(origin).keepReceipt(receipt),
  };
}

function ledgerOf(...amounts) {
  const ledger = new SealedLedger();
  ledger.register('oOther');
  ledger.register(ME, 100);
  for (const amount of amounts) ledger.grant(ME, amount);
  ledger.seal();
  return ledger;
}

function sentence(outcome) {
  assert.equal(outcome.state, 'failed', JSON.stringify(outcome));
  return outcome.why;
}

test('all pages are fetched the first time, and later only what came since', async (t) => {
  const ledger = ledgerOf(...Array(40).fill(1));
  const me = await phone(t, ledger, { page: 20 });
  const first = await me.verify();
  assert.deepEqual([first.state, first.proved.credit, first.key, first.since], ['verified', 140, 'first-seen', null]);
  assert.deepEqual(me.asked(), ['/v1/me/proof', '/v1/me/proof?after=20', '/v1/me/proof?after=40']);
  me.given.page = 1000;
  const again = await me.verify();
  assert.deepEqual([again.state, again.key, again.since], ['verified', 'remembered', 1]);
  // A page of the statement, too, and the one before it.
  assert.deepEqual(me.asked(), ['/v1/me/proof?after=21']);
  ledger.grant(ME, 6);
  ledger.seal();
  const later = await me.verify();
  assert.deepEqual([later.proved.credit, later.proved.summed, later.since], [146, true, 1]);
  assert.deepEqual(me.asked(), ['/v1/me/proof?after=21', '/v1/seals/1/consistency/2']);
});

test('what the page lists is asked for, down to its oldest event', async (t) => {
  const ledger = ledgerOf(...Array(60).fill(1));
  const me = await phone(t, ledger);
  const versions = ({ events }) => [events[0].version, events.at(-1).version];
  assert.deepEqual(versions(await me.verify()), [42, 62]);
  const { verify } = me.launch(me.origin);
  const both = [verify(), verify(12), verify(30)];
  assert.deepEqual((await Promise.all(both)).map(versions), [[42, 62], [11, 62], [11, 62]]);
  assert.deepEqual(me.asked().slice(1), ['/v1/me/proof?after=41', '/v1/me/proof?after=10']);
  assert.deepEqual(versions(await verify(1)), [1, 62]);
  me.given.change = () => ledger.proof(ME, 41);
  assert.equal(sentence(await verify(12)), '你的明细和封存的账户对不上。');
});

test('a seal that is made between two pages is no failure', async (t) => {
  const ledger = ledgerOf(...Array(6).fill(1));
  const me = await phone(t, ledger, { page: 4 });
  me.given.change = (proof) => {
    me.given.change = (other) => other;
    ledger.grant(ME, 50);
    ledger.seal();
    return proof;
  };
  const { state, proved } = await me.verify();
  assert.deepEqual([state, proved.credit, proved.sealNumber], ['verified', 156, 2]);
});

test('a service that pages in circles is told so', { timeout: 10000 }, async (t) => {
  const me = await phone(t, ledgerOf(), { change: (proof) => ({ ...proof, next_after: 1 }) });
  assert.equal(sentence(await me.verify()), '服务器给的证明不完整，无法核验。');
});

test('the public key of config.js counts, and without one the key that was seen first', async (t) => {
  const ledger = ledgerOf();
  const stranger = ledgerOf();
  const builtIn = await phone(t, ledger, { sealKey: ledger.signer.vkey });
  assert.equal((await builtIn.verify()).key, 'built-in');
  builtIn.given.ledger = stranger;
  assert.equal(sentence(await builtIn.verify()), '签名公钥和原来的不同。');
  builtIn.given.change = (proof) => ({ ...proof, vkey: ledger.signer.vkey });
  assert.equal(sentence(await builtIn.verify()), '封存的签名不对。');

  const trusting = await phone(t, ledger);
  assert.equal((await trusting.verify()).key, 'first-seen');
  trusting.given.ledger = stranger;
  assert.equal(sentence(await trusting.verify()), '签名公钥和原来的不同。');
  assert.equal(trusting.kept('seals').vkey, ledger.signer.vkey);
  trusting.given.ledger = ledger;
  assert.equal((await trusting.verify()).state, 'verified');
});

test('with another built-in key the phone begins anew, says so, and puts aside what it had', async (t) => {
  const [ledger, renewed] = [ledgerOf(5), ledgerOf()];
  const me = await phone(t, ledger, { sealKey: ledger.signer.vkey });
  const { sealView } = launch({ origin: me.origin }).load('utils/sealed');
  const details = (outcome) => sealView(outcome, null, [], Date.now()).notes.join('\n');
  const before = await me.verify();
  assert.equal(before.renewed, false);
  assert.doesNotMatch(details(before), /从头核验/);
  const old = ledger.receipt(ME);
  const promised = renewed.receipt(ME); // Of the service's new key, while the phone still had the old one.
  await me.keepReceipt(old);
  await me.keepReceipt(promised);
  const kept = [me.kept('seals'), me.kept('proved')];

  me.given.sealKey = renewed.signer.vkey;
  assert.equal(sentence(await me.verify()), '签名公钥和原来的不同。'); // The service still has the old one.
  assert.deepEqual([me.kept('seals'), me.kept('proved')], kept);
  me.given.refusal = NOT_SEALED;
  assert.deepEqual(await me.verify(), { state: 'unsealed' });
  me.given.refusal = null;
  me.given.ledger = renewed;
  const fresh = await me.verify();
  assert.deepEqual([fresh.state, fresh.key, fresh.since, fresh.renewed, fresh.kept], ['verified', 'built-in', null, true, 1]);
  assert.match(details(fresh), /自带的公钥和这部手机以前用的不同.*从头核验/);
  assert.deepEqual(me.kept('former'), { log: kept[0], proved: kept[1], receipts: [old] });
  assert.deepEqual(me.kept('receipts'), []);

  renewed.seal();
  const later = await me.verify();
  assert.deepEqual([later.state, later.since, later.renewed], ['verified', 1, true]);
  me.given.ledger = ledgerOf();
  assert.equal(sentence(await me.verify()), '签名公钥和原来的不同。');
  await launch({ origin: me.origin, storage: me.storage }).load('utils/verification').forget();
  assert.equal(me.kept('former'), null);
});

test('a built-in key that comes later takes the place of the one that was seen first', async (t) => {
  const ledger = ledgerOf();
  const me = await phone(t, ledger);
  await me.verify();
  me.given.sealKey = ledger.signer.vkey;
  const same = await me.verify();
  assert.deepEqual([same.state, same.key, same.since, same.renewed], ['verified', 'built-in', 1, false]);
  me.given.ledger = ledgerOf();
  me.given.sealKey = me.given.ledger.signer.vkey;
  assert.deepEqual([(await me.verify()).renewed, me.kept('former').log.vkey], [true, ledger.signer.vkey]);
  // Taken out again, the key that was used last stays, and another one is a failure.
  me.given.sealKey = '';
  assert.equal((await me.verify()).key, 'remembered');
  me.given.ledger = ledger;
  assert.equal(sentence(await me.verify()), '签名公钥和原来的不同。');
  assert.equal(sentence(await me.verify()), '签名公钥和原来的不同。');
});

test('what was proved before must still be there', async (t) => {
  const signer = new Signer('credit-ledger/wx1');
  const made = (build) => {
    const ledger = new SealedLedger(signer);
    build(ledger);
    return ledger;
  };
  const honest = (ledger) => {
    ledger.register('oOther');
    ledger.register(ME);
    ledger.seal();
    ledger.grant(ME, 5);
    ledger.seal();
  };
  const lies = [
    ['封存的记录比以前核验过的少了。', (ledger) => { ledger.register('oOther'); ledger.register(ME); ledger.seal(); }],
    ['封存的记录比以前核验过的少了。', (ledger) => {
      ledger.register('oOther'); ledger.register(ME); ledger.seal(); ledger.seal(); ledger.seal();
    }],
    ['以前核验过的记录被改动了。', (ledger) => {
      ledger.register('oOther'); ledger.register(ME); ledger.seal(); ledger.grant(ME, 6); ledger.seal(); ledger.seal();
    }],
    // My own account is as it was: only the log is another.
    ['封存记录和以前核验过的接不上。', (ledger) => { honest(ledger); ledger.entries.shift(); ledger.seal(); ledger.seal(); }],
    ['封存的记录比以前核验过的少了。', (ledger) => {
      ledger.register('oOther'); ledger.register(ME); ledger.clockUs += 90000000; ledger.grant(ME, 5); ledger.seal();
    }],
  ];
  for (const [expected, lie] of lies) {
    const me = await phone(t, made(honest));
    assert.equal((await me.verify()).state, 'verified');
    const before = [me.kept('seals'), me.kept('proved')];
    const forged = made(lie);
    // So that the hashes agree where nothing was changed, and the entry's number is its place.
    forged.entries = forged.entries.map((entry, at) => Buffer.from(entry.toString().replace(/number \d+/, `number ${at + 1}`)));
    me.given.ledger = forged;
    assert.equal(sentence(await me.verify()), expected, lie.toString());
    assert.deepEqual([me.kept('seals'), me.kept('proved')], before);
  }
});

test('a log that cannot show that it goes on is a fork', async (t) => {
  const ledger = ledgerOf();
  const me = await phone(t, ledger);
  await me.verify();
  ledger.seal();
  for (const consistency of [{ status: 404, code: 'seal-not-found' }, { path: 'AAAA' }, { path: 7 }, {}]) {
    me.given.consistency = consistency;
    assert.ok(['封存记录和以前核验过的接不上。', '服务器给的证明不完整，无法核验。'].includes(sentence(await me.verify())));
  }
  me.given.consistency = { status: 500, code: '' };
  assert.equal((await me.verify()).state, 'unchecked');
  me.given.consistency = undefined;
  assert.equal((await me.verify()).state, 'verified');
});

test('another account than before is not mine', async (t) => {
  const me = await phone(t, ledgerOf());
  await me.verify();
  const { ledger } = me.given;
  me.given.ledger = { proof: () => ledger.proof('oOther'), consistency: () => ({ path: '' }) };
  assert.equal(sentence(await me.verify()), '服务器给的是另一个账户的证明。');
});

test('without a seal, a network or an answer nothing has failed; but what was sealed stays sealed', async (t) => {
  const me = await phone(t, ledgerOf(), { refusal: NOT_SEALED });
  assert.deepEqual(await me.verify(), { state: 'unsealed' });
  const offline = await me.verify(await nowhere());
  assert.deepEqual([offline.state, offline.offline, offline.last], ['unchecked', true, null]);
  me.given.refusal = null;
  await me.verify();
  const later = await me.verify(await nowhere());
  assert.deepEqual([later.state, later.last.sealNumber], ['unchecked', 1]);
  for (const status of [429, 500, 503, 404]) {
    me.given.refusal = { status, code: 'busy' };
    const { state, offline: unreachable, why } = await me.verify();
    assert.deepEqual([state, unreachable], ['unchecked', false]);
    assert.ok(why);
  }
  me.given.refusal = NOT_SEALED;
  assert.equal(sentence(await me.verify()), '封存的记录比以前核验过的少了。');
});

test('an answer that is no proof is a failed check, whatever it is', async (t) => {
  const me = await phone(t, ledgerOf());
  for (const answer of [{}, { seal: null }, [], { ...me.given.ledger.proof(ME), events: [null] }, { ...me.given.ledger.proof(ME), vkey: 'x' }]) {
    me.given.change = () => answer;
    assert.equal(sentence(await me.verify()), '服务器给的证明不完整，无法核验。', JSON.stringify(answer));
  }
});

test('receipts wait for their seal, are compared with it, and go', async (t) => {
  const ledger = ledgerOf();
  const me = await phone(t, ledger);
  await me.verify();
  const sealed = ledger.proof(ME);
  ledger.grant(ME, 5);
  await me.keepReceipt(ledger.receipt(ME));
  me.given.change = () => sealed; // Recorded, and not sealed yet.
  const waiting = await me.verify();
  assert.deepEqual([waiting.state, waiting.kept, waiting.waiting], ['verified', 0, 1]);
  me.given.change = (proof) => proof;
  ledger.grant(ME, 1);
  ledger.seal();
  const done = await me.verify();
  assert.deepEqual([done.state, done.kept, done.waiting], ['verified', 1, 0]);
  assert.deepEqual(me.kept('receipts'), []);
  // A receipt that comes when its event has been proved already.
  const late = ledger.receipt(ME);
  ledger.grant(ME, 1);
  ledger.seal();
  await me.verify();
  await me.keepReceipt(late);
  assert.equal((await me.verify()).kept, 1);
});

test('a receipt of other facts than its event has is told, also long after the event was proved', async (t) => {
  const ledger = ledgerOf(5);
  const { events } = ledger.accounts.get(ME);
  const honest = events[2];
  const lied = { ...honest, credit: 999 };
  events[2] = lied;
  const receipt = ledger.receipt(ME);
  events[2] = honest;
  ledger.grant(ME, 1);
  ledger.seal();
  const me = await phone(t, ledger);
  await me.verify();
  await me.keepReceipt(receipt);
  const proofs = [[(proof) => proof, '封存的内容和签到回执不一样。'],
    [(proof) => ({ ...proof, events: proof.events.map((event) => (event.version === 3 ? lied : event)) }), '有的明细和封存时的内容不同，或者前后接不上。']];
  for (const [change, expected] of proofs) {
    me.given.change = change;
    assert.equal(sentence(await me.verify()), expected);
  }
});

test('a receipt that is not kept, or is none, is told, and stays as evidence', async (t) => {
  const signer = new Signer('credit-ledger/wx1');
  const made = (...amounts) => {
    const ledger = new SealedLedger(signer);
    ledger.register(ME);
    for (const amount of amounts) ledger.grant(ME, amount);
    ledger.seal();
    return ledger;
  };
  const table = [
    ['签到回执承诺过的记录没有被封存。', made(5).receipt(ME), made()],
    ['封存的内容和签到回执不一样。', made(5).receipt(ME), made(6)],
    ['签到回执的签名不对。', { ...made(5).receipt(ME), credit: 106 }, made(6)],
    ['签到回执的签名不对。', ledgerOf(5).receipt(ME), made(6)],
    ['签到回执的签名不对。', { version: 'x' }, made(6)],
  ];
  for (const [expected, receipt, ledger] of table) {
    const me = await phone(t, ledger);
    await me.keepReceipt(receipt);
    ledger.clockUs += 1;
    assert.equal(sentence(await me.verify()), expected);
    assert.deepEqual(me.kept('receipts'), [receipt]);
    assert.equal(me.kept('proved'), null);
  }
});

test('no more than the last hundred receipts are kept', async (t) => {
  const me = await phone(t, ledgerOf());
  const { keepReceipt } = me.launch(me.origin);
  for (let version = 1; version <= 103; version += 1) await keepReceipt({ version });
  const kept = me.kept('receipts');
  assert.deepEqual([kept.length, kept[0].version, kept[99].version], [100, 4, 103]);
});

test('a logout leaves the log of seals, which is nobody\'s own, and nothing of the user', async (t) => {
  const ledger = ledgerOf();
  const me = await phone(t, ledger);
  const device = launch({ origin: me.origin, storage: me.storage });
  const { keepReceipt, verify } = device.load('utils/verification');
  await verify();
  await keepReceipt(ledger.receipt(ME));
  await device.load('utils/account').logout('here');
  assert.deepEqual([me.kept('proved'), me.kept('receipts')], [null, null]);
  assert.equal(me.kept('seals').vkey, ledger.signer.vkey);
  await keepReceipt({ version: 1 });
  assert.deepEqual(me.kept('receipts').map(({ version }) => version), [1]);
});

test('what comes after a logout is not kept', async (t) => {
  const ledger = ledgerOf();
  const me = await phone(t, ledger);
  await me.verify();
  ledger.seal();
  const device = launch({ origin: me.origin, storage: me.storage });
  const release = device.hold('GET /v1/seals/1/consistency/2');
  const checked = device.load('utils/verification').verify();
  await until(() => device.count('GET /v1/seals/1/consistency/2') > 0, 'the last request');
  await device.load('utils/account').logout('here');
  release();
  assert.equal((await checked).state, 'unchecked');
  assert.equal(me.kept('proved'), null);
});

test('the words say what was checked, and no more', async (t) => {
  const ledger = ledgerOf(1234567);
  const me = await phone(t, ledger);
  const { sealView } = launch({ origin: me.origin }).load('utils/sealed');
  const now = Math.floor(ledger.clockUs / 1000);
  const known = { version: 3, credit: 1234667, held: 0 };
  const all = ({ checked, notes }) => [...checked, ...notes].join('\n');
  const first = await me.verify();
  const view = sealView(first, known, [], now);
  assert.deepEqual([view.tone, view.word], ['good', '已核验']);
  assert.match(view.about, /^今天 \d\d:\d\d 第 1 次封存$/);
  assert.match(all(view), /刚刚第一次见到.*\n你的账户在封存的总账里：到第 3 条记录为止，1,234,667 积分\n封存里你的每一笔明细都核对过：.*\n明细的增减逐条相加，正好是这个数/);
  assert.match(all(view), /没有核对的：别人看到的封存/);
  assert.doesNotMatch(all(view), /尚未封存|回执|丢失|改写/);
  assert.match(all(sealView(first, { ...known, version: 5, credit: 1 }, [], now)), /最新的 2 条记录尚未封存/);
  for (const other of [{ credit: 1234668 }, { held: 1 }]) {
    const lie = sealView(first, { ...known, ...other }, [], now);
    assert.deepEqual([lie.tone, lie.word, lie.notes[0]], ['bad', '核验失败', '页面上的积分和封存的积分不一样。']);
    assert.match(lie.notes[1], /不要退出登录.*回执还保存.*客服/);
  }
  assert.equal(sealView(first, { ...known, version: null, credit: 5 }, [], now).word, '已核验');
  assert.match(all(sealView({ ...first, key: 'remembered', since: 1, kept: 2, waiting: 1, lost: 3, proved: { ...first.proved, sealNumber: 2, summed: false } }, known, [], now)),
    /还是这部手机第一次见到的那个[^]*接得上以前核验过的第 1 次封存[^]*2 张签到回执已兑现[^]*1 张签到回执在等待[^]*没有逐条相加[^]*3 条记录已经丢失/);
  assert.equal(sealView({ state: 'unsealed' }, known, [], now).word, '尚未封存');
  const offline = sealView({ state: 'unchecked', offline: true, why: '连接不上服务器。', last: first.proved }, known, [], now);
  assert.deepEqual([offline.word, offline.tone], ['离线未核验', 'open']);
  assert.match(all(offline), /上次核验的是今天 \d\d:\d\d 第 1 次封存/);
  assert.match(all(sealView({ state: 'unchecked', offline: false, why: '忙', last: null }, null, [], now)), /还没有核验过/);
});

/** What the page lists, and a proof that was checked: 45 events of mine, of which the last 2 are not sealed. */
async function listing(t) {
  const ledger = ledgerOf(...Array(41).fill(1));
  const me = await phone(t, ledger);
  const verified = await me.verify();
  ledger.grant(ME, 7);
  ledger.record(ME, 'CreditExpired', { amount: 7, actor: 'rule:expiry' }, -7); // Shown before anybody records it.
  const { sealView } = launch({ origin: me.origin }).load('utils/sealed');
  const { events } = ledger.statement(ME);
  const now = Math.floor(ledger.clockUs / 1000);
  const known = { version: 45, credit: 141, held: 0 };
  return { me, verified, events, view: (listed, outcome = verified) => sealView(outcome, known, listed, now) };
}

test('what the page lists is compared with what was sealed, event by event', async (t) => {
  const { events, verified, view } = await listing(t);
  assert.deepEqual([events[0].version, events.at(-1).version, verified.events[0].version], [45, 26, 23]);
  const honest = view(events);
  assert.equal(honest.word, '已核验');
  assert.ok(honest.checked.includes('下面列出的明细，已封存的 18 条都和封存里的一样'), honest.checked.join());
  assert.doesNotMatch(honest.notes.join(), /没有列在下面|还没有和封存比对/);
  assert.equal(view([]).checked.join().includes('下面列出的'), false);

  const changed = (version, change) => events.map((event) => (event.version === version ? { ...event, ...change } : event));
  const { data } = events[5];
  const table = [
    [changed(40, { credit: 1 }), '页面上第 40 条记录的余额和封存的不一样。'],
    [changed(43, { type: 'CreditSpent' }), '页面上第 43 条记录的类型和封存的不一样。'],
    [changed(26, { recorded_at: events[1].recorded_at }), '页面上第 26 条记录的时间和封存的不一样。'],
    [changed(26, { recorded_at: 'today' }), '页面上第 26 条记录的时间和封存的不一样。'],
    [changed(40, { data: { ...data, amount: 2 } }), '页面上第 40 条记录的数额和封存的不一样。'],
    [changed(40, { data: undefined }), '页面上第 40 条记录的数额和封存的不一样。'],
    [changed(40, { data: { ...data, reason: 'gift' } }), '页面上第 40 条记录的说明和封存的不一样。'],
    [changed(40, { data: { ...data, reference: 'mine' } }), '页面上第 40 条记录的说明和封存的不一样。'],
    ...[events.filter(({ version }) => version !== 40), [...events, events[19]], [...events].reverse(), changed(45, { version: 'x' }),
      [...events.slice(0, 19), { ...events[19], version: 99 }], [{ ...events[0], version: 0 }]]
      .map((listed) => [listed, '页面上的明细不连续，缺了记录，或者多了记录。']),
  ];
  for (const [listed, why] of table) {
    const { tone, word, notes } = view(listed);
    assert.deepEqual([tone, word, notes[0]], ['bad', '核验失败', why]);
  }
  // What is not sealed yet can be anything: the notes say how much that is.
  const unsealed = view(changed(44, { credit: 5 }));
  assert.deepEqual([unsealed.word, unsealed.notes[1]], ['已核验', '最新的 2 条记录尚未封存，通常要等一分钟左右。']);
});

test('a list that lacks the newest, or reaches further down than the proof, is no lie, and is said', async (t) => {
  const { me, events, view } = await listing(t);
  const behind = view(events.slice(4));
  assert.deepEqual([behind.word, behind.checked.some((line) => line.includes('已封存的 16 条'))], ['已核验', true]);
  assert.match(behind.notes.join(), /还有 2 条更新的记录没有列在下面/);
  const all = me.given.ledger.statement(ME, Infinity, 50).events;
  // A page that the proof does not reach at all has nothing to compare.
  const older = view(all.slice(-10));
  assert.deepEqual([older.word, older.checked.join().includes('下面列出的')], ['已核验', false]);
  assert.match(older.notes.join(), /下面较早的明细还没有和封存比对/);
  const lied = all.map((event) => (event.version === 5 ? { ...event, credit: 1 } : event));
  const early = view(lied);
  assert.equal(early.word, '已核验');
  assert.match(early.notes.join(), /下面较早的明细还没有和封存比对/);
  // From 24 on: of the first proved event, 23, the content was not checked.
  assert.ok(early.checked.includes('下面列出的明细，已封存的 20 条都和封存里的一样'), early.checked.join());
  me.given.ledger.accounts.get(ME).events.splice(43); // As it was sealed.
  const further = await me.launch(me.origin).verify(1);
  assert.equal(view(lied, further).notes[0], '页面上第 5 条记录的余额和封存的不一样。');
  assert.ok(view(all, further).checked.includes('下面列出的明细，已封存的 43 条都和封存里的一样'));
});
