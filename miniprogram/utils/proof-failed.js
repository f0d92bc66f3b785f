/** A check that did not hold, and what all checks have in common. */
const { Malformed } = require('./bytes');

/** What did not hold. The key of a sentence is the kind of lie, or damage, that it tells of. */
const SENTENCES = {
  malformed: '服务器给的证明不完整，无法核验。',
  key: '签名公钥和原来的不同。',
  signature: '封存的签名不对。',
  log: '这次封存不在签过名的封存记录里。',
  tree: '你的账户不在封存的总账里，或者数目不同。',
  events: '你的明细和封存的账户对不上。',
  chain: '有的明细和封存时的内容不同，或者前后接不上。',
  amounts: '明细相加不等于封存的积分。',
  account: '服务器给的是另一个账户的证明。',
  rewound: '封存的记录比以前核验过的少了。',
  rewritten: '以前核验过的记录被改动了。',
  forked: '封存记录和以前核验过的接不上。',
  receipt: '签到回执的签名不对。',
  contradicted: '封存的内容和签到回执不一样。',
  missing: '签到回执承诺过的记录没有被封存。',
  credit: '页面上的积分和封存的积分不一样。',
};

class ProofFailed extends Error {
  /** @param {keyof typeof SENTENCES} code */
  constructor(code) {
    super(SENTENCES[code]);
    this.name = 'ProofFailed';
    this.code = code;
  }
}

/**
 * @param {unknown} holds
 * @param {keyof typeof SENTENCES} code
 */
function must(holds, code) {
  if (!holds) throw new ProofFailed(code);
}

/**
 * What `check` returns; texts in it that cannot even be read are a failed check as well.
 * @template Result
 * @param {() => Result} check
 * @returns {Result}
 */
function readable(check) {
  try {
    return check();
  } catch (error) {
    if (error instanceof Malformed) throw new ProofFailed('malformed');
    throw error;
  }
}

/** @param {unknown} value */
const isText = (value) => typeof value === 'string';
/** @param {unknown} value */
const isHash = (value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
/** @param {unknown} value */
const isCount = (value) => Number.isSafeInteger(value) && Number(value) >= 0;

module.exports = { ProofFailed, isCount, isHash, isText, must, readable };
