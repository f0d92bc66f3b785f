const { HttpError, NetworkError } = require('./request');
const { LoginRefused } = require('./session');
const { AvatarRefused } = require('./avatar');

/**
 * What to tell the user. An error that nobody foresaw is thrown on, for WeChat's error report.
 * @param {unknown} error
 * @returns {string}
 */
function sentenceFor(error) {
  if (error instanceof NetworkError) return '连接不上服务器，请检查网络后重试。';
  if (error instanceof LoginRefused || error instanceof AvatarRefused) return error.message;
  if (error instanceof HttpError) return sentenceForAnswer(error);
  throw error;
}

/** @param {InstanceType<typeof HttpError>} error */
function sentenceForAnswer({ status, body }) {
  if (body && typeof body === 'object' && 'err' in body && typeof body.err === 'string') return body.err;
  if (status === 401) return '登录已失效，请重试。';
  if (status === 429) return '操作太频繁，请稍后再试。';
  if (status >= 400 && status < 500) return `服务器没有接受这次请求（${status}）。`;
  return `服务器暂时不可用（${status}），请稍后再试。`;
}

module.exports = { sentenceFor };
