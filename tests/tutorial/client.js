/**
 * The tutorial's mini-program, call for call: which wx functions it uses, with which arguments, in which
 * order, and what it does with each answer. Written anew from its description (docs/wechat.md), because
 * the book's own text is not ours to copy. It differs from miniprogram/ on purpose: it is the old client
 * that has to go on working.
 *
 * The harness, tests/tutorial/run.js, defines wx, App, Page and getApp.
 */

/* ---- app.js: at launch ask whether the stored token is good, and log in where it is not ---- */
App({
  globalData: { userInfo: null, token: null },

  onLaunch() {
    this.checkLogin((res) => {
      console.log('is_login:', res.is_login)
      if (!res.is_login) {
        this.login()
      }
    })
  },

  checkLogin(callback) {
    let token = this.globalData.token
    if (!token) {
      token = wx.getStorageSync('token')
      if (token) {
        this.globalData.token = token
      } else {
        callback({ is_login: false })
        return
      }
    }
    wx.request({
      url: 'http://127.0.0.1:3000/checklogin',
      data: { token: token },
      success: (res) => {
        callback({ is_login: res.data.is_login })
      },
    })
  },

  login() {
    wx.login({
      success: (res) => {
        wx.request({
          url: 'http://127.0.0.1:3000/login',
          method: 'POST',
          data: { code: res.code },
          success: (answer) => {
            // Unchecked, as in the tutorial: without a token this stores undefined.
            this.globalData.token = answer.data.token
            wx.setStorage({ key: 'token', data: answer.data.token })
          },
        })
      },
    })
  },
})

/* ---- the page: a button for the credit, and one that sends the signed profile ---- */
Page({
  credit() {
    wx.request({
      url: 'http://127.0.0.1:3000/credit',
      data: { token: getApp().globalData.token },
      success: (res) => {
        console.log('credit:', JSON.stringify(res.data))
      },
    })
  },

  sendUserInfo() {
    wx.getUserInfo({
      success: (res) => {
        wx.request({
          url: 'http://127.0.0.1:3000/userinfo?token=' + getApp().globalData.token,
          method: 'post',
          data: {
            rawData: res.rawData,
            signature: res.signature,
            encryptedData: res.encryptedData,
            iv: res.iv,
          },
          success: (answer) => {
            console.log('userinfo:', JSON.stringify(answer.data))
          },
        })
      },
    })
  },
})
