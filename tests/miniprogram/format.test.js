import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

const require = createRequire(import.meta.url);
const { creditSize, formatChange, formatCredit, formatEnd, formatTime } = require('../../miniprogram/utils/format');

test('credit has thousands separators and every digit up to 2**53-1', () => {
  const table = [
    [0, '0'], [7, '7'], [999, '999'], [1000, '1,000'], [12345, '12,345'], [100000, '100,000'], [1000000, '1,000,000'],
    [Number.MAX_SAFE_INTEGER - 1, '9,007,199,254,740,990'], [Number.MAX_SAFE_INTEGER, '9,007,199,254,740,991'],
    [-1000, '\u22121,000'], [-999, '\u2212999'],
  ];
  for (const [credit, text] of table) assert.equal(formatCredit(credit), text);
});

test('what is no whole number that a double holds exactly is not shown as one', () => {
  for (const wrong of [2 ** 53, 0.5, NaN, Infinity, '100', null, undefined]) {
    assert.throws(() => formatCredit(wrong), RangeError);
  }
});

test('a change carries its sign, and no change is empty', () => {
  const table = [[100, '+100'], [-1500, '\u22121,500'], [0, ''], [Number.MAX_SAFE_INTEGER, '+9,007,199,254,740,991']];
  for (const [change, text] of table) assert.equal(formatChange(change), text);
});

test('the number shrinks before it leaves the card', () => {
  const table = [['9,999,999', 'large'], ['99,999,999', 'medium'], ['99,999,999,999', 'medium'], ['999,999,999,999', 'small']];
  for (const [text, size] of table) assert.equal(creditSize(text), size);
});

test("a time is told in the device's own time zone, as a calendar would", (t) => {
  const zone = process.env.TZ;
  t.after(() => { process.env.TZ = zone ?? ''; if (zone === undefined) delete process.env.TZ; });
  const table = [
    // zone, now, moment, text
    ['Asia/Shanghai', '2026-11-22T18:30:00Z', '2026-11-22T18:00:00.123456Z', '今天 02:00'],
    ['UTC', '2026-11-22T18:30:00Z', '2026-11-22T18:00:00.123456Z', '今天 18:00'],
    ['UTC', '2026-11-22T18:30:00Z', '2026-11-22T18:00:00Z', '今天 18:00'],
    // Midnight: the first minute of a day and the last one before it.
    ['Asia/Shanghai', '2026-11-22T16:00:00Z', '2026-11-22T16:00:00Z', '今天 00:00'],
    ['Asia/Shanghai', '2026-11-22T16:00:00Z', '2026-11-22T15:59:59.999999Z', '昨天 23:59'],
    ['Asia/Shanghai', '2026-11-22T15:59:59Z', '2026-11-21T16:00:00Z', '今天 00:00'],
    ['Asia/Shanghai', '2026-11-22T16:00:00Z', '2026-11-21T15:59:59Z', '11月21日 23:59'],
    // Over the ends of month and year.
    ['UTC', '2026-03-01T12:00:00Z', '2026-02-28T01:05:00Z', '昨天 01:05'],
    ['UTC', '2028-03-01T12:00:00Z', '2028-02-29T01:05:00Z', '昨天 01:05'],
    ['UTC', '2027-01-01T00:30:00Z', '2026-12-31T23:50:00Z', '昨天 23:50'],
    ['UTC', '2027-01-02T00:30:00Z', '2026-12-31T23:50:00Z', '2026年12月31日 23:50'],
    ['Asia/Shanghai', '2027-01-05T00:00:00Z', '2026-12-31T16:00:00Z', '1月1日 00:00'],
    // Days of 25 and 23 hours: the clocks of New York change on 2026-11-01 and 2026-03-08.
    ['America/New_York', '2026-11-02T04:30:00Z', '2026-11-01T03:30:00Z', '昨天 23:30'],
    ['America/New_York', '2026-03-09T04:30:00Z', '2026-03-08T05:30:00Z', '昨天 00:30'],
    // A device whose clock is behind the service's.
    ['UTC', '2026-11-22T23:59:00Z', '2026-11-23T00:01:00Z', '11月23日 00:01'],
  ];
  for (const [tz, now, moment, text] of table) {
    process.env.TZ = tz;
    assert.equal(formatTime(moment, Date.parse(now)), text, `${moment} at ${now} in ${tz}`);
    assert.equal(formatTime(Math.trunc(Date.parse(moment)), Date.parse(now)), text, 'in milliseconds');
  }
  assert.throws(() => formatTime('yesterday', 0), RangeError);
});

test('an end to come is told with its time of day, and tomorrow by that name', (t) => {
  const zone = process.env.TZ;
  t.after(() => { process.env.TZ = zone ?? ''; if (zone === undefined) delete process.env.TZ; });
  const table = [
    // zone, now, moment, text
    ['UTC', '2026-11-22T18:30:00Z', '2026-11-22T23:59:59.999999Z', '今天 23:59'],
    ['UTC', '2026-11-22T18:30:00Z', '2026-11-23T00:00:00.000000Z', '明天 00:00'],
    ['UTC', '2026-11-22T18:30:00Z', '2026-11-24T00:00:00Z', '11月24日 00:00'],
    ['Asia/Shanghai', '2026-11-22T18:30:00Z', '2026-12-31T16:00:00.000000Z', '2027年1月1日 00:00'],
    ['UTC', '2026-11-22T18:30:00Z', '2026-12-31T16:00:00.000000Z', '12月31日 16:00'],
    ['UTC', '2026-12-31T18:30:00Z', '2027-01-01T07:00:00Z', '明天 07:00'],
    // A day of 25 hours: 24 hours and a half after midnight it is still the same day.
    ['America/New_York', '2026-11-01T04:10:00Z', '2026-11-02T04:40:00Z', '今天 23:40'],
    ['America/New_York', '2026-11-01T04:10:00Z', '2026-11-02T05:00:00Z', '明天 00:00'],
  ];
  for (const [tz, now, moment, text] of table) {
    process.env.TZ = tz;
    assert.equal(formatEnd(moment, Date.parse(now)), text, `${moment} at ${now} in ${tz}`);
  }
  assert.throws(() => formatEnd('tomorrow', 0), RangeError);
});
