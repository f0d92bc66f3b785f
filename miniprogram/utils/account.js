const session = require('./session');
const verification = require('./verification');
const { dateOf } = require('./format');
const { PAGE_SIZE } = require('./statement');

const STORAGE_KEY = 'credit';

/**
 * @typedef {{grant: number, credit: number, expires_at: string}} Lot
 * @typedef {{version: number, amount: number, deadline: string, reference: string | null}} Hold
 * @typedef {{checked_in: boolean, streak: number, next_reward: number | null}} CheckinState
 *   `next_reward`: null where only the next answer will tell
 * @typedef {object} KnownCredit what can be spent, and all that the service says along with it
 * @property {number | null} version of the last event; null: not known
 * @property {number} credit
 * @property {number} held
 * @property {boolean} frozen
 * @property {Lot[]} lots first to expire first
 * @property {Hold[]} holds first deadline first
 * @property {CheckinState | null} checkin
 * @property {number} at when the service said so, in milliseconds
 * @typedef {{nickname: string | null, avatar: string | null}} Profile
 */

/**
 * An answer with all its parts: what an earlier version of the mini-program kept has fewer, and so
 * has the answer of a service that is not as new as this.
 * @param {Partial<KnownCredit> & {credit: number}} answer
 * @param {number} at
 * @returns {KnownCredit}
 */
function complete({ version = null, credit, held = 0, frozen = false, lots = [], holds = [], checkin = null }, at) {
  return { version, credit, held, frozen, lots, holds, checkin, at };
}

/**
 * The credit now; also kept for the next time without a network.
 * @returns {Promise<KnownCredit>}
 */
async function fetchCredit() {
  const known = complete(await session.authorized({ path: '/v1/me/credit' }), Date.now());
  // Nothing is lost with a full storage but the number to show while offline.
  await wx.setStorage({ key: STORAGE_KEY, data: known }).catch(() => {});
  return known;
}

/**
 * What the last fetchCredit() on this device said, or null; without what has come to its end since.
 * @returns {Promise<KnownCredit | null>}
 */
async function lastKnownCredit() {
  const kept = await wx.getStorage({ key: STORAGE_KEY }).then(({ data }) => data, () => null);
  if (!kept) return null;
  const known = complete(kept, kept.at);
  /** @param {string} moment */
  const toCome = (moment) => dateOf(moment).getTime() > Date.now();
  const holds = known.holds.filter(({ deadline }) => toCome(deadline));
  const held = holds.reduce((sum, { amount }) => sum + amount, 0);
  // What has come to its end is one more event, of a version that is not known here.
  return { ...known, version: null, held, holds, lots: known.lots.filter(({ expires_at }) => toCome(expires_at)) };
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

/**
 * Logs out, and leaves nothing of the user on this device.
 * @param {'here' | 'everywhere'} where
 */
async function logout(where) {
  await (where === 'everywhere' ? session.logoutEverywhere() : session.logout());
  await Promise.all([wx.removeStorage({ key: STORAGE_KEY }), verification.forget()]);
}

module.exports = { fetchCredit, fetchEvents, fetchProfile, lastKnownCredit, logout, saveProfile };
