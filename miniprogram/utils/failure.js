const { HttpError, NetworkError } = require('./request');
const { LoggedOut, LoginRefused } = require('./session');
const { AvatarRefused } = require('./avatar');

const FROZEN = '账户已冻结，暂时不能签到和使用积分。如有疑问，请联系客服。';
/** What the service refused, by the code of its problem. */
const REFUSALS = new Map([['account-frozen', FROZEN], ['already-checked-in', '今天已经签到过了。']]);

/**
 * What to tell the user. An error that nobody foresaw is thrown on, for WeChat's error report.
 * @param {unknown} error
 * @returns {string}
 */
function sentenceFor(error) {
  if (error instanceof NetworkError) return '连接不上服务器，请检查网络后重试。';
  if (error instanceof LoginRefused || error instanceof LoggedOut || error instanceof AvatarRefused) return error.message;
  if (error instanceof HttpError) return sentenceForAnswer(error);
  throw error;
}

/** @param {InstanceType<typeof HttpError>} error */
function sentenceForAnswer({ status, body, code, retryAfterS }) {
  if (body && typeof body === 'object' && 'err' in body && typeof body.err === 'string') return body.err;
  const refusal = REFUSALS.get(code);
  if (refusal) return refusal;
  if (status === 401) return '登录已失效，请重试。';
  if (status === 429) return `操作太频繁，请${retryAfterS ? ` ${retryAfterS} 秒后` : '稍后'}再试。`;
  if (status >= 400 && status < 500) return `服务器没有接受这次请求（${status}）。`;
  return `服务器暂时不可用（${status}），请稍后再试。`;
}

module.exports = { FROZEN, sentenceFor };
