/** What the service signed when it answered: that the event will be in every seal a minute later. */
const { fromBase64, utf8 } = require('./bytes');
const { included, leafHash } = require('./merkle');
const { signedCheckpoint } = require('./note');
const { ProofFailed, isCount, isHash, isText, must, readable } = require('./proof-failed');

/**
 * @typedef {{openid_hash: string, version: number, hash: string, credit: number, recorded_at_us: number,
 *   place: number, path: string, note: string}} Receipt
 */

/**
 * That `verifier` signed this receipt.
 * @param {any} receipt
 * @param {import('./note').Verifier} verifier
 * @returns {Receipt}
 * @throws {ProofFailed}
 */
function checkReceipt(receipt, verifier) {
  must(isHash(receipt.openid_hash) && isHash(receipt.hash) && isText(receipt.path) && isText(receipt.note), 'receipt');
  must([receipt.version, receipt.credit, receipt.recorded_at_us, receipt.place].every(isCount), 'receipt');
  const { openid_hash, version, hash: digest, credit, recorded_at_us, place, path, note } = receipt;
  return readable(() => {
    const checkpoint = signedCheckpoint(note, verifier, `${verifier.name}/receipts`);
    if (!checkpoint) throw new ProofFailed('receipt');
    const entry = `credit-ledger receipt v1\nopenid_hash ${openid_hash}\nversion ${version}\nhash ${digest}\n`
      + `credit ${credit}\nrecorded_at_us ${recorded_at_us}\n`;
    must(included(leafHash(utf8(entry)), place, checkpoint.size, fromBase64(path), checkpoint.root), 'receipt');
    return receipt;
  });
}

/** So long after the event, every seal has it: what a receipt promises. */
const PROMISED_US = 60000000;

/**
 * Whether what the receipt promises is kept in the proof; false: it is not due yet.
 * @param {Receipt} receipt a checked one
 * @param {import('./proof').Proved} proved
 * @param {import('./proof').ProvedEvent[]} events: from the receipt's version on at the latest
 * @throws {ProofFailed}
 */
function isKept(receipt, { openidHash, version, sealedAtUs }, events) {
  must(receipt.openid_hash === openidHash, 'account');
  if (receipt.version > version) {
    must(sealedAtUs < receipt.recorded_at_us + PROMISED_US, 'missing');
    return false;
  }
  const event = events.find((each) => each.version === receipt.version);
  must(event && event.hash === receipt.hash && event.credit === receipt.credit
    && event.recorded_at_us === receipt.recorded_at_us, 'contradicted');
  return true;
}

module.exports = { checkReceipt, isKept };
