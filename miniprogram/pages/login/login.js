const account = require('../../utils/account');
const session = require('../../utils/session');
const { afterCheckIn, checkIn, checkinDay } = require('../../utils/checkin');
const { formatChange } = require('../../utils/format');
const { HttpError } = require('../../utils/request');
const { oldestOf, reaches } = require('../../utils/listed');
const { sealView } = require('../../utils/sealed');
const { sentenceFor } = require('../../utils/failure');
const { standingView } = require('../../utils/standing');
const { statementRows } = require('../../utils/statement');
const { verify } = require('../../utils/verification');

/** @typedef {import('../../utils/account').KnownCredit} KnownCredit */
/** @typedef {import('../../utils/statement').LedgerEvent} LedgerEvent */
/** @typedef {import('../../utils/statement').Row} Row */
/** @typedef {import('../../utils/standing').Parts} Parts */
/** @typedef {import('../../utils/checkin').CheckinView} CheckinView */

/** @typedef {import('../../utils/sealed').SealView} SealView */
/** @typedef {import('../../utils/verification').Verification} Verification */

/** @type {Parts} */
const NO_PARTS = { parts: [], more: '' };

Page({
  data: {
    loggedOut: false,
    nickname: '',
    avatar: '',
    /** Formatted; empty until a credit is known. What follows comes with it, from standingView(). */
    credit: '',
    creditSize: 'large',
    creditTime: '',
    /** Reserved and not to be spent; empty for nothing. */
    held: '',
    /** Why nothing goes; empty for an account that is not frozen. */
    frozen: '',
    /** @type {CheckinView | null} */
    checkin: null,
    expiring: NO_PARTS,
    holds: NO_PARTS,
    checkingIn: false,
    /** Why the last tap checked nobody in. */
    checkinError: '',
    /** @type {SealView | null} what this phone found out about the credit by itself; null: nothing yet */
    seal: null,
    /** A check is under way: `seal` is what the one before found out. */
    checking: false,
    sealOpen: false,
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
  /** @type {KnownCredit | null} what the page shows of the account */
  known: null,
  /** @type {Verification | null} */
  verification: null,
  /** @type {Promise<Verification> | null} the last check that began */
  check: null,
  /** @type {LedgerEvent[]} what `rows` shows */
  events: [],
  /** @type {number | null} where the next older page starts; null: there is none */
  cursor: null,
  /** @type {Promise<void> | null} the refresh under way, shared by the button and the pull-down */
  refreshing: null,

  async onLoad() {
    if (await session.isLoggedOut()) {
      this.setData({ loggedOut: true });
      return;
    }
    const known = await account.lastKnownCredit();
    if (!known) return; // The first launch: the button says what to do.
    this.showCredit(known);
    await this.refresh();
  },

  /** Coming back: from the profile page, with what was saved there, or on another day, with another check-in. */
  async onShow() {
    const first = !this.shown;
    this.shown = true;
    if (first || this.data.loggedOut) return;
    if (this.known && checkinDay(this.known.at) !== checkinDay(Date.now())) await this.refresh();
    // Without a network the name stays as it is; that is no reason to disturb.
    else await this.loadProfile().catch(sentenceFor);
  },

  async onPullDownRefresh() {
    try {
      if (!this.data.loggedOut) await this.refresh();
    } finally {
      wx.stopPullDownRefresh();
    }
  },

  onReachBottom() {
    // After a failure only a tap tries again, or resting at the bottom would ask for ever.
    if (this.data.tail === 'more') return this.loadMore();
  },

  /** After a logout: the first request of the refresh logs in. */
  async login() {
    await session.comeBack();
    this.setData({ loggedOut: false });
    await this.refresh();
  },

  refresh() {
    this.refreshing = this.refreshing || this.loadAll().finally(() => { this.refreshing = null; });
    return this.refreshing;
  },

  async loadAll() {
    this.setData({ loading: true, error: '', checkinError: '' });
    this.verify(); // Nobody waits for it.
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

  /** @param {KnownCredit} known */
  showCredit(known) {
    this.known = known;
    this.setData(standingView(known, Date.now()));
    this.showSeal();
  },

  /** @param {number} [oldest] event of the list that is to be compared with the proof */
  async verify(oldest) {
    const check = verify(oldest);
    this.check = check;
    this.setData({ checking: true });
    this.verification = await check;
    this.compareStatement(); // Which may begin another one.
    if (this.check === check) this.setData({ checking: false });
  },

  /** The list, or what was proved, has changed: for older events more of the proof is needed. */
  compareStatement() {
    this.showSeal();
    const oldest = oldestOf(this.events);
    if (this.verification && this.verification.state === 'verified' && !reaches(this.verification.events, oldest)) {
      this.verify(oldest); // Nobody waits for it.
    }
  },

  showSeal() {
    if (this.verification) this.setData({ seal: sealView(this.verification, this.known, this.events, Date.now()) });
  },

  toggleSeal() {
    this.setData({ sealOpen: !this.data.sealOpen });
  },

  async loadStatement() {
    this.startStatement(await account.fetchEvents(null));
  },

  /** @param {{events: LedgerEvent[], next_before: number | null}} newest */
  startStatement({ events, next_before: cursor }) {
    this.events = events;
    this.cursor = cursor;
    this.showStatement();
  },

  showStatement() {
    this.setData({ rows: statementRows(this.events, Date.now()), tail: this.cursor === null ? 'end' : 'more' });
    this.compareStatement();
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
   * Sends the new rows only, not the whole list again; and the last one before them, which an older
   * event can complete: a check-in and its reward are one row.
   * @param {LedgerEvent[]} older
   */
  appendEvents(older) {
    const first = this.data.rows.length - 1;
    this.events = [...this.events, ...older];
    /** @type {Record<string, Row>} */
    const patch = {};
    statementRows(this.events, Date.now()).slice(first).forEach((row, index) => {
      patch[`rows[${first + index}]`] = row;
    });
    this.setData(patch);
    this.compareStatement();
  },

  async checkIn() {
    if (this.data.checkingIn || !this.known) return;
    this.setData({ checkingIn: true, checkinError: '' });
    try {
      const { event, credit } = await checkIn();
      wx.showToast({ title: `签到成功 ${formatChange(Number(event.data.amount))}`, icon: 'none' });
      this.showCredit(afterCheckIn(this.known, event.version, credit));
      await this.catchUp();
    } catch (error) {
      this.setData({ checkinError: sentenceFor(error) });
      // Refused for a reason that the page does not show yet: checked in on another device, or frozen.
      if (error instanceof HttpError && error.status === 409) await this.catchUp();
    } finally {
      this.setData({ checkingIn: false });
    }
  },

  /** Shows what has changed in place: no number disappears, and no row that is shown already. */
  async catchUp() {
    try {
      // The answers of a refresh under way may be from before the change.
      if (this.refreshing) await this.refreshing;
      await Promise.all([this.loadCredit(), this.loadNewest()]);
    } catch (error) {
      this.setData({ error: sentenceFor(error), stale: true });
    }
  },

  async loadNewest() {
    const newest = await account.fetchEvents(null);
    const top = this.events.length > 0 ? this.events[0].version : 0;
    const news = newest.events.filter(({ version }) => version > top);
    // Nothing in common with what is shown: between the two there may be a gap.
    if (news.length === newest.events.length) this.startStatement(newest);
    else {
      this.events = [...news, ...this.events];
      this.showStatement();
    }
  },

  async loadProfile() {
    const { nickname, avatar } = await account.fetchProfile();
    this.setData({ nickname: nickname || '', avatar: avatar || '' });
  },

  editProfile() {
    wx.navigateTo({ url: '/pages/profile/profile' });
  },
});
