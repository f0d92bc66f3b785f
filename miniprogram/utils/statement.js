const { formatChange, formatCredit, formatTime } = require('./format');

/**
 * @typedef {{version: number, type: string, data: Record<string, unknown>, credit: number, recorded_at: string}} LedgerEvent
 * @typedef {{version: number, title: string, note: string, change: string, gain: boolean, balance: string, time: string}} Row
 */

/** @type {Record<string, string>} */
const TITLES = { UserRegistered: '注册', CreditGranted: '获得积分' };
/** @type {Record<string, string>} */
const REASONS = { signup: '新用户礼包' };

/**
 * The ledger may learn new event types before this version of the mini-program is replaced on every
 * phone: such a row is told by what it did to the credit.
 * @param {number | undefined} change
 */
function titleByChange(change) {
  if (!change) return '账户变动';
  return change > 0 ? '积分增加' : '积分减少';
}

/**
 * @param {LedgerEvent} event
 * @param {LedgerEvent | undefined} older the event before it, where it is loaded
 * @param {number} now
 * @returns {Row}
 */
function statementRow(event, older, now) {
  const { version, type, data, credit } = event;
  const before = version === 1 ? 0 : older && older.credit;
  const change = type === 'CreditGranted' ? Number(data.amount) : before === undefined ? undefined : credit - before;
  const reason = typeof data.reason === 'string' ? data.reason : '';
  return {
    version,
    title: TITLES[type] || titleByChange(change),
    note: REASONS[reason] || reason,
    change: change === undefined ? '' : formatChange(change),
    gain: change !== undefined && change > 0,
    balance: formatCredit(credit),
    time: formatTime(event.recorded_at, now),
  };
}

/**
 * Rows for a stretch of the statement, newest first as the service gives it.
 * @param {LedgerEvent[]} events
 * @param {number} now
 */
function statementRows(events, now) {
  return events.map((event, index) => statementRow(event, events[index + 1], now));
}

module.exports = { statementRows };
