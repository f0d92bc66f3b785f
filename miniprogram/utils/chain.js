/** The chain of one account: each event is hashed together with the hash of the one before it. */
const { concat, fromHex, toHex, uint64, utf8 } = require('./bytes');
const { hash } = require('../vendor/fast-sha256/sha256');

/** What the first event of an account has in the place of the hash before it. */
const GENESIS = '00'.repeat(32);
/** No event can be taken for a leaf or node of a tree, which begin with 0 and 1. */
const EVENT = 2;
const ABSENT = [255, 255, 255, 255];

/** @param {Uint8Array} bytes with their length, in four bytes, before them */
const part = (bytes) => concat(uint64(bytes.length).slice(4), bytes);

/**
 * The hash that an event of this content has behind that previous one; hashes are in hexadecimal.
 * @param {string} previous
 * @param {string} openidHash
 * @param {import('./proof').ProvedEvent} event
 * @throws {import('./bytes').Malformed}
 */
function eventHash(previous, openidHash, { version, type, data, credit, key, fingerprint, recorded_at_us }) {
  return toHex(hash(concat(
    [EVENT],
    ...[fromHex(previous), fromHex(openidHash), uint64(version), utf8(type), utf8(data), uint64(credit)].map(part),
    key === null ? ABSENT : part(utf8(key)),
    fingerprint === null ? ABSENT : part(fromHex(fingerprint)),
    part(uint64(recorded_at_us)),
  )));
}

module.exports = { GENESIS, eventHash };
