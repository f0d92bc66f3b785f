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

/** @param {string | number} moment ISO 8601 with a zone (the service's microseconds are fine), or milliseconds */
function dateOf(moment) {
  // Only three decimals of a second are sure to be parsed by every engine.
  const date = new Date(typeof moment === 'string' ? moment.replace(/(\.\d{3})\d+/, '$1') : moment);
  if (Number.isNaN(date.getTime())) throw new RangeError(`not a time: ${moment}`);
  return date;
}

/**
 * The day that lies so many calendar days after that of `now`: a day of a clock change has 23 or 25 hours.
 * @param {number} now
 * @param {number} days
 */
function dayFrom(now, days) {
  const today = new Date(now);
  return new Date(today.getFullYear(), today.getMonth(), today.getDate() + days).toDateString();
}

/** @param {Date} at */
function clockOf(at) {
  return `${twoDigits(at.getHours())}:${twoDigits(at.getMinutes())}`;
}

/**
 * A moment in the device's own time zone, as short as `now` allows.
 * @param {string | number} moment as dateOf() takes it
 * @param {number} now milliseconds
 */
function formatTime(moment, now) {
  const at = dateOf(moment);
  const clock = clockOf(at);
  if (at.toDateString() === dayFrom(now, 0)) return `今天 ${clock}`;
  if (at.toDateString() === dayFrom(now, -1)) return `昨天 ${clock}`;
  const day = `${at.getMonth() + 1}月${at.getDate()}日 ${clock}`;
  return at.getFullYear() === new Date(now).getFullYear() ? day : `${at.getFullYear()}年${day}`;
}

/**
 * A moment to come, such as a deadline. Always with the time of day: what ends at 00:00 does not last
 * through that day.
 * @param {string | number} moment as dateOf() takes it
 * @param {number} now milliseconds
 */
function formatEnd(moment, now) {
  const at = dateOf(moment);
  return at.toDateString() === dayFrom(now, 1) ? `明天 ${clockOf(at)}` : formatTime(moment, now);
}

module.exports = { creditSize, dateOf, formatChange, formatCredit, formatEnd, formatTime };
