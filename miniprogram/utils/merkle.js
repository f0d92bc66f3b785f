/** The Merkle tree of RFC 6962: the log of seals, and the trees of receipts that one signature covers. */
const { concat, equal } = require('./bytes');
const { hash } = require('../vendor/fast-sha256/sha256');

const HASH_BYTES = 32;

/** @typedef {Uint8Array} Hash 32 bytes */

/** @param {Uint8Array} entry */
function leafHash(entry) {
  return hash(concat([0], entry));
}

/**
 * @param {Hash} left
 * @param {Hash} right
 */
function nodeHash(left, right) {
  return hash(concat([1], left, right));
}

/**
 * The hashes that stand one behind another in a path; null where it is of no whole number of them.
 * @param {Uint8Array} joined
 * @returns {Hash[] | null}
 */
function hashesIn(joined) {
  if (joined.length % HASH_BYTES !== 0) return null;
  /** @type {Hash[]} */
  const hashes = [];
  for (let at = 0; at < joined.length; at += HASH_BYTES) hashes.push(joined.slice(at, at + HASH_BYTES));
  return hashes;
}

/** @param {number} place beyond 2**31 the operators for bits would cut it */
const half = (place) => Math.floor(place / 2);
/** @param {number} place */
const odd = (place) => place % 2 === 1;

/**
 * Whether `path` leads from `leaf` at `place` to `root`, the root hash of `size` entries (RFC 9162 2.1.3.2).
 * @param {Hash} leaf
 * @param {number} place
 * @param {number} size
 * @param {Uint8Array} path
 * @param {Hash} root
 */
function included(leaf, place, size, path, root) {
  const steps = hashesIn(path);
  if (!steps || place >= size) return false;
  let [at, last, digest] = [place, size - 1, leaf];
  for (const other of steps) {
    if (last === 0) return false;
    if (odd(at) || at === last) {
      digest = nodeHash(other, digest);
      while (!odd(at) && at > 0) [at, last] = [half(at), half(last)];
    } else digest = nodeHash(digest, other);
    [at, last] = [half(at), half(last)];
  }
  return last === 0 && equal(digest, root);
}

/**
 * Whether `path` proves that the second tree begins with all of the first, which is of at least one entry
 * (RFC 9162 2.1.4.2).
 * @param {number} first
 * @param {number} second
 * @param {Hash} firstRoot
 * @param {Hash} secondRoot
 * @param {Uint8Array} path
 */
function consistent(first, second, firstRoot, secondRoot, path) {
  const steps = hashesIn(path);
  if (!steps || first < 1 || first > second) return false;
  if (first === second) return steps.length === 0 && equal(firstRoot, secondRoot);
  let [at, last] = [first - 1, second - 1];
  while (odd(at)) [at, last] = [half(at), half(last)];
  // A first tree that is one whole subtree is where the path begins, and is not repeated in it.
  const start = at === 0 ? firstRoot : steps.shift();
  if (!start) return false;
  let [digestFirst, digestSecond] = [start, start];
  for (const other of steps) {
    if (last === 0) return false;
    if (odd(at) || at === last) {
      digestFirst = nodeHash(other, digestFirst);
      digestSecond = nodeHash(other, digestSecond);
      while (!odd(at) && at > 0) [at, last] = [half(at), half(last)];
    } else digestSecond = nodeHash(digestSecond, other);
    [at, last] = [half(at), half(last)];
  }
  return last === 0 && equal(digestFirst, firstRoot) && equal(digestSecond, secondRoot);
}

module.exports = { consistent, included, leafHash };
