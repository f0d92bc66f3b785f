// The tutorial's server, written anew in its manner (docs/wechat.md says what it does): one process, all state
// in two objects. Its faults are part of it: a token is the time, an answer of WeChat is believed unread, and a
// restart forgets everybody. Only the address of WeChat is a setting.
const crypto = require('crypto')
const express = require('express')

const { PORT, WECHAT_API, WECHAT_APPID, WECHAT_SECRET } = process.env
const NOBODY = { err: '用户不存在，或未登录。' }

const app = express()
app.use(express.json())

const session = {}
const users = {}

app.post('/login', async (req, res) => {
  const query = new URLSearchParams({
    appid: WECHAT_APPID,
    secret: WECHAT_SECRET,
    js_code: req.body.code,
    grant_type: 'authorization_code',
  })
  const answer = await fetch(`${WECHAT_API}/sns/jscode2session?${query}`)
  const data = await answer.json()
  const token = String(Date.now())
  session[token] = { session_key: data.session_key, openid: data.openid }
  if (!users[data.openid]) {
    users[data.openid] = { openid: data.openid, credit: 100 }
  }
  res.json({ token })
})

app.get('/checklogin', (req, res) => {
  res.json({ is_login: session[req.query.token] !== undefined })
})

app.get('/credit', (req, res) => {
  const live = session[req.query.token]
  if (live && users[live.openid]) {
    res.json({ credit: users[live.openid].credit })
  } else {
    res.json(NOBODY)
  }
})

app.post('/userinfo', (req, res) => {
  const live = session[req.query.token]
  if (!live || !users[live.openid]) {
    return res.json(NOBODY)
  }
  const { rawData, signature, encryptedData, iv } = req.body
  const expected = crypto.createHash('sha1').update(rawData + live.session_key).digest('hex')
  if (expected !== signature) {
    return res.json({ pass: false })
  }
  const key = Buffer.from(live.session_key, 'base64')
  const decipher = crypto.createDecipheriv('aes-128-cbc', key, Buffer.from(iv, 'base64'))
  const text = decipher.update(encryptedData, 'base64', 'utf8') + decipher.final('utf8')
  users[live.openid].info = JSON.parse(text)
  res.json({ pass: true })
})

app.listen(Number(PORT), '127.0.0.1')
