const { HttpError, NetworkError, request } = require('./request');

const STORAGE_KEY = 'token';

/** The service answered the login with a refusal; the message is its sentence for the user. */
class LoginRefused extends Error {
  /** @param {{err?: unknown, code?: unknown}} answer */
  constructor({ err, code }) {
    super(typeof err === 'string' && err ? err : '登录失败，请稍后再试。');
    this.name = 'LoginRefused';
    this.code = code;
  }
}

/** The token in use; empty: not logged in. */
let token = '';
/** @type {Promise<void> | null} the one reading of what an earlier launch left in storage */
let restoring = null;
/** @type {Promise<string> | null} the login under way, shared by all who need one */
let loggingIn = null;

function restored() {
  restoring = restoring || wx.getStorage({ key: STORAGE_KEY }).then(
    ({ data }) => { if (typeof data === 'string') token = data; },
    () => {}, // The key is absent: nobody has logged in on this device yet.
  );
  return restoring;
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
  token = answer.token;
  // A full storage costs one more login at the next launch; this one goes on from memory.
  await wx.setStorage({ key: STORAGE_KEY, data: token }).catch(() => {});
  return token;
}

async function currentToken() {
  await restored();
  return token || login();
}

/**
 * A token to use instead of `refused`: the newer one where another caller has already logged in again.
 * @param {string} refused
 */
function tokenInsteadOf(refused) {
  if (token === refused) token = '';
  return token ? Promise.resolve(token) : login();
}

/** @param {string} asked */
async function isLoggedIn(asked) {
  const { is_login } = await request({ path: '/checklogin', token: asked });
  return is_login === true;
}

/** At launch: log in, or make sure that the token of the last launch still counts. */
async function launch() {
  await restored();
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
 * @param {{method?: 'GET' | 'PUT', path: string, data?: object}} options
 * @returns {Promise<any>}
 * @throws {HttpError | NetworkError | LoginRefused}
 */
async function authorized(options) {
  const used = await currentToken();
  try {
    return await request({ ...options, token: used });
  } catch (error) {
    if (!(await meansLoggedOut(error, used))) throw error;
  }
  return request({ ...options, token: await tokenInsteadOf(used) });
}

module.exports = { LoginRefused, authorized, launch };
