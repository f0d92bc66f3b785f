const session = require('./session');
const { keepReceipt } = require('./verification');
const { HttpError } = require('./request');
const { formatChange, formatCredit } = require('./format');

/** @typedef {import('./account').KnownCredit} KnownCredit */
/** @typedef {{title: string, hint: string, button: string, done: boolean}} CheckinView */

const DAY_MS = 86400000;
/** The ledger's days are those of Asia/Shanghai, wherever the phone is; there is no summer time there. */
const SHANGHAI_MS = 8 * 3600000;

/** @type {{key: string, day: number} | null} the tap of which nobody knows yet what came of it */
let unsettled = null;

/**
 * The day on which a check-in at that moment counts.
 * @param {number} moment milliseconds
 */
function checkinDay(moment) {
  return Math.floor((moment + SHANGHAI_MS) / DAY_MS);
}

/** Unique among one user's own requests is all that a key has to be. */
function newKey() {
  return `checkin-${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
}

/**
 * Checks in for today. A tap after one whose answer got lost goes out under the same key: the service
 * then does it once and tells both what came of it.
 * @returns {Promise<{event: import('./statement').LedgerEvent, credit: number}>}
 * @throws the errors of session.authorized()
 */
async function checkIn() {
  const day = checkinDay(Date.now());
  // Under yesterday's key the service would answer with yesterday's check-in.
  if (!unsettled || unsettled.day !== day) unsettled = { key: newKey(), day };
  try {
    const answer = await session.authorized({ method: 'POST', path: '/v1/me/checkin', idempotencyKey: unsettled.key });
    unsettled = null;
    if (answer.receipt) await keepReceipt(answer.receipt);
    return answer;
  } catch (error) {
    if (isDefinite(error)) unsettled = null;
    throw error;
  }
}

/**
 * Whether the service has refused: without an answer, or with one of a 5xx or of somebody else on the
 * way, it may have checked the user in all the same.
 * @param {unknown} error
 */
function isDefinite(error) {
  return error instanceof HttpError && error.status >= 400 && error.status < 500;
}

/**
 * What is known once a check-in has succeeded, until the service says it itself.
 * @param {KnownCredit} known
 * @param {number} version of the event that was recorded
 * @param {number} credit after it
 * @returns {KnownCredit}
 */
function afterCheckIn(known, version, credit) {
  const streak = (known.checkin ? known.checkin.streak : 0) + 1;
  return { ...known, version, credit, at: Date.now(), checkin: { checked_in: true, streak, next_reward: null } };
}

/**
 * @param {KnownCredit} known
 * @param {number} now
 * @returns {CheckinView | null} null: the service does not know of check-ins
 */
function checkinView({ checkin, at }, now) {
  if (!checkin) return null;
  // Kept from an earlier day, it tells nothing about today; the button works anyway.
  if (checkinDay(at) !== checkinDay(now)) return { title: '每日签到', hint: '', button: '今日签到', done: false };
  const { checked_in: done, streak, next_reward: reward } = checkin;
  const title = streak > 0 ? `已连续签到 ${formatCredit(streak)} 天` : '每日签到';
  const change = reward === null ? '' : ` ${formatChange(reward)}`;
  if (done) return { title, hint: `明天签到${change}`, button: '已签到', done };
  return { title, hint: '今天还没有签到', button: `今日签到${change}`, done };
}

module.exports = { afterCheckIn, checkIn, checkinDay, checkinView };
