/**
 * A small ledger that seals and proves as the service does, for what the service itself never does: lie.
 * Written from the formats with Node's own crypto, so that nothing of what is tested tests itself.
 */
import crypto from 'node:crypto';

const sha256 = (...parts) => crypto.createHash('sha256').update(Buffer.concat(parts)).digest();
const byte = (value) => Buffer.of(value);
const number = (value, size = 8) => Buffer.from(BigInt(value).toString(16).padStart(2 * size, '0'), 'hex');
const part = (bytes) => Buffer.concat([number(bytes.length, 4), bytes]);
const hex = (bytes) => bytes.toString('hex');
const GENESIS = '00'.repeat(32);
const base64 = (parts) => Buffer.concat(parts).toString('base64');

/* RFC 6962, section 2.1, to the letter. */
const leafHash = (entry) => sha256(byte(0), entry);
const nodeHash = (left, right) => sha256(byte(1), left, right);
const split = (size) => 2 ** Math.ceil(Math.log2(size) - 1);

export function treeHash(entries) {
  if (entries.length === 0) return sha256();
  if (entries.length === 1) return leafHash(entries[0]);
  const k = split(entries.length);
  return nodeHash(treeHash(entries.slice(0, k)), treeHash(entries.slice(k)));
}

export function inclusionPath(place, entries) {
  if (entries.length === 1) return [];
  const k = split(entries.length);
  const [left, right] = [entries.slice(0, k), entries.slice(k)];
  return place < k
    ? [...inclusionPath(place, left), treeHash(right)]
    : [...inclusionPath(place - k, right), treeHash(left)];
}

export function consistencyPath(first, entries, whole = true) {
  if (first === entries.length) return whole ? [] : [treeHash(entries)];
  const k = split(entries.length);
  const [left, right] = [entries.slice(0, k), entries.slice(k)];
  return first <= k
    ? [...consistencyPath(first, left, whole), treeHash(right)]
    : [...consistencyPath(first - k, right, false), treeHash(left)];
}

export class Signer {
  constructor(name, { privateKey, publicKey } = crypto.generateKeyPairSync('ed25519')) {
    const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
    const typed = Buffer.concat([byte(1), raw]);
    this.name = name;
    this.id = sha256(Buffer.from(`${name}\n`), typed).subarray(0, 4);
    this.vkey = `${name}+${hex(this.id)}+${typed.toString('base64')}`;
    this.privateKey = privateKey;
  }

  note(text) {
    const signature = crypto.sign(null, Buffer.from(text), this.privateKey);
    return `${text}\n\u2014 ${this.name} ${base64([this.id, signature])}\n`;
  }

  checkpoint(origin, entries) {
    return this.note(`${origin}\n${entries.length}\n${treeHash(entries).toString('base64')}\n`);
  }
}

export const bitAt = (key, depth) => (key[depth >> 3] >> (7 - (depth & 7))) & 1;

/** The node of the sum tree at `depth`, over two (`{hash, sum}`). */
export const join = (depth, left, right) => ({
  hash: sha256(byte(1), byte(depth), left.hash, number(left.sum, 16), right.hash, number(right.sum, 16)),
  sum: left.sum + right.sum,
});

/** The step of a path that leads over a node at `depth`, with `other` on the other side. */
export function step(depth, other) {
  const digits = other.sum === 0n ? '' : other.sum.toString(16);
  const sum = Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex');
  return Buffer.concat([byte(depth), byte(sum.length), sum, other.hash]);
}

/** The subtree over `leaves` (`{key, hash, sum}`), with the steps to it from the leaf of `key` in `path`. */
function sumTree(leaves, key, path, depth = 0) {
  if (leaves.length === 1) return leaves[0];
  const sides = [0, 1].map((bit) => leaves.filter((leaf) => bitAt(leaf.key, depth) === bit));
  if (!sides[0].length || !sides[1].length) return sumTree(leaves, key, path, depth + 1);
  const holds = (side) => side.some((leaf) => leaf.key.equals(key));
  const [left, right] = sides.map((side) => sumTree(side, key, holds(side) ? path : [], depth + 1));
  path.push(step(depth, holds(sides[0]) ? right : left));
  return join(depth, left, right);
}

/** What chains an event of `openid` to the one before it, whose hash is `previous`. */
export function eventHash(previous, openid, { version, type, data, credit, key, fingerprint, recorded_at_us }) {
  const optional = (bytes) => (bytes === null ? number(0xffffffff, 4) : part(bytes));
  return hex(sha256(byte(2), part(Buffer.from(previous, 'hex')), part(sha256(Buffer.from(openid))), part(number(version)),
    part(Buffer.from(type)), part(Buffer.from(data)), part(number(credit)), optional(key && Buffer.from(key)),
    optional(fingerprint && Buffer.from(fingerprint, 'hex')), part(number(recorded_at_us))));
}

export class SealedLedger {
  constructor(signer = new Signer('credit-ledger/wx0123456789abcdef')) {
    this.signer = signer;
    this.accounts = new Map();
    this.entries = [];
    this.clockUs = 1795395305597632;
  }

  /** Records an event that changes credit and held by so much, and was asked for with `key`. */
  record(openid, type, data = {}, credit = 0, held = 0, key = null) {
    this.clockUs += 1000;
    const account = this.accounts.get(openid) ?? { events: [], held: 0 };
    this.accounts.set(openid, account);
    const last = account.events.at(-1) ?? { version: 0, credit: 0, hash: GENESIS };
    const event = {
      version: last.version + 1, type, data: JSON.stringify(data), credit: last.credit + credit,
      key, fingerprint: key && hex(sha256(Buffer.from(key))), recorded_at_us: this.clockUs,
    };
    event.hash = eventHash(last.hash, openid, event);
    account.events.push(event);
    account.held += held;
    return event;
  }

  register(openid, amount = 100) {
    this.record(openid, 'UserRegistered');
    return this.grant(openid, amount);
  }

  grant(openid, amount) {
    return this.record(openid, 'CreditGranted', { amount, reason: 'signup', actor: 'rule:signup' }, amount);
  }

  leaf(openid) {
    const { events, held } = this.accounts.get(openid);
    const { version, hash, credit } = events.at(-1);
    const key = sha256(Buffer.from(openid));
    const leaf = sha256(byte(0), key, number(version), Buffer.from(hash, 'hex'), number(credit), number(held));
    return { key, hash: leaf, sum: BigInt(credit) };
  }

  seal(more = '') {
    this.clockUs += 90000000;
    const leaves = [...this.accounts.keys()].map((openid) => this.leaf(openid));
    const { hash, sum } = sumTree(leaves, leaves[0].key, []);
    const events = [...this.accounts.values()].reduce((count, account) => count + account.events.length, 0);
    this.entries.push(Buffer.from(`credit-ledger seal v1\nnumber ${this.entries.length + 1}\nsealed_at_us ${this.clockUs}\n`
      + `events ${events}\naccounts ${leaves.length}\noutstanding ${sum}\nroot ${hex(hash)}\n${more}`));
    this.sealed = structuredClone(this.accounts);
  }

  /** What GET /v1/me/proof answers, of the last seal; nothing was recorded behind it. */
  proof(openid, after = 0, limit = 1000) {
    const { events, held } = this.accounts.get(openid);
    const { version, hash: head, credit } = events.at(-1);
    const path = [];
    sumTree([...this.accounts.keys()].map((each) => this.leaf(each)), this.leaf(openid).key, path);
    const size = this.entries.length;
    const page = events.slice(after, after + limit);
    const end = page.length > 0 ? page.at(-1).version : version;
    return structuredClone({
      vkey: this.signer.vkey,
      openid_hash: hex(sha256(Buffer.from(openid))),
      version, head, credit, held,
      path: base64(path),
      seal: { entry: this.entries.at(-1).toString(), note: this.signer.checkpoint(this.signer.name, this.entries) },
      inclusion: base64(inclusionPath(size - 1, this.entries)),
      events: page,
      next_after: end < version ? end : null,
    });
  }

  /** What GET /v1/me/events answers. */
  statement(openid, before = Infinity, limit = 20) {
    const older = this.accounts.get(openid).events.filter(({ version }) => version < before).reverse();
    const events = older.slice(0, limit).map(({ data, recorded_at_us: at, ...event }) => ({
      ...event, data: JSON.parse(data),
      recorded_at: `${new Date(Math.floor(at / 1000)).toISOString().slice(0, -1)}${String(at % 1000).padStart(3, '0')}Z`,
    }));
    return { events, next_before: older.length > limit ? events.at(-1).version : null };
  }

  consistency(first, second) {
    return { path: base64(consistencyPath(first, this.entries.slice(0, second))) };
  }

  /** Receipts for the last event of each account, signed together; that of `openid`. */
  receipt(openid) {
    const receipts = [...this.accounts].map(([each, { events }]) => {
      const { version, hash, credit, recorded_at_us } = events.at(-1);
      return { openid_hash: hex(sha256(Buffer.from(each))), version, hash, credit, recorded_at_us };
    });
    const entries = receipts.map((each) => Buffer.from(`credit-ledger receipt v1\n${
      Object.entries(each).map(([name, value]) => `${name} ${value}\n`).join('')}`));
    const place = [...this.accounts.keys()].indexOf(openid);
    return {
      ...receipts[place], place, path: base64(inclusionPath(place, entries)),
      note: this.signer.checkpoint(`${this.signer.name}/receipts`, entries),
    };
  }
}
