// The tutorial's server as a careful person would deploy it: a process per core, everything in SQLite, one durable
// transaction a request, random tokens, WeChat's answer checked; and a grant with an idempotency key beside it.
const cluster = require('cluster')
const crypto = require('crypto')
const path = require('path')
const Database = require('better-sqlite3')
const express = require('express')

const { PORT, DATA, PROCESSES, API_KEY, SIGNUP_CREDIT, WECHAT_API, WECHAT_APPID, WECHAT_SECRET } = process.env
const NOBODY = { err: '用户不存在，或未登录。' }

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS user (
    openid TEXT PRIMARY KEY, credit INTEGER NOT NULL CHECK (credit >= 0), info TEXT);
  CREATE TABLE IF NOT EXISTS session (
    token TEXT PRIMARY KEY, openid TEXT NOT NULL REFERENCES user, session_key TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY, openid TEXT NOT NULL REFERENCES user, amount INTEGER NOT NULL,
    reason TEXT NOT NULL, key TEXT NOT NULL, credit INTEGER NOT NULL, recorded_at INTEGER NOT NULL,
    UNIQUE (openid, key));
`

function open() {
  const db = new Database(path.join(DATA, 'credit.db'), { timeout: 5000 })
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = FULL')
  db.pragma('foreign_keys = ON')
  return db
}

function serve() {
  const db = open()
  const insertUser = db.prepare('INSERT INTO user (openid, credit) VALUES (?, ?) ON CONFLICT DO NOTHING')
  const insertSession = db.prepare('INSERT INTO session (token, openid, session_key) VALUES (?, ?, ?)')
  const findSession = db.prepare(
    'SELECT openid, credit, session_key FROM session JOIN user USING (openid) WHERE token = ?')
  const findEntry = db.prepare('SELECT id, amount, reason, credit FROM entry WHERE openid = ? AND key = ?')
  const addCredit = db.prepare('UPDATE user SET credit = credit + ? WHERE openid = ? RETURNING credit')
  const insertEntry = db.prepare(
    'INSERT INTO entry (openid, amount, reason, key, credit, recorded_at) VALUES (?, ?, ?, ?, ?, ?)')
  const keepInfo = db.prepare('UPDATE user SET info = ? WHERE openid = ?')

  const logIn = db.transaction((token, openid, sessionKey) => {
    insertUser.run(openid, Number(SIGNUP_CREDIT))
    insertSession.run(token, openid, sessionKey)
  })
  const grant = db.transaction((openid, amount, reason, key) => {
    const seen = findEntry.get(openid, key)
    if (seen) {
      const same = seen.amount === amount && seen.reason === reason
      return same ? { status: 201, body: seen } : { status: 422, body: { code: 'key-reused' } }
    }
    const user = addCredit.get(amount, openid)
    if (!user) {
      return { status: 404, body: { code: 'account-not-found' } }
    }
    const { lastInsertRowid: id } = insertEntry.run(openid, amount, reason, key, user.credit, Date.now())
    return { status: 201, body: { id, amount, reason, credit: user.credit } }
  })

  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.use(express.json())

  app.post('/login', async (req, res) => {
    const query = new URLSearchParams({
      appid: WECHAT_APPID,
      secret: WECHAT_SECRET,
      js_code: String(req.body.code),
      grant_type: 'authorization_code',
    })
    const answer = await fetch(`${WECHAT_API}/sns/jscode2session?${query}`)
    const { openid, session_key: sessionKey } = await answer.json()
    if (!openid || !sessionKey) {
      return res.json({ err: '登录失败' })
    }
    const token = crypto.randomBytes(32).toString('base64url')
    logIn.immediate(token, openid, sessionKey)
    res.json({ token })
  })

  app.get('/checklogin', (req, res) => {
    res.json({ is_login: findSession.get(String(req.query.token)) !== undefined })
  })

  app.get('/credit', (req, res) => {
    const live = findSession.get(String(req.query.token))
    res.json(live ? { credit: live.credit } : NOBODY)
  })

  app.post('/userinfo', (req, res) => {
    const live = findSession.get(String(req.query.token))
    if (!live) {
      return res.json(NOBODY)
    }
    const { rawData, signature, encryptedData, iv } = req.body
    const expected = crypto.createHash('sha1').update(rawData + live.session_key).digest('hex')
    if (expected !== signature) {
      return res.json({ pass: false })
    }
    const key = Buffer.from(live.session_key, 'base64')
    const decipher = crypto.createDecipheriv('aes-128-cbc', key, Buffer.from(iv, 'base64'))
    keepInfo.run(decipher.update(encryptedData, 'base64', 'utf8') + decipher.final('utf8'), live.openid)
    res.json({ pass: true })
  })

  app.post('/v1/accounts/:openid/grants', (req, res) => {
    if (req.get('authorization') !== `Bearer ${API_KEY}`) {
      return res.status(401).json({ code: 'unauthorized' })
    }
    const { amount, reason } = req.body
    const key = req.get('idempotency-key')
    if (!Number.isSafeInteger(amount) || amount < 1 || typeof reason !== 'string' || !key) {
      return res.status(422).json({ code: 'invalid-body' })
    }
    const { status, body } = grant.immediate(req.params.openid, amount, reason, key)
    res.status(status).json(body)
  })

  app.listen(Number(PORT), '127.0.0.1')
}

if (cluster.isPrimary) {
  const db = open()
  db.exec(SCHEMA)
  db.close()
  for (let process = 0; process < Number(PROCESSES); process++) {
    cluster.fork()
  }
} else {
  serve()
}
