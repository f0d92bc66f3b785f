const account = require('../../utils/account');
const { avatarDataUrl } = require('../../utils/avatar');
const { sentenceFor } = require('../../utils/failure');

Page({
  data: {
    nickname: '',
    avatar: '',
    loading: true,
    saving: false,
    leaving: false,
    error: '',
    /** The profile could not be read: saving now would overwrite an avatar that is not shown. */
    unread: true,
  },

  async onLoad() {
    await this.loadProfile();
  },

  async loadProfile() {
    this.setData({ loading: true, error: '' });
    try {
      const { nickname, avatar } = await account.fetchProfile();
      this.setData({ nickname: nickname || '', avatar: avatar || '', unread: false });
    } catch (error) {
      this.setData({ error: sentenceFor(error) });
    } finally {
      this.setData({ loading: false });
    }
  },

  /** @param {WechatMiniprogram.CustomEvent<{avatarUrl: string}>} event */
  async onChooseAvatar({ detail }) {
    this.setData({ error: '' });
    try {
      this.setData({ avatar: await avatarDataUrl(detail.avatarUrl) });
    } catch (error) {
      this.setData({ error: sentenceFor(error) });
    }
  },

  /**
   * The nickname comes with the form: a name picked from WeChat's keyboard fires no input event, and
   * WeChat clears one that its review refuses.
   * @param {WechatMiniprogram.FormSubmit} event
   */
  async onSubmit({ detail }) {
    const nickname = detail.value.nickname.trim();
    if (!nickname) {
      this.setData({ error: '请填写昵称。' });
      return;
    }
    this.setData({ saving: true, error: '' });
    try {
      await account.saveProfile({ nickname, avatar: this.data.avatar || null });
      wx.showToast({ title: '已保存', icon: 'success' });
      wx.navigateBack();
    } catch (error) {
      this.setData({ error: sentenceFor(error) });
    } finally {
      this.setData({ saving: false });
    }
  },

  async logout() {
    await this.leave('here');
  },

  async logoutEverywhere() {
    const { confirm } = await wx.showModal({
      title: '退出所有设备？',
      content: '你在其他设备上的登录也会失效。积分不受影响。',
      confirmText: '全部退出',
    });
    if (confirm) await this.leave('everywhere');
  },

  /** @param {'here' | 'everywhere'} where */
  async leave(where) {
    if (this.data.leaving) return;
    this.setData({ leaving: true, error: '' });
    try {
      await account.logout(where);
      wx.reLaunch({ url: '/pages/login/login' }); // No page stays that shows what is not there any more.
    } catch (error) {
      this.setData({ error: sentenceFor(error) });
    } finally {
      this.setData({ leaving: false });
    }
  },
});
