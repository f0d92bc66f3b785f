const { formatChange, formatCredit, formatTime } = require('./format');
const { describe, isToldBy, statedChange } = require('./events');

/** How many events are asked for at a time. */
const PAGE_SIZE = 20;

/**
 * @typedef {{version: number, type: string, data: Record<string, unknown>, credit: number, recorded_at: string}} LedgerEvent
 * @typedef {object} Row
 * @property {number} version
 * @property {string} title
 * @property {string} note why, in a word
 * @property {string} detail a second line: numbers, ends, figures
 * @property {string} change of what can be spent, with its sign; empty for none
 * @property {boolean} gain
 * @property {string} balance
 * @property {string} time
 */

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
 * What the event changed: by its own facts, so that a row does not need the one below it, which may not be
 * loaded. Only of a type that nobody here knows is it the difference.
 * @param {LedgerEvent} event
 * @param {LedgerEvent | undefined} older the event before it, where it is loaded
 */
function changeOf(event, older) {
  const stated = statedChange(event);
  if (stated !== undefined) return stated;
  if (event.version === 1) return event.credit;
  return older && event.credit - older.credit;
}

/**
 * @param {LedgerEvent} event
 * @param {LedgerEvent | undefined} older
 * @param {number} now
 * @returns {Row}
 */
function statementRow(event, older, now) {
  const change = changeOf(event, older);
  const { title, note, detail } = describe(event, older, now);
  return {
    version: event.version,
    title: title || titleByChange(change),
    note,
    detail,
    change: change === undefined ? '' : formatChange(change),
    gain: change !== undefined && change > 0,
    balance: formatCredit(event.credit),
    time: formatTime(event.recorded_at, now),
  };
}

/**
 * Rows for a stretch of the statement, newest first as the service gives it.
 * @param {LedgerEvent[]} events
 * @param {number} now
 */
function statementRows(events, now) {
  return events.flatMap((event, index) => (
    isToldBy(event, events[index - 1]) ? [] : [statementRow(event, events[index + 1], now)]
  ));
}

module.exports = { PAGE_SIZE, statementRows };
