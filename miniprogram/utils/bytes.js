/**
 * Bytes, for what is hashed and signed. No BigInt: some phones that WeChat still runs on have none.
 */

const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const TWO_32 = 4294967296;

/** A text that is not what its place asks for. */
class Malformed extends Error {}

/** @param {...(Uint8Array | number[])} parts */
function concat(...parts) {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/**
 * @param {Uint8Array} one
 * @param {Uint8Array} other
 */
function equal(one, other) {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

/**
 * @param {string} text
 * @returns {Uint8Array}
 * @throws {Malformed} for half a surrogate pair, which has no UTF-8
 */
function utf8(text) {
  if (/[\ud800-\udbff](?![\udc00-\udfff])|(?:^|[^\ud800-\udbff])[\udc00-\udfff]/.test(text)) throw new Malformed('utf8');
  const binary = unescape(encodeURIComponent(text));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

/** @param {string} text lower case, as all hashes are written here */
function fromHex(text) {
  if (!/^(?:[0-9a-f]{2})*$/.test(text)) throw new Malformed('hex');
  return Uint8Array.from(text.match(/../g) || [], (pair) => parseInt(pair, 16));
}

/** @param {Uint8Array} bytes */
function toHex(bytes) {
  return Array.from(bytes, (byte) => (byte + 256).toString(16).slice(1)).join('');
}

/** @param {string} text with its padding, and nothing in the bits that it has too many */
function fromBase64(text) {
  const found = /^((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}|[A-Za-z0-9+/]{3})?)(={0,2})$/.exec(text);
  if (!found || text.length % 4 !== 0) throw new Malformed('base64');
  const digits = Array.from(found[1], (digit) => BASE64.indexOf(digit));
  const bytes = new Uint8Array(Math.floor((digits.length * 3) / 4));
  let bits = 0;
  let kept = 0;
  let at = 0;
  for (const digit of digits) {
    bits = ((bits & 63) << 6) | digit;
    kept += 6;
    if (kept >= 8) {
      kept -= 8;
      bytes[at] = (bits >> kept) & 255;
      at += 1;
    }
  }
  if (bits & ((1 << kept) - 1)) throw new Malformed('base64');
  return bytes;
}

/**
 * Eight bytes, the most significant first.
 * @param {number} number at most 2**53-1
 */
function uint64(number) {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, Math.floor(number / TWO_32));
  view.setUint32(4, number % TWO_32);
  return bytes;
}

/**
 * The sum of two numbers of 16 bytes; what runs over is an error, because no credit comes to that.
 * @param {Uint8Array} one
 * @param {Uint8Array} other
 */
function add128(one, other) {
  const sum = new Uint8Array(16);
  let carry = 0;
  for (let at = 15; at >= 0; at -= 1) {
    carry += one[at] + other[at];
    sum[at] = carry & 255;
    carry >>= 8;
  }
  if (carry) throw new Malformed('sum');
  return sum;
}

/**
 * The number of 16 bytes that a decimal writes.
 * @param {string} decimal
 */
function uint128(decimal) {
  const bytes = new Uint8Array(16);
  for (const digit of decimal) {
    let carry = Number(digit);
    for (let at = 15; at >= 0; at -= 1) {
      carry += bytes[at] * 10;
      bytes[at] = carry & 255;
      carry >>= 8;
    }
    if (carry) throw new Malformed('decimal');
  }
  return bytes;
}

module.exports = { Malformed, add128, concat, equal, fromBase64, fromHex, toHex, uint64, uint128, utf8 };
