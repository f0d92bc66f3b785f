const { formatCredit, formatEnd } = require('./format');

/**
 * What each type of event says to the user, and what it did to the credit that he can spend.
 *
 * @typedef {import('./statement').LedgerEvent} LedgerEvent
 * @typedef {{amount?: number}[]} Parts
 * @typedef {object} Facts what the types below have in their `data`, as ledger/events.py defines it
 * @property {number} [amount]
 * @property {string} [reason]
 * @property {string} [actor]
 * @property {string} [reference]
 * @property {number} [expires_at_us]
 * @property {number} [deadline_us]
 * @property {Parts} [returned]
 * @property {number} [expired]
 * @property {number} [spent]
 * @property {number} [held]
 * @property {number} [streak]
 *
 * @typedef {(facts: Facts, now: number) => string[]} Details
 * @typedef {{title: string, change: (facts: Facts) => number | undefined, details?: Details}} Kind
 */

/** @param {Facts} facts */
const gained = ({ amount }) => amount;
/** @param {Facts} facts */
const lost = ({ amount }) => amount && -amount;
/** @param {Facts} facts */
const returned = ({ returned: parts = [] }) => parts.reduce((sum, { amount = NaN }) => sum + amount, 0);
const nothing = () => 0;

/** @type {Details} what came back in part only: the rest had expired while it was away */
function partlyExpired({ amount = 0, expired = 0 }) {
  return expired > 0 ? [`共 ${formatCredit(amount)}，其中 ${formatCredit(expired)} 已过期`] : [];
}

/** @type {Details} */
function captured(facts) {
  const back = returned(facts);
  const details = [`使用 ${formatCredit(facts.amount || 0)}`];
  if (back > 0) details.push(`退回 ${formatCredit(back)}`);
  if (facts.expired) details.push(`另有 ${formatCredit(facts.expired)} 已过期`);
  return [details.join('，')];
}

/** @type {Details} */
function beyondReach({ spent = 0, held = 0 }) {
  const rest = [];
  if (spent > 0) rest.push(`已使用 ${formatCredit(spent)}`);
  if (held > 0) rest.push(`预留中 ${formatCredit(held)}`);
  return rest.length > 0 ? [`未能收回：${rest.join('，')}`] : [];
}

/** @param {number} microseconds */
const milliseconds = (microseconds) => Math.floor(microseconds / 1000);

/** @type {Map<string, Kind>} */
const KINDS = new Map(Object.entries({
  UserRegistered: { title: '注册', change: nothing },
  CreditGranted: {
    title: '获得积分',
    change: gained,
    details: ({ expires_at_us: end }, now) => (end === undefined ? [] : [`有效期至 ${formatEnd(milliseconds(end), now)}`]),
  },
  CheckedIn: { title: '签到', change: nothing },
  CreditSpent: { title: '使用积分', change: lost },
  CreditHeld: {
    title: '预留积分',
    change: lost,
    details: ({ deadline_us: end }, now) => (end === undefined ? [] : [`预留至 ${formatEnd(milliseconds(end), now)}`]),
  },
  HoldCaptured: { title: '使用预留积分', change: returned, details: captured },
  HoldReleased: { title: '退回预留积分', change: returned, details: partlyExpired },
  SpendReversed: { title: '退回积分', change: returned, details: partlyExpired },
  GrantRevoked: { title: '收回积分', change: lost, details: beyondReach },
  CreditExpired: { title: '积分过期', change: lost },
  AccountFrozen: { title: '账户冻结', change: nothing },
  AccountUnfrozen: { title: '账户解冻', change: nothing },
}));

/** The reasons that the ledger itself gives; any other is somebody's own text. */
const REASONS = new Map([
  ['signup', '新用户礼包'],
  ['checkin', '签到奖励'],
  ['deadline', '到期未使用'],
  ['expiry', ''], // The title says it.
]);

/** @param {LedgerEvent} event */
function isCheckinReward({ type, data }) {
  return type === 'CreditGranted' && typeof data.actor === 'string' && data.actor.startsWith('rule:checkin/');
}

/**
 * Whether `event` is told by the row of `newer`, the event after it: a check-in and its reward are one thing.
 * @param {LedgerEvent} event
 * @param {LedgerEvent | undefined} newer
 */
function isToldBy(event, newer) {
  return event.type === 'CheckedIn' && newer !== undefined && isCheckinReward(newer);
}

/**
 * The change of the credit that can be spent, from what the event itself says; undefined where it is of a
 * type, or has a content, that this version does not know.
 * @param {LedgerEvent} event
 */
function statedChange({ type, data }) {
  const kind = KINDS.get(type);
  const change = kind && kind.change(data);
  return Number.isSafeInteger(change) ? change : undefined;
}

/**
 * @param {LedgerEvent} event
 * @param {LedgerEvent | undefined} older
 * @param {number} now
 * @returns {{title: string, note: string, detail: string}} title: empty for an unknown type
 */
function describe(event, older, now) {
  if (isCheckinReward(event)) return { title: '签到', note: older ? dayOfStreak(older) : '', detail: '' };
  if (event.type === 'CheckedIn') return { title: '签到', note: dayOfStreak(event), detail: '' };
  /** @type {Facts} */
  const facts = event.data;
  const kind = KINDS.get(event.type);
  const reason = typeof facts.reason === 'string' ? facts.reason : '';
  const known = REASONS.get(reason);
  const details = kind && kind.details ? kind.details(facts, now) : [];
  // Last, because it is the caller's own and can be so long that the page cuts it.
  if (typeof facts.reference === 'string') details.push(`单号 ${facts.reference}`);
  return { title: kind ? kind.title : '', note: known === undefined ? reason : known, detail: details.join(' · ') };
}

/** @param {LedgerEvent} event */
function dayOfStreak({ data: { streak } }) {
  return typeof streak === 'number' ? `第 ${formatCredit(streak)} 天` : '';
}

module.exports = { describe, isToldBy, statedChange };
