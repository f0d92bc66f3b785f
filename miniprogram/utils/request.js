const { baseUrl } = require('../config');

/** wx.request waits 60 s by default, which looks like a hung page. */
const TIMEOUT_MS = 8000;

/** The service answered, but not with the JSON object of a success. */
class HttpError extends Error {
  /**
   * @param {number} status
   * @param {unknown} body JSON where it could be parsed, else text
   */
  constructor(status, body) {
    super(`HTTP ${status}`);
    this.name = 'HttpError';
    this.status = status;
    this.body = body;
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
 * One request to the service.
 *
 * @param {{method?: 'GET' | 'POST' | 'PUT', path: string, data?: object, token?: string}} options
 *   `token` travels in a header only: addresses end up in logs.
 * @returns {Promise<any>} the JSON object of a 2xx answer
 * @throws {HttpError | NetworkError}
 */
function request({ method = 'GET', path, data, token }) {
  return new Promise((resolve, reject) => {
    wx.request({
      url: baseUrl + path,
      method,
      data,
      header: token ? { Authorization: `Bearer ${token}` } : {},
      timeout: TIMEOUT_MS,
      // WeChat calls success for every status.
      success: ({ statusCode, data: body }) => {
        // A hotel's login page is a 200 too, but no JSON object.
        if (statusCode >= 200 && statusCode < 300 && body && typeof body === 'object') resolve(body);
        else reject(new HttpError(statusCode, body));
      },
      fail: ({ errMsg }) => reject(new NetworkError(errMsg)),
    });
  });
}

module.exports = { HttpError, NetworkError, request };
