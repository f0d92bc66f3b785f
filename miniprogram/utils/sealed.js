const { formatCredit, formatTime } = require('./format');
const { compareListed, oldestOf, reaches } = require('./listed');
const { ProofFailed } = require('./proof-failed');

/**
 * @typedef {import('./verification').Verification} Verification
 * @typedef {import('./verification').Verified} Verified
 * @typedef {import('./account').KnownCredit} KnownCredit
 * @typedef {import('./statement').LedgerEvent} LedgerEvent
 * @typedef {object} SealView
 * @property {'good' | 'bad' | 'open'} tone
 * @property {string} word
 * @property {string} about behind the word, on the same line where there is room
 * @property {string[]} checked what this phone found to hold
 * @property {string[]} notes what is to be known besides
 */

const INTRODUCTION = '服务器每分钟把全部账户的积分封存一次，并在封存上签名。';
const LIMITS = '没有核对的：别人看到的封存是否和你的一样。';
const RENEWED = '小程序自带的公钥和这部手机以前用的不同：已经用自带的公钥从头核验，没有和以前核验过的封存比对。以前的记录和回执仍保存在这部手机上。';
const ADVICE = '请不要退出登录，也不要删除小程序：以前核验过的记录和签到回执还保存在这部手机上，可以作为凭据。请联系客服。';

const KEYS = {
  'built-in': '签名有效，公钥是小程序自带的',
  'first-seen': '签名有效；公钥是这部手机刚刚第一次见到的，已经记下，以后变了会提醒你',
  remembered: '签名有效，公钥还是这部手机第一次见到的那个',
};

/**
 * @param {import('./proof').Proved} proved
 * @param {number} now
 */
function sealTime({ sealedAtUs, sealNumber }, now) {
  return `${formatTime(Math.floor(sealedAtUs / 1000), now)} 第 ${formatCredit(sealNumber)} 次封存`;
}

/**
 * @param {Verified} verified
 * @param {number} compared how many events of the list on the page
 * @returns {string[]}
 */
function whatHolds({ proved, key, since, kept }, compared) {
  const { version, credit, held, summed, sealNumber } = proved;
  const amount = `${formatCredit(credit)} 积分${held > 0 ? `（另有 ${formatCredit(held)} 预留）` : ''}`;
  const checked = [KEYS[key], `你的账户在封存的总账里：到第 ${formatCredit(version)} 条记录为止，${amount}`,
    '封存里你的每一笔明细都核对过：内容与封存相符，一笔接一笔'];
  if (compared > 0) checked.push(`下面列出的明细，已封存的 ${formatCredit(compared)} 条都和封存里的一样`);
  if (summed) checked.push('明细的增减逐条相加，正好是这个数');
  if (since !== null && since < sealNumber) checked.push(`接得上以前核验过的第 ${formatCredit(since)} 次封存，没有被改写`);
  if (kept > 0) checked.push(`${formatCredit(kept)} 张签到回执已兑现`);
  return checked;
}

/**
 * @param {Verified} verified
 * @param {KnownCredit | null} known
 * @param {LedgerEvent[]} listed
 * @returns {string[]}
 */
function whatElse({ proved, events, waiting, lost, renewed }, known, listed) {
  const notes = [];
  if (renewed) notes.push(RENEWED);
  const later = known && known.version !== null ? known.version - proved.version : 0;
  if (later > 0) notes.push(`最新的 ${formatCredit(later)} 条记录尚未封存，通常要等一分钟左右。`);
  const missing = listed.length > 0 ? proved.version - listed[0].version : 0;
  if (missing > 0) notes.push(`封存里还有 ${formatCredit(missing)} 条更新的记录没有列在下面，请下拉刷新。`);
  if (!reaches(events, oldestOf(listed))) notes.push('下面较早的明细还没有和封存比对。');
  if (waiting > 0) notes.push(`${formatCredit(waiting)} 张签到回执在等待封存。`);
  if (!proved.summed) notes.push('有的明细属于这个版本还不认识的类型，没有逐条相加。');
  if (lost > 0) notes.push(`运营者在这次封存里声明：有 ${formatCredit(lost)} 条记录已经丢失。`);
  return [...notes, LIMITS];
}

/**
 * @param {string} why
 * @returns {SealView}
 */
function failedView(why) {
  return { tone: 'bad', word: '核验失败', about: '轻点查看', checked: [], notes: [why, ADVICE] };
}

/**
 * Whether the page shows another credit than was sealed of the very same record.
 * @param {Verified} verified
 * @param {KnownCredit | null} known
 */
function contradicts({ proved }, known) {
  return known !== null && known.version === proved.version
    && (known.credit !== proved.credit || known.held !== proved.held);
}

/**
 * What the page says of a verification.
 * @param {Verification} verification
 * @param {KnownCredit | null} known what the page shows
 * @param {LedgerEvent[]} listed the events below it, newest first
 * @param {number} now
 * @returns {SealView}
 */
function sealView(verification, known, listed, now) {
  if (verification.state === 'failed') return failedView(verification.why);
  if (verification.state === 'unsealed') {
    return { tone: 'open', word: '尚未封存', about: '', checked: [], notes: [INTRODUCTION, '你的账户很快会在下一次封存里，到时再刷新即可核验。'] };
  }
  if (verification.state === 'unchecked') {
    const { offline, why, last } = verification;
    const before = last ? `上次核验的是${sealTime(last, now)}。` : '这部手机还没有核验过。';
    return { tone: 'open', word: offline ? '离线未核验' : '暂未核验', about: '', checked: [], notes: [why, before] };
  }
  if (contradicts(verification, known)) return failedView(new ProofFailed('credit').message);
  const { why, compared } = compareListed(listed, verification.events);
  if (why) return failedView(why);
  return {
    tone: 'good',
    word: '已核验',
    about: sealTime(verification.proved, now),
    checked: whatHolds(verification, compared),
    notes: [`${INTRODUCTION}以上由这部手机自己核对。`, ...whatElse(verification, known, listed)],
  };
}

module.exports = { sealView };
