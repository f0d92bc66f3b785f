const session = require('./session');

const STORAGE_KEY = 'credit';
const PAGE_SIZE = 20;

/**
 * @typedef {{credit: number, at: number}} KnownCredit `at`: when the service said so, in milliseconds
 * @typedef {{nickname: string | null, avatar: string | null}} Profile
 */

/**
 * The credit now; also kept for the next time without a network.
 * @returns {Promise<KnownCredit>}
 */
async function fetchCredit() {
  const { credit } = await session.authorized({ path: '/v1/me/credit' });
  const known = { credit, at: Date.now() };
  // Nothing is lost with a full storage but the number to show while offline.
  await wx.setStorage({ key: STORAGE_KEY, data: known }).catch(() => {});
  return known;
}

/**
 * What the last fetchCredit() on this device said, or null.
 * @returns {Promise<KnownCredit | null>}
 */
function lastKnownCredit() {
  return wx.getStorage({ key: STORAGE_KEY }).then(({ data }) => data, () => null);
}

/**
 * One page of the statement, newest first.
 * @param {number | null} before the cursor of the page before; null: from the newest
 * @returns {Promise<{events: import('./statement').LedgerEvent[], next_before: number | null}>}
 */
function fetchEvents(before) {
  const cursor = before === null ? '' : `&before=${before}`;
  return session.authorized({ path: `/v1/me/events?limit=${PAGE_SIZE}${cursor}` });
}

/** @returns {Promise<Profile>} */
function fetchProfile() {
  return session.authorized({ path: '/v1/me' });
}

/**
 * @param {Profile} profile
 * @returns {Promise<Profile>}
 */
function saveProfile(profile) {
  return session.authorized({ method: 'PUT', path: '/v1/me/profile', data: profile });
}

module.exports = { fetchCredit, fetchEvents, fetchProfile, lastKnownCredit, saveProfile };
