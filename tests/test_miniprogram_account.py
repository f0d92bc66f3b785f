"""Check-in, holds, expiring credit and logging out, as the user of the mini-program meets them.

Unmodified, in Chromium, against the running service. What a shop does to an account is written to the
ledger beside the service, as an operator's command is.
"""

import re
import time
from itertools import pairwise

import pytest
import requests

from ledger.commands import (
    CaptureHold,
    CheckIn,
    FreezeAccount,
    GrantCredit,
    HoldCredit,
    RecordLapses,
    RegisterUser,
    ReleaseHold,
    ReverseSpend,
    RevokeGrant,
    SpendCredit,
    Submission,
    UnfreezeAccount,
)
from ledger.committer import ledger_committer, microseconds_now
from tests.conftest import PATIENCE_S, Service

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the mini-program was NOT tested: playwright is missing"
)
expect = sync_api.expect

from tests.miniprogram.phone import SCREEN  # noqa: E402 - needs playwright

pytest_plugins = ["tests.miniprogram.fixtures"]
pytestmark = pytest.mark.usefixtures("within_a_day")

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
REWARDS = (5, 5, 5, 5, 5, 5, 20)
FROZEN = "账户已冻结，暂时不能签到和使用积分。如有疑问，请联系客服。"


class Shop:
    """Writes to one user's account beside the service; `clock_us` is when what follows happens."""

    def __init__(self, service, user):
        self._path, self.openid = service.data / "ledger.db", service.openid_of(user)
        self.clock_us, self._keys = None, 0

    def does(self, make, *details, **more):
        """Make a command of this account, with a key where it takes one, and return the event's version."""
        if "key" in make.__struct_fields__:
            self._keys += 1
            more["key"] = f"shop-{self._keys}"
        command = make(self.openid, *details, **more)
        committer = ledger_committer(self._path, clock_us=lambda: self.clock_us or microseconds_now())
        (outcome,) = committer.commit([Submission(command, "operator:test", operator=True)])
        committer.close()
        assert not isinstance(outcome, Exception), outcome
        return outcome.version

    def checks_in_daily(self, days):
        """The user has checked in on each of the `days` days before today."""
        now_us = microseconds_now()
        for ago in range(days, 0, -1):
            self.clock_us = now_us - ago * DAY_US
            self.does(RegisterUser, signup_grant=100)
            self.does(CheckIn, rewards=REWARDS, rules="1")
        self.clock_us = None


@pytest.fixture
def shop(phone, service):
    return Shop(service, phone.user)


def session_is_alive(service, token):
    return service.get("/v1/me", token).status_code == 200


def checkin_keys(phone):
    keys = []
    phone.context.on(
        "request",
        lambda request: "/checkin" in request.url and keys.append(request.headers["idempotency-key"]),
    )
    return keys


def test_the_button_says_what_today_earns_and_afterwards_what_tomorrow_does(phone, shop):
    shop.checks_in_daily(5)
    phone.launch()
    phone.fetch("125")
    expect(phone.see("streak")).to_have_text("已连续签到 5 天")
    expect(phone.see("checkin")).to_have_text("今日签到 +5")
    with phone.toasts_stay():
        phone.check_in("130")
        expect(phone.page.get_by_text("签到成功 +5")).to_be_visible()
    expect(phone.see("checkin")).to_be_disabled()
    expect(phone.see("streak")).to_have_text("已连续签到 6 天")
    expect(phone.see("checkin-hint")).to_have_text("明天签到 +20")
    expect(phone.rows().first).to_contain_text("签到第 6 天")
    expect(phone.rows().first).to_contain_text("+5余额 130")
    # Register, welcome gift, and one row for each check-in with its reward.
    assert phone.versions() == [14, 12, 10, 8, 6, 4, 2, 1]
    phone.launch()
    expect(phone.see("checkin")).to_have_text("已签到")
    expect(phone.see("fetch")).to_be_enabled()


def test_two_taps_at_once_send_one_request(phone):
    phone.launch()
    phone.fetch("100")
    with phone.held("**/v1/me/checkin") as held:
        phone.see("checkin").dblclick()
        expect(phone.see("checkin")).to_have_text("正在签到…")
        phone.see("checkin").click(force=True)
        phone.wait_until(lambda: held)
        assert len(held) == 1
    expect(phone.see("checkin")).to_have_text("已签到")
    expect(phone.see("credit")).to_have_text("105")
    assert phone.count("POST", "/v1/me/checkin") == 1


def test_an_answer_that_got_lost_is_asked_for_under_the_same_key_and_earns_once(phone, service):
    phone.launch()
    phone.fetch("100")
    phone.failures_expected = True
    keys = checkin_keys(phone)

    def lose(route):
        assert route.fetch().status == 201  # The service has done it; only the phone never hears of it.
        route.abort()

    phone.context.route("**/v1/me/checkin", lose)
    phone.see("checkin").click()
    expect(phone.see("checkin-error")).to_have_text("连接不上服务器，请检查网络后重试。")
    expect(phone.see("checkin")).to_be_enabled()
    phone.context.unroute("**/v1/me/checkin", lose)
    with phone.page.expect_response("**/v1/me/checkin") as again:
        phone.see("checkin").click()
    assert again.value.status == 201
    assert again.value.headers["idempotent-replayed"] == "true"
    expect(phone.see("credit")).to_have_text("105")
    expect(phone.see("checkin")).to_have_text("已签到")
    expect(phone.see("checkin-error")).to_have_count(0)
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_a_day_that_another_device_has_checked_in_already_is_told_and_shown(phone, shop):
    phone.launch()
    phone.fetch("100")
    phone.failures_expected = True
    shop.does(CheckIn, rewards=REWARDS, rules="1")
    phone.see("checkin").click()
    expect(phone.see("checkin-error")).to_have_text("今天已经签到过了。")
    expect(phone.see("checkin")).to_have_text("已签到")
    expect(phone.see("streak")).to_have_text("已连续签到 1 天")
    expect(phone.see("credit")).to_have_text("105")
    expect(phone.rows().first).to_contain_text("签到第 1 天")


def test_a_frozen_account_says_so_and_takes_no_check_in_until_it_is_unfrozen(phone, shop):
    phone.launch()
    phone.fetch("100")
    phone.failures_expected = True
    shop.does(FreezeAccount, reason="核实身份")
    phone.see("checkin").click()
    expect(phone.see("checkin-error")).to_have_text(FROZEN)
    expect(phone.see("frozen")).to_have_text(FROZEN)
    expect(phone.see("checkin")).to_be_disabled()
    expect(phone.rows().first).to_contain_text("账户冻结核实身份")
    shop.does(UnfreezeAccount, reason="核实完毕")
    phone.fetch("100")
    expect(phone.see("frozen")).to_have_count(0)
    expect(phone.see("checkin-error")).to_have_count(0)
    phone.check_in("105")


def test_after_a_check_in_nothing_jumps(phone, shop):
    """The credit goes from the old number to the new one, and no row that was loaded is gone for a moment."""
    for number in range(1, 31):
        shop.does(RegisterUser, signup_grant=100)
        shop.does(GrantCredit, 1, f"第 {number} 次")
    phone.launch()
    phone.fetch("130")
    phone.load_more()
    expect(phone.rows()).to_have_count(32)
    phone.page.set_viewport_size(SCREEN)
    phone.page.evaluate("scrollTo(0, 60)")
    before = phone.versions()
    phone.page.evaluate("""() => {
        window.seen = new Set();
        const look = () => {
            const credit = document.querySelector('[id$="--credit"]')?.textContent;
            const rows = document.querySelectorAll('[id*="--event-"]').length;
            window.seen.add(`${credit} ${rows} ${scrollY}`);
        };
        const all = { childList: true, subtree: true, characterData: true };
        new MutationObserver(look).observe(document.body, all);
    }""")
    phone.see("checkin").click()
    expect(phone.see("checkin-hint")).to_have_text("明天签到 +5")
    expect(phone.rows()).to_have_count(33)
    assert phone.versions() == [34, *before]
    assert set(phone.page.evaluate("[...window.seen]")) <= {f"{c} {r} 60" for c in (130, 135) for r in (32, 33)}


def test_a_check_in_that_succeeded_stays_one_where_the_rest_cannot_be_asked_for(phone):
    phone.launch()
    phone.fetch("100")
    phone.failures_expected = True
    phone.context.route("**/v1/me/credit", lambda route: route.abort())
    phone.see("checkin").click()
    expect(phone.see("checkin")).to_have_text("已签到")
    expect(phone.see("credit")).to_have_text("105")
    expect(phone.see("streak")).to_have_text("已连续签到 1 天")
    expect(phone.see("error")).to_have_text("连接不上服务器，请检查网络后重试。")
    expect(phone.see("credit-time")).to_contain_text("未能更新")


def test_reserved_credit_is_shown_with_what_reserves_it_and_until_when(phone, shop):
    shop.does(RegisterUser, signup_grant=1000)
    tomorrow_us = microseconds_now() // DAY_US * DAY_US + 2 * DAY_US + 4 * HOUR_US  # 12:00 in Shanghai
    for number in range(1, 6):
        shop.does(HoldCredit, 10 * number, "下单", reference=f"2026-{number}", deadline_us=tomorrow_us + number)
    unnamed = shop.does(HoldCredit, 7, "下单", deadline_us=microseconds_now() + HOUR_US)
    phone.launch()
    phone.fetch("843")
    expect(phone.see("held")).to_have_text("另有 157 积分预留中")
    texts = phone.texts("holds")
    assert re.fullmatch(r"7 积分 预留至 (今天|明天) \d\d:\d\d", texts[0])
    assert re.fullmatch(r"10 积分 单号 2026-1 预留至 (明天|\d+月\d+日|\d+年\d+月\d+日) 12:00", texts[1])
    assert texts[2].startswith("20 积分 单号 2026-2")
    assert texts[3:] == ["还有 3 笔"]
    shop.does(CaptureHold, unnamed, "发货")
    phone.fetch("843")
    expect(phone.see("held")).to_have_text("另有 150 积分预留中")


def test_without_holds_and_ends_there_is_no_word_of_them(phone):
    phone.launch()
    phone.fetch("100")
    for name in ("held", "holds", "expiring", "frozen"):
        expect(phone.see(name)).to_have_count(0)


def test_credit_that_expires_is_listed_first_to_expire_first_in_the_phones_own_time(phones, phone, shop):
    shop.does(RegisterUser, signup_grant=100)
    midnight_us = (time.gmtime().tm_year + 2 - 1970) * 366 * DAY_US // DAY_US * DAY_US
    year = time.gmtime(midnight_us // 1_000_000).tm_year
    for days in (9, 0, 30, 31, 1):
        shop.does(GrantCredit, 10 + days, "活动", expires_at_us=midnight_us + days * DAY_US)
    phone.launch()
    phone.fetch("221")
    texts = phone.texts("expiring")
    assert [text.partition(" ")[0] for text in texts] == ["10", "11", "19", "还有"]
    assert texts[3] == "还有 2 笔"
    assert re.fullmatch(rf"10 积分 {year}年\d+月\d+日 08:00 过期", texts[0])
    abroad = phones(user=phone.user, zone="UTC")
    abroad.launch()
    abroad.fetch("221")
    assert abroad.texts("expiring")[0].endswith("日 00:00 过期")


def whole_life(shop):
    """23 events, among them one of every type, with all the figures that a row can show.

    20 of them make a page, so its border falls between a check-in and its reward. Ends with 20 reserved.
    """
    now_us = microseconds_now()
    shop.clock_us = now_us - 3 * DAY_US
    shop.does(RegisterUser, signup_grant=100)
    shop.does(CheckIn, rewards=REWARDS, rules="1")
    shop.does(GrantCredit, 30, "活动", reference="A-1", expires_at_us=now_us - 2 * DAY_US)
    hold = shop.does(HoldCredit, 40, "下单", reference="订单-7", deadline_us=now_us + DAY_US)
    shop.does(HoldCredit, 15, "下单", reference="订单-8", deadline_us=now_us - 2 * DAY_US + HOUR_US)
    shop.does(GrantCredit, 50, "补偿", expires_at_us=now_us - DAY_US)
    spend = shop.does(SpendCredit, 30, "兑换", reference="订单-9")
    shop.clock_us = now_us - DAY_US + HOUR_US
    shop.does(RecordLapses)
    shop.does(ReverseSpend, spend, "退货", part=10)
    shop.does(CaptureHold, hold, "发货", part=5)
    gift = shop.does(GrantCredit, 60, "赠送", reference="误发")
    shop.does(SpendCredit, 140, "兑换", reference="订单-10")
    shop.does(RevokeGrant, gift, "发错了")
    shop.does(FreezeAccount, reason="核实身份")
    shop.does(UnfreezeAccount, reason="核实完毕")
    shop.does(GrantCredit, 25, "新活动", expires_at_us=now_us + 5 * DAY_US)
    again = shop.does(HoldCredit, 20, "下单", reference="订单-11")
    shop.does(ReleaseHold, again, "取消")
    shop.does(HoldCredit, 20, "下单", reference="订单-12")
    shop.does(GrantCredit, 1200, "周年庆")
    shop.clock_us = None


def test_every_event_has_its_line_and_the_changes_add_up_over_the_borders_of_pages(phone, shop):
    whole_life(shop)
    phone.launch()
    phone.see("fetch").click()
    expect(phone.rows()).to_have_count(20)
    assert phone.versions() == list(range(23, 3, -1))
    last = phone.rows().nth(19)
    expect(last).to_have_text(re.compile(r"^签到\S+ \d\d:\d\d\+5余额 105$"))
    phone.load_more()
    expect(phone.see("end")).to_be_visible()
    expect(last).to_have_text(re.compile(r"^签到第 1 天\S+ \d\d:\d\d\+5余额 105$"))
    assert phone.versions() == [*range(23, 3, -1), 2, 1]
    rows = phone.page.evaluate("host.pageData()[0].rows")

    def number(text):
        return int(text.replace("−", "-").replace(",", "") or 0)

    balances = [number(row["balance"]) for row in rows] + [0]
    changes = [number(row["change"]) for row in rows]
    assert changes == [newer - older for newer, older in pairwise(balances)]
    titles = {row["title"] for row in rows}
    assert titles == {
        *("注册", "获得积分", "签到", "使用积分", "预留积分", "使用预留积分", "退回预留积分"),
        *("退回积分", "收回积分", "积分过期", "账户冻结", "账户解冻"),
    }
    details = "\n".join(f"{row['title']} {row['note']} {row['detail']}" for row in rows)
    assert re.search(r"获得积分 活动 有效期至 .+ \d\d:\d\d · 单号 A-1\n", details)
    assert re.search(r"预留积分 下单 预留至 .+ \d\d:\d\d · 单号 订单-12\n", details)
    assert "退回预留积分 到期未使用 单号 订单-8\n" in details
    assert "使用预留积分 发货 使用 5，退回 10，另有 25 已过期 · 单号 订单-7\n" in details
    assert "退回积分 退货 共 10，其中 10 已过期 · 单号 订单-9\n" in details
    assert "收回积分 发错了 未能收回：已使用 35 · 单号 误发\n" in details


def test_offline_the_account_is_shown_as_it_was_last_known(phone, shop):
    whole_life(shop)
    shop.does(FreezeAccount, reason="核实身份")
    phone.launch()
    phone.see("fetch").click()
    expect(phone.see("fetch")).to_be_enabled()
    names = ("held", "frozen", "streak", "checkin", "credit")
    known = [phone.see(name).text_content() for name in names]
    holds, expiring = phone.texts("holds"), phone.texts("expiring")
    assert len(holds) == 1
    assert len(expiring) == 1
    phone.failures_expected = True
    phone.context.set_offline(True)
    phone.launch()
    expect(phone.see("error")).to_be_visible()
    assert [phone.see(name).text_content() for name in names] == known
    assert (phone.texts("holds"), phone.texts("expiring")) == (holds, expiring)


def test_a_logout_ends_the_session_and_only_a_tap_logs_in_again(phone, service):
    phone.launch()
    phone.fetch("100")
    token = phone.stored_token()
    phone.see("me").click()
    phone.see("logout").click()
    expect(phone.see("logged-out")).to_be_visible()
    assert not session_is_alive(service, token)
    assert phone.page.evaluate("Object.keys(localStorage)") == ["wx:logged-out"]
    phone.launch()
    expect(phone.see("login")).to_be_visible()
    phone.page.wait_for_load_state("networkidle")
    assert phone.requests == []
    phone.see("login").click()
    expect(phone.see("credit")).to_have_text("100")
    assert phone.count("POST", "/login") == 1
    phone.launch()
    expect(phone.see("credit")).to_have_text("100")
    assert session_is_alive(service, phone.stored_token())


def test_all_devices_are_logged_out_once_the_user_confirms_it(phones, service):
    here = phones()
    there = phones(user=here.user)
    for phone in (here, there):
        phone.launch()
        phone.fetch("100")
    tokens = [here.stored_token(), there.stored_token()]
    here.see("me").click()
    here.see("logout-everywhere").click()
    here.page.get_by_role("button", name="取消").click()
    expect(here.see("save")).to_be_enabled()
    assert [session_is_alive(service, token) for token in tokens] == [True, True]
    here.see("logout-everywhere").click()
    here.page.get_by_role("button", name="全部退出").click()
    expect(here.see("logged-out")).to_be_visible()
    assert [session_is_alive(service, token) for token in tokens] == [False, False]
    assert here.stored_token() is None


def test_a_logout_without_a_network_says_so_and_changes_nothing(phone, service):
    phone.launch()
    phone.fetch("100")
    phone.see("me").click()
    expect(phone.see("save")).to_be_enabled()
    phone.failures_expected = True
    phone.context.set_offline(True)
    phone.see("logout").click()
    expect(phone.see("error")).to_have_text("连接不上服务器，请检查网络后重试。")
    phone.context.set_offline(False)
    assert session_is_alive(service, phone.stored_token())
    phone.see("logout").click()
    expect(phone.see("logged-out")).to_be_visible()


def test_whoever_asks_too_often_is_told_how_many_seconds_to_wait(phones, tmp_path, sandbox):
    hurried = Service(tmp_path / "hurried", sandbox.url, workers=1)
    hurried.environ["CREDIT_RATE_TOKEN"] = "4/hour"
    hurried.start()
    try:
        phone = phones(at=hurried)
        phone.failures_expected = True
        phone.launch()
        phone.fetch("100")  # credit, statement, profile
        phone.checked()  # and the proof
        phone.see("fetch").click()
        expect(phone.see("error")).to_have_text(re.compile(r"^操作太频繁，请 \d+ 秒后再试。$"))
        expect(phone.see("credit-time")).to_contain_text("未能更新")
        token = phone.stored_token()
        answer = requests.get(
            f"{hurried.url}/v1/me", headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_S
        )
        assert answer.status_code == 429
    finally:
        hurried.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_of_an_account_fits_a_phone_in_both_colour_schemes(phones, service, pictures, scheme):
    phone = phones(scheme=scheme)
    phone.failures_expected = True
    shop = Shop(service, phone.user)

    def look(name):
        phone.look(pictures, f"{scheme}-account-{name}")
        assert phone.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name

    whole_life(shop)
    end_us = microseconds_now() + 40 * DAY_US
    for number, reference in enumerate(
        ["2026112200017", "一个很长的单号，长得一行放不下，也不该把日期挤出屏幕", None, "4"]
    ):
        shop.does(GrantCredit, 10**number, "活动", expires_at_us=end_us + number * DAY_US)
        shop.does(HoldCredit, 3**number, "下单", reference=reference, deadline_us=end_us + number)
    phone.launch()
    phone.see("fetch").click()
    expect(phone.see("fetch")).to_be_enabled()
    look("1-before-check-in")
    with phone.toasts_stay():
        with phone.held("**/v1/me/checkin"):
            phone.see("checkin").click()
            expect(phone.see("checkin")).to_have_text("正在签到…")
            look("2-checking-in")
        expect(phone.page.locator(".toast")).to_be_visible()
        look("3-toast")
    expect(phone.see("checkin")).to_have_text("已签到")
    phone.load_more()
    expect(phone.see("end")).to_be_visible()
    phone.page.set_viewport_size(SCREEN)
    look("4-checked-in-whole-statement")
    shop.does(FreezeAccount, reason="核实身份")
    shop.does(GrantCredit, 2**53 - 10**7, "全部", reference="9" * 60, expires_at_us=end_us)
    phone.launch()
    expect(phone.see("frozen")).to_be_visible()
    expect(phone.see("fetch")).to_be_enabled()
    look("5-frozen-and-large")
    phone.see("me").click()
    expect(phone.see("save")).to_be_enabled()
    phone.see("logout-everywhere").click()
    look("6-confirm")
    phone.page.get_by_role("button", name="取消").click()
    look("7-profile")
    phone.see("logout").click()
    expect(phone.see("logged-out")).to_be_visible()
    look("8-logged-out")
    other = phones(scheme=scheme)
    other.failures_expected = True
    other.launch()
    other.fetch("100")
    other.look(pictures, f"{scheme}-account-9-new-user")
    other.context.set_offline(True)
    other.see("checkin").click()
    expect(other.see("checkin-error")).to_be_visible()
    other.look(pictures, f"{scheme}-account-10-check-in-offline")
