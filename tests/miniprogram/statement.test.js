import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { before, test } from 'node:test';

const require = createRequire(import.meta.url);
const { statementRows } = require('../../miniprogram/utils/statement');

const NOW = Date.parse('2026-11-22T10:00:00Z');
const YEAR_END_US = Date.parse('2026-12-31T16:00:00Z') * 1000 + 999;
const event = (version, type, data, credit) => ({ version, type, data, credit, recorded_at: '2026-11-22T09:59:00.000001Z' });
/** One row as 'title|note|detail|change|balance'. */
const told = (events) => statementRows(events, NOW)
  .map(({ title, note, detail, change, balance }) => [title, note, detail, change, balance].join('|'));

before(() => { process.env.TZ = 'Asia/Shanghai'; });

test('every event of the ledger is told in plain words, with its change and what is worth a second line', () => {
  const part = (amount, grant) => ({ amount, grant, expires_at_us: YEAR_END_US });
  const who = { reason: '双十一', actor: 'key:1' };
  const table = [
    ['UserRegistered', {}, '注册||||'],
    ['CreditGranted', { amount: 100, reason: 'signup', actor: 'rule:signup' }, '获得积分|新用户礼包||+100|'],
    ['CreditGranted', { amount: 1000, ...who, reference: 'A-1', expires_at_us: YEAR_END_US },
      '获得积分|双十一|有效期至 2027年1月1日 00:00 · 单号 A-1|+1,000|'],
    ['CheckedIn', { day: 20779, streak: 3, rules: '1' }, '签到|第 3 天|||'],
    ['CreditSpent', { amount: 40, used: [part(30, 5), { amount: 10 }], ...who, reference: 'order 7' }, '使用积分|双十一|单号 order 7|\u221240|'],
    ['CreditHeld', { amount: 20, used: [{ amount: 20 }], deadline_us: (NOW + 86400000) * 1000, ...who, reference: 'order 8' },
      '预留积分|双十一|预留至 明天 18:00 · 单号 order 8|\u221220|'],
    ['HoldCaptured', { hold: 9, amount: 20, used: [{ amount: 20 }], ...who }, '使用预留积分|双十一|使用 20||'],
    ['HoldCaptured', { hold: 9, amount: 15, used: [{ amount: 15 }], returned: [part(2, 5), { amount: 1 }], expired: 2, ...who, reference: 'order 8' },
      '使用预留积分|双十一|使用 15，退回 3，另有 2 已过期 · 单号 order 8|+3|'],
    ['HoldReleased', { hold: 9, amount: 20, returned: [{ amount: 20 }], ...who }, '退回预留积分|双十一||+20|'],
    ['HoldReleased', { hold: 9, amount: 20, returned: [{ amount: 12 }], expired: 8, reason: 'deadline', actor: 'rule:deadline', reference: 'order 8' },
      '退回预留积分|到期未使用|共 20，其中 8 已过期 · 单号 order 8|+12|'],
    ['SpendReversed', { spend: 7, amount: 10, returned: [{ amount: 10 }], ...who }, '退回积分|双十一||+10|'],
    ['SpendReversed', { spend: 7, amount: 1500, expired: 1500, ...who }, '退回积分|双十一|共 1,500，其中 1,500 已过期||'],
    ['GrantRevoked', { grant: 3, amount: 5, spent: 0, held: 0, ...who }, '收回积分|双十一||\u22125|'],
    ['GrantRevoked', { grant: 3, amount: 5, spent: 30, held: 2, ...who, reference: 'A-1' },
      '收回积分|双十一|未能收回：已使用 30，预留中 2 · 单号 A-1|\u22125|'],
    ['CreditExpired', { amount: 30, parts: [part(30, 5)], reason: 'expiry', actor: 'rule:expiry' }, '积分过期|||\u221230|'],
    ['AccountFrozen', { ...who, reference: 'case 3' }, '账户冻结|双十一|单号 case 3||'],
    ['AccountUnfrozen', { ...who }, '账户解冻|双十一|||'],
  ];
  for (const [type, data, row] of table) {
    assert.equal(told([event(9, type, data, 500)])[0], `${row}500`, type);
  }
});

test('a check-in and its reward are one row, whichever side of a page border they are on', () => {
  const reward = event(5, 'CreditGranted', { amount: 5, reason: 'checkin', actor: 'rule:checkin/1' }, 105);
  const checkin = event(4, 'CheckedIn', { day: 20779, streak: 2, rules: '1' }, 100);
  const older = event(3, 'CreditSpent', { amount: 1, used: [{ amount: 1 }], reason: 'x', actor: 'key:1' }, 100);
  assert.deepEqual(told([reward, checkin, older]), ['签到|第 2 天||+5|105', '使用积分|x||\u22121|100']);
  // The page ends between the two: nothing is told that is not known yet, and nothing wrong.
  assert.deepEqual(told([reward]), ['签到|||+5|105']);
  // A grant with that reason that somebody else made is no check-in.
  const other = { ...reward, data: { ...reward.data, actor: 'key:1' } };
  assert.deepEqual(told([other, checkin]), ['获得积分|签到奖励||+5|105', '签到|第 2 天|||100']);
});

test('a row knows its change without the row below it', () => {
  const data = { amount: 40, used: [{ amount: 40 }], reason: 'x', actor: 'key:1' };
  const [row] = statementRows([event(9, 'CreditSpent', data, 5)], NOW);
  assert.deepEqual([row.title, row.change, row.gain], ['使用积分', '\u221240', false]);
});

test('an event of a later service is told by what it did to the credit, where that is known', () => {
  const rows = told([
    event(6, 'LotsMerged', {}, 65),
    event(5, 'CreditLent', { amount: 40, reason: { order: 1 }, reference: 7 }, 65),
    event(4, 'CreditDoubled', { reason: '周年' }, 105),
    event(3, 'CreditSpent', { reason: 'constructor' }, 100),
    event(2, 'toString', { reason: 'signup' }, 103),
    event(1, 'AccountMoved', {}, 50),
  ]);
  assert.deepEqual(rows, [
    '账户变动||||65', '积分减少|||\u221240|65', '积分增加|周年||+5|105',
    '使用积分|constructor||\u22123|100', '积分增加|新用户礼包||+53|103', '积分增加|||+50|50',
  ]);
});

test('the oldest row of a page claims no change that it cannot know', () => {
  const [row] = statementRows([event(9, 'LotsMerged', {}, 5)], NOW);
  assert.deepEqual([row.title, row.change, row.gain], ['账户变动', '', false]);
});
