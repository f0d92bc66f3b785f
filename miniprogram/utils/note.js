/** Signed notes and checkpoints as C2SP has them: c2sp.org/signed-note, c2sp.org/tlog-checkpoint. */
const { concat, equal, fromBase64, fromHex, Malformed, utf8 } = require('./bytes');
const { hash } = require('../vendor/fast-sha256/sha256');
const { sign } = require('../vendor/tweetnacl/nacl-fast');

const ED25519 = 1;
const KEY_ID_BYTES = 4;

/**
 * @typedef {{name: string, id: Uint8Array, key: Uint8Array}} Verifier a public key, and the name it signs under
 * @typedef {{origin: string, size: number, root: Uint8Array}} Checkpoint
 */

/**
 * @param {string} vkey `name+id+key`
 * @returns {Verifier}
 * @throws {Malformed} where it is no key of Ed25519
 */
function verifierOf(vkey) {
  const found = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(vkey);
  if (!found) throw new Malformed('vkey');
  const [, name, id, encoded] = found;
  const typed = fromBase64(encoded);
  if (typed.length !== 33 || typed[0] !== ED25519) throw new Malformed('vkey');
  const expected = hash(concat(utf8(`${name}\n`), typed)).slice(0, KEY_ID_BYTES);
  if (!equal(fromHex(id), expected)) throw new Malformed('vkey');
  return { name, id: expected, key: typed.slice(1) };
}

/**
 * The text of a note that this key signed, or null. Signatures of others, such as witnesses, may stand beside.
 * @param {string} note
 * @param {Verifier} verifier
 * @returns {string | null}
 */
function signedText(note, { name, id, key }) {
  const blank = note.lastIndexOf('\n\n');
  if (blank < 0) return null;
  const text = note.slice(0, blank + 1);
  const lines = note.slice(blank + 2).split('\n');
  if (lines.pop() !== '') return null;
  let signed = false;
  for (const line of lines) {
    const found = /^\u2014 ([^ +]+) ([A-Za-z0-9+/=]+)$/.exec(line);
    if (!found) return null;
    const signature = fromBase64(found[2]);
    if (found[1] !== name || !equal(signature.slice(0, KEY_ID_BYTES), id)) continue;
    const bare = signature.slice(KEY_ID_BYTES);
    // Of a wrong length it throws instead.
    if (bare.length !== sign.signatureLength || !sign.detached.verify(utf8(text), bare, key)) return null;
    signed = true;
  }
  return signed ? text : null;
}

/**
 * @param {string} text of a note: lines behind the third are extensions, and are passed over
 * @returns {Checkpoint}
 * @throws {Malformed}
 */
function checkpointOf(text) {
  const found = /^([^\n]+)\n([1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n(?:[^\n]+\n)*$/.exec(text);
  if (!found || !Number.isSafeInteger(Number(found[2]))) throw new Malformed('checkpoint');
  return { origin: found[1], size: Number(found[2]), root: fromBase64(found[3]) };
}

/**
 * What a log of that origin has come to, signed; null where the note is not that.
 * @param {string} note
 * @param {Verifier} verifier
 * @param {string} origin
 */
function signedCheckpoint(note, verifier, origin) {
  const text = signedText(note, verifier);
  if (text === null) return null;
  const checkpoint = checkpointOf(text);
  return checkpoint.origin === origin ? checkpoint : null;
}

module.exports = { checkpointOf, signedCheckpoint, verifierOf };
