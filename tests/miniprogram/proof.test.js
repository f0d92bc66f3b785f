/** The checks that the phone makes, on known vectors and on proofs in which one thing is not true. */
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { test } from 'node:test';
import { launch } from './device.js';
import { bitAt, consistencyPath, eventHash, inclusionPath, join, SealedLedger, Signer, step, treeHash } from './sealing.js';

const device = launch({ origin: 'http://127.0.0.1:9' });
const bytes = device.load('utils/bytes');
const chain = device.load('utils/chain');
const merkle = device.load('utils/merkle');
const notes = device.load('utils/note');
const proofs = device.load('utils/proof');
const receipts = device.load('utils/receipt');
const { sign } = device.load('vendor/tweetnacl/nacl-fast');
const { hash } = device.load('vendor/fast-sha256/sha256');

const hex = (text) => Uint8Array.from(Buffer.from(text, 'hex'));
const joined = (hashes) => Uint8Array.from(Buffer.concat(hashes));
const fails = (code) => (error) => {
  assert.equal(error.name, 'ProofFailed', error.stack);
  assert.ok([code].flat().includes(error.code), `${error.code}, and not ${code}`);
  return true;
};

test('Ed25519 is that of RFC 8032', () => {
  const vectors = [
    ['d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a', '',
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b'],
    ['3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c', '72',
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00'],
    ['fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025', 'af82',
      '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a'],
  ];
  for (const [key, message, signature] of vectors) {
    assert.ok(sign.detached.verify(hex(message), hex(signature), hex(key)));
    for (const at of [0, 31, 32, 62]) {
      const wrong = hex(signature);
      wrong[at] ^= 1;
      assert.ok(!sign.detached.verify(hex(message), wrong, hex(key)), `byte ${at}`);
    }
    assert.ok(!sign.detached.verify(hex(`${message}00`), hex(signature), hex(key)));
  }
});

test('SHA-256 is that of FIPS 180, at every length around its blocks', () => {
  assert.equal(bytes.toHex(hash(bytes.utf8('abc'))), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  for (let length = 0; length < 200; length += 1) {
    const data = Uint8Array.from({ length }, (_, index) => (index * 7) & 255);
    assert.equal(bytes.toHex(hash(data)), crypto.createHash('sha256').update(data).digest('hex'));
  }
});

test('an event is hashed as the ledger does it', () => {
  const event = {
    version: 3, type: 'CreditGranted', data: '{"amount":7,"reason":"签到"}', credit: 107, key: 'k1',
    fingerprint: '00'.repeat(32), recorded_at_us: 1700000000000000,
  };
  const previous = bytes.toHex(Uint8Array.from({ length: 32 }, (_, index) => index));
  const openidHash = bytes.toHex(hash(bytes.utf8('oAnna')));
  assert.equal(chain.eventHash(previous, openidHash, event), '9dff574ae3e3ddfb846f5be50044116dc6a6fd18433dfbc40e9b4d8b0644740a');
  const registered = { version: 1, type: 'UserRegistered', data: '{}', credit: 0, key: null, fingerprint: null, recorded_at_us: 1 };
  assert.equal(chain.eventHash(chain.GENESIS, openidHash, registered), 'bed7f570c370bb4cc21ee14f553988939dbb34d30676257621e78a85accdabfa');
  const most = Number.MAX_SAFE_INTEGER;
  for (const change of [{ version: most }, { credit: most, recorded_at_us: most }, { key: '\u2014 \ud83d\ude00' }, { data: '积'.repeat(30000) },
    { key: null }, { fingerprint: null }]) {
    const other = { ...event, ...change };
    assert.equal(chain.eventHash(previous, openidHash, other), eventHash(previous, 'oAnna', other));
  }
});

/** The tree that Certificate Transparency's own tests use. */
const CT_ENTRIES = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'].map(hex);
const CT_ROOTS = new Map([
  [1, '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'],
  [3, 'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77'],
  [7, 'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c'],
  [8, '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328'],
]);

test('the tree is that of RFC 6962: its published roots, inclusion paths and consistency proofs', () => {
  for (const [size, root] of CT_ROOTS) {
    const entries = CT_ENTRIES.slice(0, size);
    entries.forEach((entry, place) => {
      assert.ok(merkle.included(merkle.leafHash(entry), place, size, joined(inclusionPath(place, entries)), hex(root)));
    });
  }
  const sixToEight = ['0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
    'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0', 'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7'];
  const six = '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef';
  assert.ok(merkle.consistent(6, 8, hex(six), hex(CT_ROOTS.get(8)), hex(sixToEight.join(''))));
  assert.ok(!merkle.consistent(6, 8, hex(CT_ROOTS.get(7)), hex(CT_ROOTS.get(8)), hex(sixToEight.join(''))));
});

test('for every size, a path leads to its own root only, and a changed, missing or added hash is seen', () => {
  const all = Array.from({ length: 20 }, (_, index) => Buffer.from(`entry ${index}`));
  const flipped = (path, at) => path.map((digest, index) => (index === at ? digest.map((each) => each ^ 1) : digest));
  for (let size = 1; size <= all.length; size += 1) {
    const entries = all.slice(0, size);
    const root = treeHash(entries);
    // A root that was signed may have been made for a longer path, of which the size knows nothing.
    const over = (digest) => crypto.createHash('sha256').update(Buffer.concat([Buffer.of(1), root, digest])).digest();
    entries.forEach((entry, place) => {
      const path = inclusionPath(place, entries);
      const holds = (steps, at = place, top = root) => merkle.included(merkle.leafHash(entry), at, size, joined(steps), top);
      assert.ok(holds(path));
      assert.ok(!holds(path, place + 1) && !holds(path, size) && !holds([...path, root]) && !holds(path, place, treeHash([])));
      assert.ok(!holds([...path, root], place, over(root)));
      path.forEach((_, at) => assert.ok(!holds(flipped(path, at)) && !holds(path.toSpliced(at, 1))));
      if (size > 1) assert.ok(!merkle.included(merkle.leafHash(entry), place, size, joined(path).slice(1), root));
    });
    for (let first = 1; first <= size; first += 1) {
      const path = consistencyPath(first, entries);
      const before = treeHash(entries.slice(0, first));
      const holds = (steps, one = before, two = root) => merkle.consistent(first, size, one, two, joined(steps));
      assert.ok(holds(path));
      assert.ok(!holds([...path, root]) && !holds(path, treeHash([])) && !holds(path, before, treeHash([])));
      assert.ok(!holds([...path, root], over(before), over(root)));
      path.forEach((_, at) => assert.ok(!holds(flipped(path, at)) && !holds(path.toSpliced(at, 1))));
    }
  }
  const leaf = merkle.leafHash(all[0]);
  assert.ok(!merkle.included(leaf, 0, 2, joined([]), leaf));
  assert.ok(!merkle.consistent(2, 1, treeHash(all), treeHash(all), joined([])));
  // Too short for so many entries; and of none, of which nothing can be said.
  const other = merkle.leafHash(all[1]);
  assert.ok(!merkle.consistent(1, 4, leaf, treeHash(all.slice(0, 2)), joined([other])));
  assert.ok(!merkle.consistent(3, 4, treeHash(all.slice(0, 3)), treeHash(all.slice(0, 4)), joined([])));
  assert.ok(!merkle.consistent(0, 2, leaf, treeHash(all.slice(0, 2)), joined([leaf, other])));
});

test('numbers beyond 2**53 are added and written to the last digit, without BigInt', () => {
  for (const [one, other] of [[0n, 0n], [255n, 1n], [2n ** 53n - 1n, 2n ** 53n + 1n], [10n ** 30n, 2n ** 100n - 1n]]) {
    const sum = bytes.add128(bytes.uint128(String(one)), bytes.uint128(String(other)));
    assert.equal(BigInt(`0x${bytes.toHex(sum)}`), one + other);
  }
  const most = bytes.uint128(String(2n ** 128n - 1n));
  assert.throws(() => bytes.add128(most, bytes.uint128('1')), bytes.Malformed);
  assert.throws(() => bytes.uint128(String(2n ** 128n)), bytes.Malformed);
  for (const number of [0, 1, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]) {
    assert.equal(BigInt(`0x${bytes.toHex(bytes.uint64(number))}`), BigInt(number));
  }
});

test('base64 and UTF-8 are read as others write them, and what is neither is refused', () => {
  for (let length = 0; length < 40; length += 1) {
    const data = crypto.randomBytes(length);
    assert.deepEqual(Buffer.from(bytes.fromBase64(data.toString('base64'))), data);
  }
  for (const wrong of ['A', 'AA', 'AAA', 'AA=A', 'AAAA=', 'AB==', 'AAB=', 'A\n==', 'AA-_', '====']) {
    assert.throws(() => bytes.fromBase64(wrong), bytes.Malformed, wrong);
  }
  for (const text of ['', 'abc', '\u2014 积分 \ud83d\ude00']) assert.deepEqual(Buffer.from(bytes.utf8(text)), Buffer.from(text));
  for (const half of ['\ud83d', '\ude00', 'a\ude00', '\ud83da']) assert.throws(() => bytes.utf8(half), bytes.Malformed);
});

test('a note counts with the signature of its own key, whoever else has signed it', () => {
  // The example of Go's golang.org/x/mod/sumdb/note, which is signed, but is no checkpoint.
  const neumann = notes.verifierOf('PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW');
  const words = 'If you think cryptography is the answer to your problem,\nthen you don\'t know what your problem is.\n';
  const signature = 'x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=';
  const quoted = `${words}\n\u2014 PeterNeumann ${signature}\n`;
  assert.throws(() => notes.signedCheckpoint(quoted, neumann, 'PeterNeumann'), bytes.Malformed);
  assert.equal(notes.signedCheckpoint(quoted.replace('answer', 'reason'), neumann, 'PeterNeumann'), null);
  const signer = new Signer('credit-ledger/wx1');
  const verifier = notes.verifierOf(signer.vkey);
  const text = `credit-ledger/wx1\n3\n${treeHash([]).toString('base64')}\n`;
  const note = signer.note(text);
  const opened = (given, origin = 'credit-ledger/wx1') => notes.signedCheckpoint(given, verifier, origin);
  assert.equal(opened(note).size, 3);
  const witness = new Signer('witness.example').note(text).slice(text.length + 1);
  assert.equal(opened(note + witness).size, 3);
  assert.equal(opened(`${text}\n${witness}${note.slice(text.length + 1)}`).size, 3);
  assert.equal(opened(signer.note(`${text}more 积分\n`)).size, 3);
  const stranger = new Signer('credit-ledger/wx1').note(text);
  assert.equal(opened(note + stranger.slice(text.length + 1)).size, 3, 'a key of the same name');
  const wrong = [
    text, `${text}\n`, `${text}\n${witness}`, stranger, note.slice(0, -1), note.replace('\n3\n', '\n4\n'), `${note}x\n`, ` ${note}`,
    note.replace('\u2014', '-'), note.replace(/.(\w\w\w=*)\n$/, '$1\n'),
    `${note}\u2014 credit-ledger/wx1 ${Buffer.concat([signer.id, Buffer.alloc(64)]).toString('base64')}\n`,
    `${text}\n\u2014 credit-ledger/wx1 ${Buffer.concat([signer.id, Buffer.alloc(62)]).toString('base64')}\n`,
  ];
  for (const given of wrong) {
    let checkpoint = null;
    try { checkpoint = opened(given); } catch (error) { assert.ok(error instanceof bytes.Malformed); }
    assert.equal(checkpoint, null, given);
  }
  assert.equal(opened(note, 'credit-ledger/wx1/receipts'), null);
  for (const size of ['0', '03', '-1', '9007199254740992']) {
    assert.throws(() => opened(signer.note(text.replace('3', size))), bytes.Malformed, size);
  }
});

test('a key is refused whose id is not its own, or that is no key of Ed25519', () => {
  const { vkey, id } = new Signer('credit-ledger/wx1');
  assert.equal(notes.verifierOf(vkey).name, 'credit-ledger/wx1');
  /** With the id that is its own, so that nothing but the key is wrong. */
  const keyed = (...typed) => {
    const name = 'credit-ledger/wx1';
    const own = crypto.createHash('sha256').update(`${name}\n`).update(Buffer.of(...typed)).digest('hex').slice(0, 8);
    return `${name}+${own}+${Buffer.of(...typed).toString('base64')}`;
  };
  const key = crypto.randomBytes(32);
  assert.deepEqual(Buffer.from(notes.verifierOf(keyed(1, ...key)).key), key);
  for (const wrong of ['', 'a+b+c', vkey.slice(1), vkey.replace(id.toString('hex'), '00000000'), `${vkey}AAAA`, vkey.replace('wx1', 'wx 1'),
    keyed(2, ...key), keyed(1, ...key, 0), keyed(1, ...key.subarray(1))]) {
    assert.throws(() => notes.verifierOf(wrong), bytes.Malformed, wrong);
  }
});

const ME = 'oMe';

/** A ledger of some people in which I have done all that there is, sealed three times. */
function ledgerOfMine(signer = undefined) {
  const ledger = new SealedLedger(signer);
  const parts = (amount) => [{ amount }];
  const by = { reason: 'x', actor: 'key:1' };
  for (let other = 0; other < 9; other += 1) ledger.register(`oOther${other}`, 2 ** 53 - 1);
  ledger.register(ME, 100);
  ledger.seal();
  ledger.record(ME, 'CheckedIn', { day: 20780, streak: 1, rules: '1' });
  ledger.record(ME, 'CreditSpent', { amount: 30, used: parts(30), ...by }, -30, 0, 'spend');
  ledger.record(ME, 'CreditHeld', { amount: 20, used: parts(20), deadline_us: 1, ...by }, -20, 20, '预留');
  ledger.record(ME, 'CreditHeld', { amount: 7, used: parts(7), deadline_us: 1, ...by }, -7, 7);
  ledger.seal();
  ledger.record(ME, 'HoldCaptured', { hold: 5, amount: 12, used: parts(12), returned: parts(5), expired: 3, ...by }, 5, -20);
  ledger.record(ME, 'SpendReversed', { spend: 4, amount: 10, returned: parts(8), expired: 2, ...by }, 8);
  ledger.record(ME, 'GrantRevoked', { grant: 2, amount: 3, spent: 0, held: 0, ...by }, -3);
  ledger.record(ME, 'CreditExpired', { amount: 2, parts: parts(2), ...by }, -2);
  ledger.record(ME, 'AccountFrozen', by);
  ledger.seal();
  return ledger;
}

const mine = ledgerOfMine();
const verifier = notes.verifierOf(mine.signer.vkey);
const check = (proof, before = null) => proofs.checkProof(proofs.proofOf(proof), verifier, before);
/** What was proved when so many of my events were sealed. */
function provedAt(version) {
  const { hash: head, credit } = mine.accounts.get(ME).events[version - 1];
  return { ...check(mine.proof(ME)).proved, version, head, credit, held: version < 5 ? 0 : version < 6 ? 20 : version < 7 ? 27 : 7 };
}

test('a proof is proved, also where the total is beyond 2**53', () => {
  const { proved, lost } = check(mine.proof(ME));
  const { openidHash, version, credit, held, summed, sealNumber, sealedAtUs } = proved;
  assert.equal(openidHash, crypto.createHash('sha256').update(ME).digest('hex'));
  assert.deepEqual([version, credit, held, summed, sealNumber, sealedAtUs, lost], [11, 51, 7, true, 3, mine.clockUs, 0]);
  const [, outstanding] = /outstanding (\d+)/.exec(mine.proof(ME).seal.entry);
  assert.ok(BigInt(outstanding) > 2n ** 53n && !Number.isSafeInteger(Number(outstanding)));
  for (const openid of mine.accounts.keys()) assert.equal(check(mine.proof(openid)).proved.sealNumber, 3);
  const alone = new SealedLedger();
  alone.register(ME, 5);
  alone.seal('lost 2\n');
  assert.equal(proofs.checkProof(proofs.proofOf(alone.proof(ME)), notes.verifierOf(alone.signer.vkey), null).lost, 2);
});

test('from any version that was proved before, the events behind it are enough', () => {
  for (const version of [1, 2, 4, 6, 7, 11]) {
    for (const after of new Set([0, version >> 1, version - 1])) {
      assert.equal(check(mine.proof(ME, after), provedAt(version)).proved.credit, 51);
    }
    if (version < 11) assert.throws(() => check(mine.proof(ME, version), provedAt(version)), fails('events'));
  }
});

/** Every value in `value`, with what sets another one there. */
function* places(value, path = []) {
  for (const [name, inner] of Object.entries(value)) {
    if (inner && typeof inner === 'object') yield* places(inner, [...path, name]);
    else yield [...path, name];
  }
}

function others(value) {
  if (value === null) return [0, 'x'];
  if (typeof value === 'number') return [value + 1, value - 1, -1, 0.5, String(value), null, 2 ** 53];
  const changed = Array.from(value).map((letter, at) => value.slice(0, at) + (letter === '1' ? '2' : '1') + value.slice(at + 1));
  const some = changed.filter((_, at) => at % Math.ceil(changed.length / 4) === 0);
  // A list of one text is written like that text, and hashed like it.
  return [...some, changed.at(-1), value.slice(1), value.slice(0, -1), `${value}A`, [value], '', null, 7].filter((other) => other !== undefined && other !== value);
}

test('every field of a proof that is not as it was sealed is found', () => {
  let tampered = 0;
  for (const path of places(mine.proof(ME))) {
    const field = path.at(-1);
    const value = path.reduce((inner, name) => inner[name], mine.proof(ME));
    for (const other of others(value)) {
      const proof = mine.proof(ME);
      path.slice(0, -1).reduce((inner, name) => inner[name], proof)[field] = other;
      const many = ['malformed', 'key', 'signature', 'log', 'tree', 'events', 'chain'];
      // next_after is not checked but followed.
      if (path[0] === 'next_after' && Number.isInteger(other)) continue;
      assert.throws(() => check(proof), fails(many), `${path.join('.')}: ${other}`);
      tampered += 1;
    }
  }
  assert.ok(tampered > 500, tampered);
  for (const name of ['vkey', 'openid_hash', 'version', 'head', 'credit', 'held', 'path', 'seal', 'inclusion', 'events', 'next_after']) {
    assert.throws(() => check({ ...mine.proof(ME), [name]: undefined }), fails('malformed'), name);
  }
});

test('what is not true is told by its own sentence', () => {
  const told = (change, code, before = null) => {
    const proof = mine.proof(ME);
    change(proof);
    assert.throws(() => check(proof, before), fails(code), change.toString());
  };
  const stranger = new Signer(mine.signer.name);
  told((proof) => { proof.vkey = stranger.vkey; }, 'key');
  told((proof) => { proof.vkey = new Signer('credit-ledger/other').vkey; }, 'key');
  const { privateKey } = mine.signer;
  const renamed = new Signer('credit-ledger/other', { privateKey, publicKey: crypto.createPublicKey(privateKey) });
  told((proof) => { proof.vkey = renamed.vkey; }, 'key');
  told((proof) => { proof.seal.note = stranger.checkpoint(stranger.name, mine.entries); }, 'signature');
  told((proof) => { proof.seal.note = mine.signer.checkpoint(`${mine.signer.name}/receipts`, mine.entries); }, 'signature');
  told((proof) => { proof.seal.entry = mine.entries[1].toString(); }, 'log');
  told((proof) => { proof.seal.entry = proof.seal.entry.replace(/events \d+/, 'events 1'); }, 'log');
  told((proof) => { proof.seal.entry = proof.seal.entry.replace('number 3', 'number 03'); }, 'malformed');
  told((proof) => { proof.seal.note = mine.signer.checkpoint(mine.signer.name, mine.entries.slice(0, 2)); }, 'log');
  told((proof) => { proof.credit += 1; }, 'tree');
  told((proof) => { proof.held = 0; }, 'tree');
  told((proof) => { proof.path = mine.proof('oOther1').path; }, ['tree', 'malformed']);
  told((proof) => { proof.path = Buffer.from(proof.path, 'base64').subarray(0, -1).toString('base64'); }, 'malformed');
  told((proof) => { proof.path = Buffer.concat([Buffer.of(7, 17), Buffer.alloc(49)]).toString('base64'); }, 'malformed');
  told((proof) => { proof.events.pop(); }, 'events');
  told((proof) => { proof.events.shift(); }, 'events');
  told((proof) => { proof.events.splice(4, 1); }, 'events');
  told((proof) => { [proof.events[3], proof.events[4]] = [proof.events[4], proof.events[3]]; }, 'events');
  told((proof) => { proof.events[4].recorded_at_us = 5; }, 'events');
  told((proof) => { proof.events = []; }, 'events');
  // The last event as if it were older than what was proved: its content is not looked at.
  told((proof) => { proof.events = [{ ...proof.events.pop(), version: 3 }]; }, 'events', provedAt(8));
  told((proof) => { proof.events = proof.events.slice(4); proof.events[0].hash = [proof.events[0].hash]; }, 'malformed', provedAt(8));
  told((proof) => { proof.events[5].credit += 1; }, 'chain');
  told((proof) => { proof.events[1].data = proof.events[1].data.replace('100', '101'); }, 'chain');
  told((proof) => { proof.events[2].data = '{'; }, 'chain');
  told((proof) => { proof.events[4].type = '\ud800'; }, 'malformed');
  told(() => {}, 'account', { ...provedAt(6), openidHash: '00'.repeat(32) });
  told(() => {}, 'rewound', { ...provedAt(11), version: 12 });
  told(() => {}, 'rewritten', { ...provedAt(6), head: '00'.repeat(32) });
  told(() => {}, 'rewritten', { ...provedAt(6), credit: 5 });
});

/**
 * The proof of an operator who changed my event `at` and signed what came of it, and the hashes of so many events:
 * of none, of that one, or of all from there on.
 */
function forged(at, change, rehashed) {
  const ledger = ledgerOfMine(mine.signer);
  const { events } = ledger.accounts.get(ME);
  change(events[at]);
  events.slice(at, at + rehashed).forEach((event) => {
    const previous = events[event.version - 2];
    event.hash = eventHash(previous ? previous.hash : chain.GENESIS, ME, event);
  });
  ledger.entries.pop();
  ledger.seal();
  return ledger.proof(ME);
}

/** Each column of an event, and what makes another of it. */
const COLUMNS = {
  version: (event) => { event.version += 100; },
  type: (event) => { event.type += 'd'; },
  data: (event) => { event.data = event.data.replace('{', '{"more":1,'); },
  credit: (event) => { event.credit += 1; },
  key: (event) => { event.key = event.key === null ? 'k' : `${event.key}k`; },
  fingerprint: (event) => { event.fingerprint = event.fingerprint === null ? '00'.repeat(32) : null; },
  recorded_at_us: (event) => { event.recorded_at_us += 1; },
};

test('an event whose content is not what its hash is of is found, though all else is signed', () => {
  const last = mine.accounts.get(ME).events.length - 1;
  for (const before of [null, provedAt(1), provedAt(2)]) {
    for (const at of [2, 4, 7, last]) {
      for (const [column, change] of Object.entries(COLUMNS)) {
        const wrong = fails(column === 'version' ? 'events' : 'chain');
        assert.throws(() => check(forged(at, change, 0), before), wrong, `${column} of ${at}`);
        // Hashed anew it fits itself, and no longer what follows; or what came before, where the credit is counted.
        const rehashed = column === 'credit' ? fails('amounts') : wrong;
        if (at < last) assert.throws(() => check(forged(at, change, 1), before), rehashed, `${column} of ${at}, hashed`);
      }
      assert.throws(() => check(forged(at, (event) => { event.hash = '00'.repeat(32); }, 0), before), fails('chain'), `hash of ${at}`);
    }
  }
  assert.equal(check(forged(4, () => {}, 99)).proved.credit, 51);
  // Two events can be of one moment.
  const { recorded_at_us: before } = mine.accounts.get(ME).events[3];
  assert.equal(check(forged(4, (event) => { event.recorded_at_us = before; }, 99)).proved.credit, 51);
});

test('a chain that is right in itself is another one to whoever has checked it before', () => {
  for (const column of ['data', 'key', 'fingerprint', 'recorded_at_us']) {
    const proof = forged(4, COLUMNS[column], 99);
    assert.equal(check(proof).proved.credit, 51, column);
    for (const version of [5, 8, 11]) {
      assert.throws(() => check(proof, provedAt(version)), fails('rewritten'), `${column}, ${version}`);
      assert.throws(() => check({ ...proof, events: proof.events.slice(version - 1) }, provedAt(version)), fails('rewritten'));
    }
  }
});

test('a chain that is right in itself is not the one that was sealed, though it comes to as much', () => {
  for (const column of ['data', 'key', 'fingerprint', 'recorded_at_us']) {
    for (const at of [4, mine.accounts.get(ME).events.length - 1]) {
      const { events } = forged(at, COLUMNS[column], 99);
      assert.throws(() => check({ ...mine.proof(ME), events }), fails('events'), `${column} of ${at}`);
    }
  }
});

test('a first event has none before it, and the chain is of this account', () => {
  const told = (build) => {
    const ledger = new SealedLedger(mine.signer);
    ledger.register('oOther');
    ledger.register(ME);
    build(ledger.accounts.get(ME).events);
    ledger.seal();
    assert.throws(() => check(ledger.proof(ME)), fails('chain'));
  };
  const chained = (events, previous, openid) => events.forEach((event, at) => {
    event.hash = eventHash(at > 0 ? events[at - 1].hash : previous, openid, event);
  });
  told((events) => chained(events, '11'.repeat(32), ME));
  told((events) => chained(events, chain.GENESIS, 'oOther'));
});

test('amounts that do not add up are told, also where all of it is hashed and signed', () => {
  const facts = (change) => (event) => { event.data = JSON.stringify({ ...JSON.parse(event.data), ...change }); };
  const text = (data) => (event) => { event.data = data; };
  const told = (at, change, code) => assert.throws(() => check(forged(at, change, 99)), fails(code), `${at}: ${change}`);
  told(5, (event) => { event.credit += 1; }, 'amounts');
  told(1, facts({ amount: 101 }), 'amounts');
  told(4, facts({ amount: 21 }), 'amounts');
  told(6, facts({ expired: 4 }), 'amounts');
  told(6, facts({ returned: 5 }), 'malformed');
  told(6, facts({ returned: [null] }), 'malformed');
  told(6, facts({ returned: [5] }), 'malformed');
  told(2, text('{'), 'malformed');
  told(2, text('null'), 'malformed');
  told(2, text('5'), 'malformed');
  // A leaf of another credit than its last event.
  const type = 'CreditLent';
  const event = { ...mine.accounts.get(ME).events[10], type };
  event.hash = eventHash(mine.accounts.get(ME).events[9].hash, ME, event);
  const proof = forged(10, (last) => Object.assign(last, event, { credit: 999 }), 0);
  proof.events[10] = event;
  assert.throws(() => check(proof), fails('events'));
});

test('the operator himself cannot sign a seal that is not what its entry says', () => {
  const signed = (change, path = (given) => given) => {
    const ledger = ledgerOfMine();
    ledger.entries[2] = Buffer.from(change(ledger.entries[2].toString()));
    const proof = ledger.proof(ME);
    return () => proofs.checkProof({ ...proof, path: path(proof.path) }, notes.verifierOf(ledger.signer.vkey), null);
  };
  signed((entry) => entry)();
  assert.throws(signed((entry) => entry.replace('number 3', 'number 4')), fails('log'));
  assert.throws(signed((entry) => entry.replace(/outstanding (\d+)/, (_, sum) => `outstanding ${BigInt(sum) + 1n}`)), fails('tree'));
  assert.throws(signed((entry) => entry.replace(/root .*/, `root ${'00'.repeat(32)}`)), fails('tree'));
  assert.throws(signed((entry) => entry.replace(/sealed_at_us .*/, `sealed_at_us ${2 ** 53}`)), fails('malformed'));
  assert.throws(signed((entry) => `${entry}lost ${2 ** 53}\n`), fails('malformed'));
  // One step more, at the depth of the root again: the same leaf would be in two places.
  const depth = Buffer.from(mine.proof(ME).path, 'base64').readUInt8(0);
  const more = step(depth, { hash: Buffer.alloc(32), sum: 0n });
  const twice = (path) => Buffer.concat([more, Buffer.from(path, 'base64')]).toString('base64');
  assert.throws(signed((entry) => entry, twice), fails('malformed'));
});

test('of two leaves of my account in one root, one can be proved, whatever the depth that its path claims', () => {
  // A lie that is signed: what I have, and what I had before my last event, in one tree under one seal.
  const ledgers = [5, 0].map((amount) => {
    const ledger = new SealedLedger(mine.signer);
    ledger.register(ME, 100);
    if (amount > 0) ledger.grant(ME, amount);
    ledger.seal();
    return ledger;
  });
  const leaves = ledgers.map((ledger) => ledger.leaf(ME));
  const depths = [0, 1, 2, 3, 7, 8, 254, 255];
  const sides = depths.map((depth) => bitAt(leaves[0].key, depth));
  assert.deepEqual([...new Set(sides)].sort(), [0, 1]);
  for (const [at, depth] of depths.entries()) {
    const { hash: root, sum } = join(depth, ...leaves);
    const entry = ledgers[0].entries[0].toString()
      .replace(/outstanding .*/, `outstanding ${sum}`).replace(/root .*/, `root ${root.toString('hex')}`);
    const proved = [];
    for (const [side, ledger] of ledgers.entries()) {
      ledger.entries = [Buffer.from(entry)];
      for (const claimed of depths) {
        const proof = { ...ledger.proof(ME), path: step(claimed, leaves[1 - side]).toString('base64') };
        try {
          proved.push([side, claimed, check(proof).proved.credit]);
        } catch (error) {
          fails('tree')(error);
        }
      }
    }
    assert.deepEqual(proved, [[sides[at], depth, [105, 100][sides[at]]]]);
  }
});

test('a step may carry a sum of all its 16 bytes', () => {
  const ledger = new SealedLedger(mine.signer);
  ledger.register(ME, 100);
  ledger.seal();
  const leaf = ledger.leaf(ME);
  const others = { hash: Buffer.alloc(32, 7), sum: 2n ** 127n };
  const { hash: root, sum } = join(0, ...(bitAt(leaf.key, 0) ? [others, leaf] : [leaf, others]));
  ledger.entries = ledger.entries.map((entry) => Buffer.from(entry.toString()
    .replace(/outstanding .*/, `outstanding ${sum}`).replace(/root .*/, `root ${root.toString('hex')}`)));
  assert.equal(check({ ...ledger.proof(ME), path: step(0, others).toString('base64') }).proved.credit, 100);
});

test('of a hold that was released nothing is held any more', () => {
  const ledger = new SealedLedger(mine.signer);
  ledger.register(ME, 100);
  ledger.record(ME, 'CreditHeld', { amount: 20, used: [{ amount: 20 }] }, -20, 20);
  ledger.record(ME, 'HoldReleased', { hold: 3, amount: 20, returned: [{ amount: 15 }], expired: 5 }, 15, -20);
  ledger.seal();
  const { proved } = check(ledger.proof(ME));
  assert.deepEqual([proved.credit, proved.held, proved.summed], [95, 0, true]);
});

test('types of a later service are taken over, and not said to have been added up', () => {
  const ledger = new SealedLedger(mine.signer);
  ledger.register(ME, 100);
  ledger.record(ME, 'CreditLent', { amount: 30 }, -30, 11);
  ledger.grant(ME, 1);
  ledger.seal();
  const { proved } = check(ledger.proof(ME));
  assert.deepEqual([proved.credit, proved.held, proved.summed], [71, 11, false]);
  ledger.grant(ME, 1);
  ledger.seal();
  assert.equal(check(ledger.proof(ME, 3), proved).proved.summed, false);
  const other = new SealedLedger(mine.signer);
  other.register(ME, 100);
  other.record(ME, 'CreditHeld', { amount: 20, used: [{ amount: 20 }] }, -20, 20);
  other.record(ME, 'HoldCaptured', { hold: 3, amount: 5, used: [{ amount: 5 }], expired: 'all' }, 0, -20);
  other.seal();
  assert.equal(check(other.proof(ME)).proved.summed, false);
});

test('the log of seals goes on from an earlier note, or is a fork', () => {
  const noteAt = (size, ledger = mine) => ledger.signer.checkpoint(ledger.signer.name, ledger.entries.slice(0, size));
  for (const [first, second] of [[1, 1], [1, 2], [1, 3], [2, 3], [3, 3]]) {
    const { path } = mine.consistency(first, second);
    proofs.checkConsistency(noteAt(first), noteAt(second), path);
    const fork = new SealedLedger(mine.signer);
    fork.register('oY');
    for (let round = 0; round < 3; round += 1) fork.seal();
    if (first === second) assert.throws(() => proofs.checkConsistency(noteAt(first), noteAt(second, fork), path), fails('forked'));
    assert.throws(() => proofs.checkConsistency(noteAt(first, fork), noteAt(second), path.slice(4)), fails(['forked', 'malformed']));
    for (const wrong of [`${path}AAAA`, undefined, null, 'x', 7]) {
      assert.throws(() => proofs.checkConsistency(noteAt(first), noteAt(second), wrong), fails(['forked', 'malformed']));
    }
  }
  const other = new SealedLedger(mine.signer);
  other.register('oX');
  for (let round = 0; round < 3; round += 1) other.seal();
  assert.throws(() => proofs.checkConsistency(noteAt(2), noteAt(3, other), other.consistency(2, 3).path), fails('forked'));
  assert.throws(() => proofs.checkConsistency(noteAt(2), noteAt(3, other), mine.consistency(2, 3).path), fails('forked'));
});

test('a receipt is a promise: kept, not due yet, missing or contradicted', () => {
  const ledger = new SealedLedger(mine.signer);
  ledger.register('oOther');
  ledger.register(ME, 100);
  const receipt = receipts.checkReceipt(ledger.receipt(ME), verifier);
  const early = { openidHash: receipt.openid_hash, version: 1, sealedAtUs: receipt.recorded_at_us + 59999999 };
  assert.equal(receipts.isKept(receipt, early, []), false);
  assert.throws(() => receipts.isKept(receipt, { ...early, sealedAtUs: receipt.recorded_at_us + 60000000 }, []), fails('missing'));
  ledger.grant(ME, 5);
  ledger.seal();
  const { proved } = check(ledger.proof(ME));
  const { events } = ledger.proof(ME);
  assert.equal(receipts.isKept(receipt, proved, events), true);
  assert.equal(receipts.isKept(receipt, { ...proved, version: receipt.version }, events), true, 'the last one sealed');
  assert.throws(() => receipts.isKept(receipt, { ...proved, openidHash: '00'.repeat(32) }, events), fails('account'));
  for (const [field, value] of [['hash', '00'.repeat(32)], ['credit', 5], ['recorded_at_us', 5]]) {
    const changed = events.map((event) => (event.version === 2 ? { ...event, [field]: value } : event));
    assert.throws(() => receipts.isKept(receipt, proved, changed), fails('contradicted'), field);
  }
  assert.throws(() => receipts.isKept(receipt, proved, []), fails('contradicted'));
  for (const [field] of places(receipt)) {
    for (const other of others(receipt[field])) {
      const tampered = () => receipts.checkReceipt({ ...receipt, [field]: other }, verifier);
      assert.throws(tampered, fails(['receipt', 'malformed']), `${field}: ${other}`);
    }
  }
  assert.throws(() => receipts.checkReceipt(receipt, notes.verifierOf(new Signer(mine.signer.name).vkey)), fails('receipt'));
});
