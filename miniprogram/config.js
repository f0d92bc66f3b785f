/**
 * `baseUrl`: where the Credit Ledger service answers, without a slash at the end.
 *
 * The default is a `scripts/serve` on this machine, for the simulator of WeChat DevTools: there, tick
 * 「详情 → 本地设置 → 不校验合法域名」. A phone needs the service's own https domain here, entered as well
 * under 「开发管理 → 开发设置 → 服务器域名 → request 合法域名」 at mp.weixin.qq.com.
 *
 * `sealKey`: the public key that seals are checked with, as `credit-ledger seals --vkey` prints it. While it
 * is empty, each phone remembers the key that it sees first, and says so. With another key here than before, each
 * phone begins anew, and says so; what it had proved with the former one is put aside.
 */
module.exports = { baseUrl: 'http://127.0.0.1:3000', sealKey: '' };
