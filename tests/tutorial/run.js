/**
 * Runs client.js under Node with a small wx, against a running service, and prints what it logged and
 * stored: node run.js SERVICE SANDBOX USER CODE [STORED_TOKEN]
 *
 * wx.request here does what WeChat's does: GET data becomes the query (undefined as the word), POST data a
 * JSON body, and every status that comes back goes to success.
 */
'use strict'

const fs = require('node:fs')
const path = require('node:path')
const vm = require('node:vm')

const [service, sandbox, user, code, stored] = process.argv.slice(2)
const storage = stored === undefined ? {} : { token: stored }
const log = []
const statuses = []
const pending = new Set()
let app
let page

function later(promise) {
  pending.add(promise)
  promise.finally(() => pending.delete(promise))
}

async function request(options) {
  const url = new URL(options.url.replace('http://127.0.0.1:3000', service))
  const method = (options.method || 'GET').toUpperCase()
  const init = { method, headers: { 'content-type': 'application/json' } }
  if (method === 'GET') {
    for (const [name, value] of Object.entries(options.data || {})) {
      url.searchParams.set(name, String(value))
    }
  } else {
    init.body = JSON.stringify(options.data)
  }
  const response = await fetch(url, init)
  const text = await response.text()
  statuses.push(response.status)
  let data = text
  try {
    data = JSON.parse(text)
  } catch {
    // WeChat hands on what is not JSON as text
  }
  options.success({ statusCode: response.status, data })
}

const wx = {
  login: (options) => later(Promise.resolve().then(() => options.success({ code: code === 'undefined' ? undefined : code }))),
  request: (options) => later(request(options)),
  getStorageSync: (key) => (key in storage ? storage[key] : ''),
  setStorage: ({ key, data }) => { storage[key] = data },
  getUserInfo: (options) => later((async () => {
    const query = new URLSearchParams({ user, nickName: '小明', avatarUrl: 'https://a/1' })
    options.success(await (await fetch(`${sandbox}/sandbox/userinfo?${query}`)).json())
  })()),
}

async function settled() {
  while (pending.size) {
    await Promise.all(pending)
  }
}

async function main() {
  const source = fs.readFileSync(path.join(__dirname, 'client.js'), 'utf8')
  vm.runInNewContext(source, {
    wx,
    App: (definition) => { app = definition },
    Page: (definition) => { page = definition },
    getApp: () => app,
    console: { log: (...words) => log.push(words.join(' ')) },
  })
  app.onLaunch()
  await settled()
  page.credit()
  await settled()
  page.sendUserInfo()
  await settled()
  const token = storage.token === undefined ? 'undefined' : storage.token
  process.stdout.write(JSON.stringify({ log, token, statuses }))
}

main()
