/** A phone for the node tests: the mini-program's modules, freshly loaded, on storage of its own. */
import { webcrypto } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { createRequire } from 'node:module';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { createWx } from './wx.js';

globalThis.crypto ??= webcrypto; // wx.js expects it, and Node 18 has no such global

export const SOURCE = fileURLToPath(new URL('../../miniprogram', import.meta.url));
const require = createRequire(import.meta.url);
const { baseUrl } = require(path.join(SOURCE, 'config.js'));

/** The running service that these tests need. */
export function service() {
  const url = process.env.CREDIT_LEDGER_URL;
  if (!url) throw new Error('CREDIT_LEDGER_URL must be the address of a running service with its sandbox');
  return url;
}

/** An address where nobody answers: a port that has just been given back. */
export async function nowhere() {
  const server = net.createServer();
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const { port } = server.address();
  await new Promise((resolve) => { server.close(resolve); });
  return `http://127.0.0.1:${port}`;
}

export function inMemoryStorage() {
  const kept = new Map();
  return {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, text) => { kept.set(key, text); },
    removeItem: (key) => { kept.delete(key); },
  };
}

/**
 * Starts the mini-program's modules anew, as a launch does: their state is gone, `storage` stays.
 * @returns requests: what was sent, as 'POST /login'; keys: the Idempotency-Keys among it; hold(request):
 *   keeps back the next answer to it until the returned function is called; lose(request): the next one is
 *   answered, but the answer gets lost on the way
 */
export function launch({ origin, storage = inMemoryStorage(), login = `dev-n${crypto.randomUUID().slice(0, 8)}`, ...options }) {
  const requests = [];
  const keys = [];
  const holds = [];
  const losses = [];
  const wx = createWx({ baseUrl, origin, storage, codePrefix: login, ...options });
  const send = wx.request;
  wx.request = ({ success, fail, ...rest }) => {
    const request = `${rest.method ?? 'GET'} ${rest.url.slice(baseUrl.length)}`;
    requests.push(request);
    if (rest.header?.['Idempotency-Key']) keys.push(rest.header['Idempotency-Key']);
    const lost = losses.indexOf(request);
    if (lost >= 0) losses.splice(lost, 1);
    const index = holds.findIndex((hold) => hold.request === request);
    const gate = index < 0 ? Promise.resolve() : holds.splice(index, 1)[0].gate;
    const after = (deliver) => async (answer) => { await gate; deliver(answer); };
    const arrive = lost < 0 ? success : () => fail({ errMsg: 'request:fail interrupted' });
    send({ ...rest, success: after(arrive), fail: after(fail) });
  };
  globalThis.wx = wx;
  for (const file of Object.keys(require.cache)) if (file.startsWith(SOURCE + path.sep)) delete require.cache[file];
  return {
    wx,
    storage,
    login,
    requests,
    keys,
    count: (request) => requests.filter((made) => made === request).length,
    load: (module) => require(path.join(SOURCE, module)),
    hold(request) {
      let release;
      holds.push({ request, gate: new Promise((resolve) => { release = resolve; }) });
      return release;
    },
    lose: (request) => { losses.push(request); },
    storedToken: () => JSON.parse(storage.getItem('wx:token')),
  };
}

/** A real server for what the service itself does not do: break, hang, or be a hotel's login page. */
export async function serving(t, answer) {
  const seen = [];
  const server = http.createServer((request, response) => { seen.push(request); answer(response, request); });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  t.after(() => { server.closeAllConnections(); server.close(); });
  return { origin: `http://127.0.0.1:${server.address().port}`, seen };
}

/** An answer for serving(). */
export function body(status, type, text, headers = {}) {
  return (response) => { response.writeHead(status, { 'content-type': type, ...headers }); response.end(text); };
}

export async function until(condition, what = condition) {
  const deadline = Date.now() + 60000; // However busy the machine is; nobody waits that long for what comes.
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited 60 s for ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 5); });
  }
}
