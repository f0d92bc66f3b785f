/**
 * The parts of WeChat's `wx` that need no screen, on web standards: for the browser and for Node.
 * WeChat's manners are kept: callbacks or a promise, errors as `{errMsg}`, every status a success.
 */

/** Lets `run` be called as WeChat's APIs are: with callbacks, or without any for a promise. */
export function api(name, run) {
  return (options = {}) => {
    const outcome = Promise.resolve(options).then(run).then(
      (result) => ({ errMsg: `${name}:ok`, ...result }),
      (error) => Promise.reject({ errMsg: `${name}:fail ${error.message}` }),
    );
    const { success, fail, complete } = options;
    if (!success && !fail && !complete) return outcome;
    outcome.then(success, fail ?? (() => {})).finally(complete);
  };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text; // As WeChat does with what is no JSON.
  }
}

/**
 * @param {object} options
 * @param {string} options.baseUrl the mini-program's own idea of the service; anything else is refused, as urlCheck does
 * @param {string} options.origin where the service really is
 * @param {{getItem: Function, setItem: Function, removeItem: Function}} options.storage
 * @param {string} options.codePrefix `dev-ann` logs in as the sandbox's user ann
 * @param {boolean} [options.desktop] as WeChat's desktop client: a 401 is a failure
 */
export function createWx({ baseUrl, origin, storage, codePrefix, desktop = false }) {
  async function send({ url, method = 'GET', data, header = {}, timeout = 60000 }) {
    if (!url.startsWith(`${baseUrl}/`)) throw new Error('url not in domain list');
    const response = await fetch(origin + url.slice(baseUrl.length), {
      method,
      headers: { 'content-type': 'application/json', ...header },
      body: data === undefined ? undefined : JSON.stringify(data),
      signal: AbortSignal.timeout(timeout),
    }).catch((error) => { throw error.name === 'TimeoutError' ? new Error('timeout') : error; });
    const text = await response.text();
    if (desktop && response.status === 401) throw new Error('unauthorized');
    return { statusCode: response.status, data: parsed(text), header: Object.fromEntries(response.headers) };
  }

  return {
    request: api('request', send),
    login: api('login', () => ({ code: `${codePrefix}-${crypto.randomUUID()}` })),
    getStorage: api('getStorage', ({ key }) => {
      const text = storage.getItem(`wx:${key}`);
      if (text === null) throw new Error('data not found');
      return { data: JSON.parse(text) };
    }),
    setStorage: api('setStorage', ({ key, data }) => storage.setItem(`wx:${key}`, JSON.stringify(data))),
    removeStorage: api('removeStorage', ({ key }) => storage.removeItem(`wx:${key}`)),
  };
}
