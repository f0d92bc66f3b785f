/** The phone's own audit: it fetches its proof, checks it, and remembers what was proved and promised. */
const config = require('../config');
const session = require('./session');
const { sentenceFor } = require('./failure');
const { ProofFailed, must } = require('./proof-failed');
const { checkConsistency, checkProof, checkpointIn, keyOf, proofOf } = require('./proof');
const { checkReceipt, isKept } = require('./receipt');
const { HttpError, NetworkError, request } = require('./request');
const { reaches } = require('./listed');
const { PAGE_SIZE } = require('./statement');

/** The log of seals as it was last seen: it is nobody's own, so it outlives a logout. */
const LOG_KEY = 'seals';
const PROVED_KEY = 'proved';
const RECEIPTS_KEY = 'receipts';
/** What was kept under another key than the built-in one: nothing is compared with it, but it may be evidence. */
const FORMER_KEY = 'former';
const MAX_RECEIPTS = 100;

/**
 * @typedef {import('./proof').Proof} Proof
 * @typedef {import('./proof').Proved} Proved
 * @typedef {import('./receipt').Receipt} Receipt
 * @typedef {{vkey: string, note: string}} KnownLog
 * @typedef {{log: KnownLog | null, proved: Proved | null}} Known
 * @typedef {object} Verified
 * @property {'verified'} state
 * @property {Proved} proved
 * @property {import('./proof').ProvedEvent[]} events the newest of the events that were proved, for the list on the page
 * @property {'built-in' | 'first-seen' | 'remembered'} key where the public key is from that was used
 * @property {number | null} since the seal seen before, which this one goes on from
 * @property {number} kept receipts that the proof was compared with
 * @property {number} waiting receipts of what is not sealed yet
 * @property {number} lost events that the operator owns up to having lost right before this seal
 * @property {boolean} renewed what this phone had checked before was under another key, and is put aside
 * @typedef {Verified | {state: 'unsealed'} | {state: 'failed', why: string}
 *   | {state: 'unchecked', offline: boolean, why: string, last: Proved | null}} Verification
 */

/** @type {Promise<Receipt[]> | null} the one list, read once and changed in place */
let receipts = null;
/** @type {{oldest: number, done: Promise<Verification>} | null} */
let verifying = null;

/** @param {string} key */
function kept(key) {
  return wx.getStorage({ key }).then(({ data }) => data, () => null);
}

/**
 * With a full storage the next check compares with what was kept before.
 * @param {string} key
 * @param {object} data
 */
async function keep(key, data) {
  await wx.setStorage({ key, data }).catch(() => {});
}

function keptReceipts() {
  receipts = receipts || kept(RECEIPTS_KEY).then((list) => list || []);
  return receipts;
}

/**
 * Keeps a receipt until a seal has what it promises.
 * @param {Receipt} receipt
 */
async function keepReceipt(receipt) {
  const list = await keptReceipts();
  list.push(receipt);
  list.splice(0, list.length - MAX_RECEIPTS);
  await keep(RECEIPTS_KEY, list);
}

/**
 * The proof with the events behind that version. A seal that is made between two pages makes no difference:
 * events are only ever added, and the last page's leaf is that of all of them.
 * @param {number} version
 * @returns {Promise<Proof>}
 */
async function fetchProof(version) {
  /** @type {import('./proof').ProvedEvent[]} */
  const events = [];
  for (let after = version; ;) {
    const proof = proofOf(await session.authorized({ path: `/v1/me/proof${after > 0 ? `?after=${after}` : ''}` }));
    events.push(...proof.events);
    if (proof.next_after === null) return { ...proof, events };
    must(proof.next_after > after, 'malformed'); // Or it would go on for ever.
    after = proof.next_after;
  }
}

/**
 * That the log of seals goes on from what was seen of it before, if anything was.
 * @param {KnownLog | null} log
 * @param {string} note
 * @returns {Promise<number | null>} the number of the seal seen before
 */
async function checkLog(log, note) {
  if (!log) return null;
  const [first, second] = [checkpointIn(log.note).size, checkpointIn(note).size];
  must(second >= first, 'rewound');
  checkConsistency(log.note, note, first === second ? '' : await consistencyPath(first, second));
  return first;
}

/**
 * @param {number} first
 * @param {number} second
 */
async function consistencyPath(first, second) {
  try {
    return (await request({ path: `/v1/seals/${first}/consistency/${second}` })).path;
  } catch (error) {
    if (error instanceof HttpError && error.code === 'seal-not-found') throw new ProofFailed('forked');
    throw error;
  }
}

/**
 * What this phone goes on from: nothing, where the mini-program comes with another key than that was checked with.
 * Without a built-in key the one that was seen first stays, or anybody could bring a new one.
 * @returns {Promise<Known & {former: Known | null}>}
 */
async function knownSoFar() {
  const [log, proved] = await Promise.all([kept(LOG_KEY), kept(PROVED_KEY)]);
  const renewed = log && config.sealKey && config.sealKey !== log.vkey;
  return renewed ? { log: null, proved: null, former: { log, proved } } : { log, proved, former: null };
}

/**
 * Whether the receipt is of the log that goes on: after a change of the built-in key there are some of before.
 * @param {Receipt} receipt
 * @param {import('./note').Verifier} verifier
 */
function isOf(receipt, verifier) {
  try {
    checkReceipt(receipt, verifier);
    return true;
  } catch (error) {
    if (error instanceof ProofFailed) return false;
    throw error;
  }
}

/**
 * The first event that a check needs. The content of the first one that comes cannot be checked, so there is one
 * more before those that are compared: with the list on the page, at least its first stretch, and with receipts.
 * @param {Proved | null} before
 * @param {Receipt[]} held
 * @param {number} oldest that the page lists
 */
function firstNeeded(before, held, oldest) {
  if (!before) return 1;
  const compared = [before.version - PAGE_SIZE + 1, oldest, ...held.map(({ version }) => version)];
  return Math.max(Math.min(...compared) - 1, 1);
}

/**
 * @param {Known & {former: Known | null}} known
 * @param {number} oldest that the page lists
 * @returns {Promise<Verification>}
 */
async function check({ log, proved: before, former }, oldest) {
  const trusted = config.sealKey || (log && log.vkey);
  const all = (await keptReceipts()).slice();
  const held = former ? all.filter((receipt) => isOf(receipt, keyOf(config.sealKey))) : all.slice();
  const from = firstNeeded(before, held, oldest);
  const proof = await fetchProof(from - 1);
  const vkey = trusted || proof.vkey;
  const verifier = keyOf(vkey);
  const { proved, lost } = checkProof(proof, verifier, before);
  must(reaches(proof.events, from + 1), 'events');
  const since = await checkLog(log, proof.seal.note);
  const done = held.filter((receipt) => isKept(checkReceipt(receipt, verifier), proved, proof.events));
  if (await session.isLoggedOut()) throw new session.LoggedOut(); // Meanwhile: nothing is kept any more.
  const list = await keptReceipts();
  const aside = former ? all.filter((receipt) => !held.includes(receipt)) : [];
  list.splice(0, list.length, ...list.filter((receipt) => !done.includes(receipt) && !aside.includes(receipt)));
  if (former) await keep(FORMER_KEY, { ...former, receipts: aside });
  const renewed = former !== null || await kept(FORMER_KEY) !== null;
  await Promise.all([
    keep(LOG_KEY, { vkey, note: proof.seal.note }), keep(PROVED_KEY, proved), keep(RECEIPTS_KEY, list),
  ]);
  const key = config.sealKey ? 'built-in' : trusted ? 'remembered' : 'first-seen';
  const listed = Math.min(proved.version - PAGE_SIZE + 1, oldest);
  const events = proof.events.filter(({ version }) => version >= listed - 1);
  return { state: 'verified', proved, events, key, since, kept: done.length, waiting: list.length, lost, renewed };
}

/**
 * @param {number} oldest
 * @returns {Promise<Verification>}
 */
async function outcome(oldest) {
  const start = await knownSoFar();
  const before = start.proved;
  try {
    return await check(start, oldest);
  } catch (error) {
    if (error instanceof ProofFailed) return { state: 'failed', why: error.message };
    if (error instanceof HttpError && error.code === 'not-sealed') {
      return before ? { state: 'failed', why: new ProofFailed('rewound').message } : { state: 'unsealed' };
    }
    return { state: 'unchecked', offline: error instanceof NetworkError, why: sentenceFor(error), last: before };
  }
}

/**
 * Checks the account's proof, and remembers what it proved. No network and no answer are no failed check;
 * after a failed one, everything stays that was kept before.
 * @param {number} [oldest] the lowest version that the page lists: the outcome has the events from there on
 * @returns {Promise<Verification>}
 */
function verify(oldest = Infinity) {
  if (verifying && verifying.oldest <= oldest) return verifying.done;
  // One that has begun already did not ask for so much, and what it keeps is what this one goes on from.
  const earlier = verifying ? verifying.done : Promise.resolve();
  const run = { oldest, done: earlier.then(() => outcome(oldest)).finally(() => { if (verifying === run) verifying = null; }) };
  verifying = run;
  return run.done;
}

/** Leaves nothing of the user on this device. */
async function forget() {
  receipts = null;
  await Promise.all([PROVED_KEY, RECEIPTS_KEY, FORMER_KEY].map((key) => wx.removeStorage({ key })));
}

module.exports = { forget, keepReceipt, verify };
