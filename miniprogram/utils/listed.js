/** Whether the list on the page is what was sealed: its events against those of a proof that was checked. */
const { formatCredit } = require('./format');
const { isCount } = require('./proof-failed');

/**
 * @typedef {import('./statement').LedgerEvent} LedgerEvent
 * @typedef {import('./proof').ProvedEvent} ProvedEvent
 */

/**
 * The lowest version that the page lists; Infinity for none.
 * @param {LedgerEvent[]} listed newest first
 */
function oldestOf(listed) {
  return listed.reduce((oldest, { version }) => (isCount(version) ? Math.min(oldest, version) : oldest), Infinity);
}

/**
 * Whether the proved events reach down to `oldest`. The content of the first one was not checked, but for the
 * account's own first: the hash before it was not there.
 * @param {ProvedEvent[]} events oldest first, without a gap
 * @param {number} oldest
 */
function reaches(events, oldest) {
  return events[0].version <= Math.max(oldest - 1, 1);
}

/**
 * What the page lists of the proved events, but for those too old for them; with how many are proved and listed.
 * @param {LedgerEvent[]} listed newest first, without a gap
 * @param {ProvedEvent[]} events oldest first, the last one being the last that was sealed
 * @returns {{why: string, compared: number}} `why`: a sentence about the first that is not as it was sealed, or empty
 */
function compareListed(listed, events) {
  const first = events[0].version;
  const last = first + events.length - 1;
  let compared = 0;
  for (let index = 0; index < listed.length; index += 1) {
    const event = listed[index];
    const due = index > 0 ? listed[index - 1].version - 1 : event.version;
    if (!isCount(due) || due < 1 || event.version !== due) return { why: '页面上的明细不连续，缺了记录，或者多了记录。', compared };
    if (event.version > last) continue; // Not sealed yet, or a lapse that is not even recorded.
    if (event.version < first || (event.version === first && first > 1)) break;
    const different = differenceIn(event, events[event.version - first]);
    if (different) return { why: `页面上第 ${formatCredit(event.version)} 条记录的${different}和封存的不一样。`, compared };
    compared += 1;
  }
  return { why: '', compared };
}

/**
 * What of a listed event is not as it was sealed, in a word; empty where all is.
 * @param {LedgerEvent} event
 * @param {ProvedEvent} proved
 */
function differenceIn(event, proved) {
  if (event.type !== proved.type) return '类型';
  if (event.credit !== proved.credit) return '余额';
  if (microsecondsOf(event.recorded_at) !== proved.recorded_at_us) return '时间';
  // Both are parsed from the same text, so an honest one has its fields in the same order as well.
  const facts = JSON.parse(proved.data);
  if (JSON.stringify(event.data) === JSON.stringify(facts)) return '';
  return event.data && event.data.amount === facts.amount ? '说明' : '数额';
}

/**
 * @param {string} moment as the service writes it: RFC 3339 in UTC, to the microsecond
 * @returns {number} NaN where it is written otherwise
 */
function microsecondsOf(moment) {
  const found = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{6})Z$/.exec(moment);
  return found ? Date.parse(`${found[1]}Z`) * 1000 + Number(found[2]) : NaN;
}

module.exports = { compareListed, oldestOf, reaches };
