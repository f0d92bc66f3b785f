const { baseUrl } = require('../config');

/** wx.request waits 60 s by default, which looks like a hung page. */
const TIMEOUT_MS = 8000;

/** The service answered, but not with the JSON object of a success. */
class HttpError extends Error {
  /**
   * @param {number} status
   * @param {unknown} body JSON where it could be parsed, else text
   * @param {number | null} [retryAfterS] the seconds that the service asks to wait
   */
  constructor(status, body, retryAfterS = null) {
    super(`HTTP ${status}`);
    this.name = 'HttpError';
    this.status = status;
    this.body = body;
    this.retryAfterS = retryAfterS;
  }

  /** The stable code of a problem (RFC 9457); empty where the body is none. */
  get code() {
    const { body } = this;
    return body && typeof body === 'object' && 'code' in body && typeof body.code === 'string' ? body.code : '';
  }
}

/** There was no answer: offline, refused, a broken certificate, or too slow. */
class NetworkError extends Error {
  /** @param {string} reason WeChat's errMsg */
  constructor(reason) {
    super(reason);
    this.name = 'NetworkError';
    this.timedOut = reason.includes('timeout');
  }
}

/**
 * A proxy may send a date there instead; it is as good as nothing to somebody who waits.
 * @param {Record<string, unknown>} header
 */
function retryAfterS(header) {
  // WeChat's engines do not agree on the letter case of an answer's header names.
  const name = Object.keys(header).find((key) => key.toLowerCase() === 'retry-after');
  const value = name === undefined ? '' : String(header[name]);
  return /^\d{1,6}$/.test(value) ? Number(value) : null;
}

/**
 * One request to the service.
 *
 * @typedef {{method?: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, data?: object, idempotencyKey?: string}} Asked
 *   `idempotencyKey`: under the same one the service does it once, however often it is asked
 * @param {Asked & {token?: string}} options `token` travels in a header only: addresses end up in logs
 * @returns {Promise<any>} the JSON object of a 2xx answer; null for a 204
 * @throws {HttpError | NetworkError}
 */
function request({ method = 'GET', path, data, token, idempotencyKey }) {
  return new Promise((resolve, reject) => {
    wx.request({
      url: baseUrl + path,
      method,
      data,
      header: {
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
        ...(idempotencyKey ? { 'Idempotency-Key': idempotencyKey } : {}),
      },
      timeout: TIMEOUT_MS,
      // WeChat calls success for every status.
      success: ({ statusCode, data: body, header = {} }) => {
        if (statusCode === 204) resolve(null);
        // A hotel's login page is a 200 too, but no JSON object.
        else if (statusCode >= 200 && statusCode < 300 && body && typeof body === 'object') resolve(body);
        else reject(new HttpError(statusCode, body, retryAfterS(header)));
      },
      fail: ({ errMsg }) => reject(new NetworkError(errMsg)),
    });
  });
}

module.exports = { HttpError, NetworkError, request };
