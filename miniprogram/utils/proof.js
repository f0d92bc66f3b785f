/**
 * What this phone can check of its own account's proof, by itself: everything here is a function of its
 * arguments. docs/proofs.md explains the formats. The phone never learns its openid, and needs only its hash.
 */
const { add128, concat, equal, fromBase64, fromHex, uint64, uint128, utf8 } = require('./bytes');
const { GENESIS, eventHash } = require('./chain');
const { statedChange } = require('./events');
const { consistent, included, leafHash } = require('./merkle');
const { checkpointOf, signedCheckpoint, verifierOf } = require('./note');
const { ProofFailed, isCount, isHash, isText, must, readable } = require('./proof-failed');
const { hash } = require('../vendor/fast-sha256/sha256');

/**
 * @typedef {import('./note').Verifier} Verifier
 * @typedef {object} ProvedEvent
 * @property {number} version
 * @property {string} type
 * @property {string} data
 * @property {number} credit
 * @property {string | null} key
 * @property {string | null} fingerprint
 * @property {number} recorded_at_us
 * @property {string} hash
 *
 * @typedef {object} Proof as GET /v1/me/proof answers; `events` are those of all its pages
 * @property {string} vkey
 * @property {string} openid_hash
 * @property {number} version
 * @property {string} head
 * @property {number} credit
 * @property {number} held
 * @property {string} path
 * @property {{entry: string, note: string}} seal what else it has there is only the entry again, and is not read
 * @property {string} inclusion
 * @property {ProvedEvent[]} events
 * @property {number | null} next_after
 *
 * @typedef {{number: number, sealedAtUs: number, outstanding: string, root: string, lost: number}} Seal
 * @typedef {object} Proved the account as a seal has it
 * @property {string} openidHash
 * @property {number} version
 * @property {string} head
 * @property {number} credit
 * @property {number} held
 * @property {boolean} summed whether all amounts were understood and come to credit and held
 * @property {number} sealNumber
 * @property {number} sealedAtUs
 */

/**
 * An answer of the service may be anything; behind this it has the types that the checks count on.
 * @param {any} proof
 * @returns {Proof}
 */
function proofOf(proof) {
  const { seal, events } = proof;
  must([proof.vkey, proof.path, proof.inclusion].every(isText), 'malformed');
  must(isHash(proof.openid_hash) && isHash(proof.head), 'malformed');
  must([proof.version, proof.credit, proof.held].every(isCount), 'malformed');
  must(seal && isText(seal.entry) && isText(seal.note) && Array.isArray(events), 'malformed');
  must(events.every((/** @type {any} */ event) => event && isText(event.type) && isText(event.data) && isHash(event.hash)
    && (event.key === null || isText(event.key)) && (event.fingerprint === null || isHash(event.fingerprint))
    && [event.version, event.credit, event.recorded_at_us].every(isCount) && event.version > 0), 'malformed');
  must(proof.next_after === null || isCount(proof.next_after), 'malformed');
  return proof;
}

/**
 * @param {string} vkey
 * @returns {Verifier}
 */
function keyOf(vkey) {
  return readable(() => verifierOf(vkey));
}

/**
 * @param {string} entry
 * @returns {Seal}
 */
function sealOf(entry) {
  const found = new RegExp('^credit-ledger seal v1\nnumber ([1-9][0-9]*)\nsealed_at_us (0|[1-9][0-9]*)\n'
    + 'events (?:0|[1-9][0-9]*)\naccounts (?:0|[1-9][0-9]*)\noutstanding (0|[1-9][0-9]*)\nroot ([0-9a-f]{64})\n'
    + '(?:lost ([1-9][0-9]*)\n)?$').exec(entry);
  if (!found) throw new ProofFailed('malformed');
  const [, number, sealedAtUs, outstanding, root, lost = '0'] = found;
  must([number, sealedAtUs, lost].every((digits) => isCount(Number(digits))), 'malformed');
  return { number: Number(number), sealedAtUs: Number(sealedAtUs), outstanding, root, lost: Number(lost) };
}

/**
 * The seal of a proof, once its note is signed by `verifier` and its entry is the last of that log.
 * @param {Proof} proof
 * @param {Verifier} verifier
 */
function checkSeal({ vkey, seal: { entry, note }, inclusion }, verifier) {
  const offered = keyOf(vkey);
  must(offered.name === verifier.name && equal(offered.key, verifier.key), 'key');
  return readable(() => {
    const checkpoint = signedCheckpoint(note, verifier, verifier.name);
    if (!checkpoint) throw new ProofFailed('signature');
    const seal = sealOf(entry);
    const { size, root } = checkpoint;
    must(seal.number === size, 'log');
    must(included(leafHash(utf8(entry)), size - 1, size, fromBase64(inclusion), root), 'log');
    return seal;
  });
}

/**
 * That the account's leaf is in the sum tree of the seal, and its credit in the sum. Each node's hash covers the
 * depth too, so the root says at which bit to turn where, and has no place for a second leaf of the account.
 * @param {Proof} proof
 * @param {Seal} seal
 */
function checkTree({ openid_hash, version, head, credit, held, path }, seal) {
  readable(() => {
    const key = fromHex(openid_hash);
    let digest = hash(concat([0], key, uint64(version), fromHex(head), uint64(credit), uint64(held)));
    let sum = uint128(String(credit));
    const steps = fromBase64(path);
    let depth = 256;
    for (let at = 0; at < steps.length;) {
      const length = steps[at + 1];
      const behind = at + 2 + length;
      // Towards the root, and no step cut off.
      must(steps[at] < depth && length <= 16 && behind + 32 <= steps.length, 'malformed');
      depth = steps[at];
      const otherSum = concat(new Uint8Array(16 - length), steps.slice(at + 2, behind));
      const other = concat(steps.slice(behind, behind + 32), otherSum);
      const own = concat(digest, sum);
      const isRight = (key[depth >> 3] >> (7 - (depth & 7))) & 1;
      digest = hash(concat([1, depth], ...(isRight ? [other, own] : [own, other])));
      sum = add128(sum, otherSum);
      at = behind + 32;
    }
    must(equal(digest, fromHex(seal.root)) && equal(sum, uint128(seal.outstanding)), 'tree');
  });
}

/**
 * The facts of an event, which are a text in the proof.
 * @param {string} text
 * @returns {Record<string, any>}
 */
function factsIn(text) {
  /** @type {any} */
  let facts = null;
  try {
    facts = JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  must(facts && typeof facts === 'object', 'malformed');
  const { returned = [] } = facts;
  must(Array.isArray(returned) && returned.every((part) => part && typeof part === 'object'), 'malformed');
  return facts;
}

/**
 * What an event says that it changed; null where it is not as this version knows it.
 * @param {ProvedEvent} event
 */
function changesOf({ version, type, data: text, credit: after }) {
  const data = factsIn(text);
  const credit = statedChange({ version, type, data, credit: after, recorded_at: '' });
  const held = heldChange(type, data);
  return credit === undefined || !Number.isSafeInteger(held) ? null : { credit, held };
}

/**
 * @param {string} type
 * @param {Record<string, any>} data
 * @returns {number}
 */
function heldChange(type, { amount, returned = [], expired = 0 }) {
  if (type === 'CreditHeld') return amount;
  if (type === 'HoldReleased') return -amount;
  if (type !== 'HoldCaptured') return 0;
  // The rest of what was held came back, or had expired meanwhile.
  return returned.reduce((/** @type {number} */ sum, /** @type {any} */ part) => sum - part.amount, -amount - expired);
}

/**
 * That the events lead without a gap to the account of the leaf: from nothing, or over where it was when it
 * was proved before. Each is what its hash is of, but a first one that is not the account's own first: the hash
 * before it is not here. Such a one was checked when it was proved.
 * @param {Proof} proof
 * @param {Proved | null} before
 * @returns {boolean} whether all amounts were understood; they come to credit and held then
 */
function checkEvents({ openid_hash, events, version, head, credit, held }, before) {
  const known = before || { version: 0, head: '', credit: 0, held: 0, summed: true };
  must(events.length > 0 && events[0].version <= Math.max(known.version, 1), 'events');
  let { credit: balance, held: reserved, summed } = known;
  events.forEach((event, index) => {
    const previous = index > 0 ? events[index - 1] : { version: event.version - 1, recorded_at_us: 0, hash: GENESIS };
    must(event.version === previous.version + 1 && event.recorded_at_us >= previous.recorded_at_us, 'events');
    if (index > 0 || event.version === 1) {
      must(event.hash === readable(() => eventHash(previous.hash, openid_hash, event)), 'chain');
    }
    if (event.version === known.version) must(event.hash === known.head && event.credit === known.credit, 'rewritten');
    if (event.version <= known.version) return;
    const changes = changesOf(event);
    // Of a type that a later service knows, only what came of it can be taken over.
    if (!changes) summed = false;
    else {
      must(event.credit === balance + changes.credit, 'amounts');
      reserved += changes.held;
    }
    balance = event.credit;
  });
  const end = events[events.length - 1];
  must(end.version === version && end.hash === head && end.credit === credit, 'events');
  must(!summed || reserved === held, 'amounts');
  return summed;
}

/**
 * The account that `proof` proves.
 * @param {Proof} proof with all events, or from `before.version` on at the latest
 * @param {Verifier} verifier
 * @param {Proved | null} before what this phone has proved of it earlier
 * @returns {{proved: Proved, lost: number}} `lost`: events that the operator owns up to having lost before this seal
 * @throws {ProofFailed}
 */
function checkProof(proof, verifier, before) {
  const seal = checkSeal(proof, verifier);
  checkTree(proof, seal);
  if (before) {
    must(proof.openid_hash === before.openidHash, 'account');
    must(proof.version >= before.version, 'rewound');
  }
  const summed = checkEvents(proof, before);
  const { openid_hash: openidHash, version, head, credit, held } = proof;
  const proved = { openidHash, version, head, credit, held, summed, sealNumber: seal.number, sealedAtUs: seal.sealedAtUs };
  return { proved, lost: seal.lost };
}

/**
 * That the log of seals up to the note `later` begins with all of it up to `earlier`. Both are checked notes.
 * @param {string} earlier
 * @param {string} later
 * @param {unknown} path
 * @throws {ProofFailed}
 */
function checkConsistency(earlier, later, path) {
  if (typeof path !== 'string') throw new ProofFailed('malformed');
  readable(() => {
    const [first, second] = [earlier, later].map(checkpointIn);
    must(consistent(first.size, second.size, first.root, second.root, fromBase64(path)), 'forked');
  });
}

/** @param {string} note */
function checkpointIn(note) {
  return checkpointOf(note.slice(0, note.lastIndexOf('\n\n') + 1));
}

module.exports = { checkConsistency, checkProof, checkpointIn, keyOf, proofOf };
