/**
 * Thousands separators by hand: toLocaleString() differs between WeChat's engines, and one of them
 * has no locales at all. Exact up to 2**53-1, where a number's own digits are.
 * @param {number} credit
 */
function formatCredit(credit) {
  if (!Number.isSafeInteger(credit)) throw new RangeError(`not a whole number of credits: ${credit}`);
  return String(credit).replace(/\B(?=(\d{3})+$)/g, ',').replace('-', '\u2212');
}

/**
 * What an event changed, with its sign; nothing for no change.
 * @param {number} change
 */
function formatChange(change) {
  if (change === 0) return '';
  return (change > 0 ? '+' : '') + formatCredit(change);
}

/**
 * How large the number can stand on the card: the largest credit has 21 characters.
 * @param {string} formatted
 * @returns {'large' | 'medium' | 'small'}
 */
function creditSize(formatted) {
  if (formatted.length <= 9) return 'large';
  return formatted.length <= 14 ? 'medium' : 'small';
}

/** @param {number} number */
function twoDigits(number) {
  return String(number).padStart(2, '0');
}

/**
 * A moment in the device's own time zone, as short as `now` allows.
 * @param {string | number} moment ISO 8601 with a zone (the service's microseconds are fine), or milliseconds
 * @param {number} now milliseconds
 */
function formatTime(moment, now) {
  // Only three decimals of a second are sure to be parsed by every engine.
  const at = new Date(typeof moment === 'string' ? moment.replace(/(\.\d{3})\d+/, '$1') : moment);
  if (Number.isNaN(at.getTime())) throw new RangeError(`not a time: ${moment}`);
  const today = new Date(now);
  // Calendar days, not 24 hours: a day of a clock change has 23 or 25.
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  const clock = `${twoDigits(at.getHours())}:${twoDigits(at.getMinutes())}`;
  if (at.toDateString() === today.toDateString()) return `今天 ${clock}`;
  if (at.toDateString() === yesterday.toDateString()) return `昨天 ${clock}`;
  const day = `${at.getMonth() + 1}月${at.getDate()}日 ${clock}`;
  return at.getFullYear() === today.getFullYear() ? day : `${at.getFullYear()}年${day}`;
}

module.exports = { creditSize, formatChange, formatCredit, formatTime };
