const account = require('../../utils/account');
const { creditSize, formatCredit, formatTime } = require('../../utils/format');
const { sentenceFor } = require('../../utils/failure');
const { statementRows } = require('../../utils/statement');

/** @typedef {import('../../utils/statement').LedgerEvent} LedgerEvent */
/** @typedef {import('../../utils/statement').Row} Row */

Page({
  data: {
    nickname: '',
    avatar: '',
    /** Formatted; empty until a credit is known. */
    credit: '',
    creditSize: 'large',
    creditTime: '',
    /** The credit shown is one of an earlier time, because the service could not be asked. */
    stale: false,
    loading: false,
    error: '',
    /** @type {Row[]} */
    rows: [],
    /** @type {'none' | 'more' | 'loading' | 'failed' | 'end'} what comes below the rows */
    tail: 'none',
  },

  shown: false,
  /** @type {LedgerEvent[]} what `rows` shows */
  events: [],
  /** @type {number | null} where the next older page starts; null: there is none */
  cursor: null,
  /** @type {Promise<void> | null} the refresh under way, shared by the button and the pull-down */
  refreshing: null,

  async onLoad() {
    const known = await account.lastKnownCredit();
    if (!known) return; // The first launch: the button says what to do.
    this.showCredit(known);
    await this.refresh();
  },

  /** Coming back from the profile page: show what was saved there. */
  async onShow() {
    const first = !this.shown;
    this.shown = true;
    // Without a network the name stays as it is; that is no reason to disturb.
    if (!first) await this.loadProfile().catch(sentenceFor);
  },

  async onPullDownRefresh() {
    try {
      await this.refresh();
    } finally {
      wx.stopPullDownRefresh();
    }
  },

  onReachBottom() {
    // After a failure only a tap tries again, or resting at the bottom would ask for ever.
    if (this.data.tail === 'more') return this.loadMore();
  },

  refresh() {
    this.refreshing = this.refreshing || this.loadAll().finally(() => { this.refreshing = null; });
    return this.refreshing;
  },

  async loadAll() {
    this.setData({ loading: true, error: '' });
    try {
      await Promise.all([this.loadCredit(), this.loadStatement(), this.loadProfile()]);
    } catch (error) {
      this.setData({ error: sentenceFor(error), stale: this.data.credit !== '' });
    } finally {
      this.setData({ loading: false });
    }
  },

  async loadCredit() {
    this.showCredit(await account.fetchCredit());
    this.setData({ stale: false });
  },

  /** @param {import('../../utils/account').KnownCredit} known */
  showCredit({ credit, at }) {
    const formatted = formatCredit(credit);
    this.setData({ credit: formatted, creditSize: creditSize(formatted), creditTime: formatTime(at, Date.now()) });
  },

  async loadStatement() {
    const { events, next_before: cursor } = await account.fetchEvents(null);
    this.events = events;
    this.cursor = cursor;
    this.setData({ rows: statementRows(events, Date.now()), tail: cursor === null ? 'end' : 'more' });
  },

  async loadMore() {
    if (this.cursor === null || this.data.tail === 'loading') return;
    const shown = this.events;
    this.setData({ tail: 'loading' });
    try {
      const { events, next_before: cursor } = await account.fetchEvents(this.cursor);
      // A refresh has started the list anew meanwhile: this page is no continuation of it.
      if (this.events !== shown) return;
      this.appendEvents(events);
      this.cursor = cursor;
      this.setData({ tail: cursor === null ? 'end' : 'more' });
    } catch (error) {
      if (this.events === shown) this.setData({ tail: 'failed' });
      sentenceFor(error);
    }
  },

  /**
   * Sends the new rows only, not the whole list again; and the last one before them, whose change
   * can be known only now that the event before it is.
   * @param {LedgerEvent[]} older
   */
  appendEvents(older) {
    const first = this.events.length - 1;
    this.events = [...this.events, ...older];
    /** @type {Record<string, Row>} */
    const patch = {};
    statementRows(this.events.slice(first), Date.now()).forEach((row, index) => {
      patch[`rows[${first + index}]`] = row;
    });
    this.setData(patch);
  },

  async loadProfile() {
    const { nickname, avatar } = await account.fetchProfile();
    this.setData({ nickname: nickname || '', avatar: avatar || '' });
  },

  editProfile() {
    wx.navigateTo({ url: '/pages/profile/profile' });
  },
});
