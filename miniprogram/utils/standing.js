const { checkinView } = require('./checkin');
const { FROZEN } = require('./failure');
const { creditSize, formatCredit, formatEnd, formatTime } = require('./format');

/**
 * @typedef {{key: number, amount: string, about: string, end: string}} Part
 * @typedef {{parts: Part[], more: string}} Parts `more`: how many are not shown; empty for none
 */

/** A page is no place for a thousand lots: the first ones, and how many more there are. */
const SHOWN = 3;

/**
 * @template Item
 * @param {Item[]} items
 * @param {(item: Item) => Part} partOf
 * @returns {Parts}
 */
function firstOf(items, partOf) {
  const rest = items.length - SHOWN;
  return { parts: items.slice(0, SHOWN).map(partOf), more: rest > 0 ? formatCredit(rest) : '' };
}

/**
 * What the page shows of an account.
 * @param {import('./account').KnownCredit} known
 * @param {number} now
 */
function standingView(known, now) {
  const credit = formatCredit(known.credit);
  return {
    credit,
    creditSize: creditSize(credit),
    creditTime: formatTime(known.at, now),
    held: known.held > 0 ? formatCredit(known.held) : '',
    frozen: known.frozen ? FROZEN : '',
    checkin: checkinView(known, now),
    expiring: firstOf(known.lots, (lot) => ({
      key: lot.grant,
      amount: formatCredit(lot.credit),
      about: '',
      end: `${formatEnd(lot.expires_at, now)} 过期`,
    })),
    holds: firstOf(known.holds, (hold) => ({
      key: hold.version,
      amount: formatCredit(hold.amount),
      about: hold.reference ? `单号 ${hold.reference}` : '',
      end: `预留至 ${formatEnd(hold.deadline, now)}`,
    })),
  };
}

module.exports = { standingView };
