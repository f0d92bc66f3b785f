const { HttpError, NetworkError, request } = require('./request');

const STORAGE_KEY = 'token';
/** Kept while the user does not want to be logged in: WeChat's login asks nobody. */
const LOGGED_OUT_KEY = 'logged-out';

/** The service answered the login with a refusal; the message is its sentence for the user. */
class LoginRefused extends Error {
  /** @param {{err?: unknown, code?: unknown}} answer */
  constructor({ err, code }) {
    super(typeof err === 'string' && err ? err : '登录失败，请稍后再试。');
    this.name = 'LoginRefused';
    this.code = code;
  }
}

/** The user has logged out on this device and has not asked to log in again since. */
class LoggedOut extends Error {
  constructor() {
    super('已退出登录。');
    this.name = 'LoggedOut';
  }
}

/** The token in use; empty: not logged in. */
let token = '';
let loggedOut = false;
/** @type {Promise<void> | null} the one reading of what an earlier launch left in storage */
let restoring = null;
/** @type {Promise<string> | null} the login under way, shared by all who need one */
let loggingIn = null;

function restored() {
  restoring = restoring || restore();
  return restoring;
}

async function restore() {
  const absent = () => ({ data: undefined }); // Nobody has logged in, or out, on this device yet.
  const [kept, left] = await Promise.all([
    wx.getStorage({ key: STORAGE_KEY }).catch(absent),
    wx.getStorage({ key: LOGGED_OUT_KEY }).catch(absent),
  ]);
  if (typeof kept.data === 'string') token = kept.data;
  loggedOut = left.data === true;
}

function login() {
  loggingIn = loggingIn || exchangeCode().finally(() => { loggingIn = null; });
  return loggingIn;
}

async function exchangeCode() {
  // Storage is touched inside the one shared login only, so a late removal cannot hit a newer token.
  await wx.removeStorage({ key: STORAGE_KEY });
  const { code } = await wx.login().catch(({ errMsg }) => { throw new NetworkError(errMsg); });
  const answer = await request({ method: 'POST', path: '/login', data: { code } });
  if (!answer.token) throw new LoginRefused(answer);
  if (loggedOut) throw new LoggedOut(); // Meanwhile: this token is wanted no more.
  token = answer.token;
  // A full storage costs one more login at the next launch; this one goes on from memory.
  await wx.setStorage({ key: STORAGE_KEY, data: token }).catch(() => {});
  return token;
}

async function currentToken() {
  await restored();
  if (loggedOut) throw new LoggedOut();
  return token || login();
}

/**
 * A token to use instead of `refused`: the newer one where another caller has already logged in again.
 * @param {string} refused
 */
async function tokenInsteadOf(refused) {
  if (loggedOut) throw new LoggedOut();
  if (token === refused) token = '';
  return token || login();
}

/** @param {string} asked */
async function isLoggedIn(asked) {
  const { is_login } = await request({ path: '/checklogin', token: asked });
  return is_login === true;
}

/** At launch: log in, or make sure that the token of the last launch still counts. */
async function launch() {
  if (await isLoggedOut()) return;
  const kept = token;
  if (!kept) await login();
  else if (!(await isLoggedIn(kept))) await tokenInsteadOf(kept);
}

/**
 * Whether `error` means that the service does not accept the token. WeChat's desktop client hands a 401
 * to `fail`, where it looks like no network; /checklogin answers 200 either way and settles it.
 * @param {unknown} error
 * @param {string} used
 */
async function meansLoggedOut(error, used) {
  if (error instanceof HttpError) return error.status === 401;
  if (error instanceof NetworkError && !error.timedOut) return !(await isLoggedIn(used));
  return false;
}

/**
 * A request as the user; logs in first where needed, and again, once, where the token is refused.
 * @param {import('./request').Asked} options
 * @returns {Promise<any>}
 * @throws {HttpError | NetworkError | LoginRefused | LoggedOut}
 */
async function authorized(options) {
  const answer = await asUser(options);
  // What comes after a logout is shown and kept no more.
  if (loggedOut) throw new LoggedOut();
  return answer;
}

/** @param {import('./request').Asked} options */
async function asUser(options) {
  const used = await currentToken();
  try {
    return await request({ ...options, token: used });
  } catch (error) {
    if (!(await meansLoggedOut(error, used))) throw error;
  }
  return request({ ...options, token: await tokenInsteadOf(used) });
}

async function isLoggedOut() {
  await restored();
  return loggedOut;
}

/**
 * Ends the session of this device. Offline it fails and changes nothing: a token that was only forgotten
 * would stay good for whoever has a copy.
 * @throws {HttpError | NetworkError}
 */
async function logout() {
  await restored();
  if (loggingIn) await loggingIn.catch(() => {}); // Whatever it came to, `token` says it.
  const used = token;
  loggedOut = true; // Before the answer, or a request that is refused meanwhile would log in again.
  try {
    if (used) await endSession(used);
  } catch (error) {
    loggedOut = false;
    throw error;
  }
  await forget();
}

/** @param {string} used */
async function endSession(used) {
  try {
    await request({ method: 'DELETE', path: '/v1/sessions/current', token: used });
  } catch (error) {
    // A session that is over already is what was asked for.
    if (!(await meansLoggedOut(error, used))) throw error;
  }
}

/**
 * Ends all sessions of the user, on whatever device; with a token that is refused it logs in first,
 * because the others may be alive all the same.
 * @throws {HttpError | NetworkError | LoginRefused | LoggedOut}
 */
async function logoutEverywhere() {
  await authorized({ method: 'DELETE', path: '/v1/sessions' });
  await forget();
}

async function forget() {
  token = '';
  loggedOut = true;
  await wx.removeStorage({ key: STORAGE_KEY });
  // With a full storage the next launch logs in again; this one stays logged out from memory.
  await wx.setStorage({ key: LOGGED_OUT_KEY, data: true }).catch(() => {});
}

/** The user asks to log in again; the next request as the user does it. */
async function comeBack() {
  await restored();
  loggedOut = false;
  await wx.removeStorage({ key: LOGGED_OUT_KEY });
}

module.exports = { LoggedOut, LoginRefused, authorized, comeBack, isLoggedOut, launch, logout, logoutEverywhere };
