"""The mini-program as its user meets it: unmodified, in Chromium, against the running service."""

import json
import re

import pytest

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the mini-program was NOT tested: playwright is missing"
)
expect = sync_api.expect

from tests.miniprogram.phone import SCREEN, png  # noqa: E402 - needs playwright

pytest_plugins = ["tests.miniprogram.fixtures"]
pytestmark = pytest.mark.usefixtures("within_a_day")

MAX_CREDIT = 2**53 - 1


def test_a_first_launch_logs_in_and_the_button_shows_the_new_users_100_credits(phone):
    phone.launch()
    expect(phone.page.get_by_text("每一笔积分都记在这里")).to_be_visible()
    expect(phone.see("fetch")).to_have_text("获取用户的积分")
    phone.fetch("100")
    expect(phone.see("credit-time")).to_have_text(re.compile(r"^更新于 今天 \d\d:\d\d$"))
    assert phone.count("POST", "/login") == 1
    expect(phone.rows()).to_have_count(2)
    expect(phone.rows().first).to_contain_text("获得积分新用户礼包")
    expect(phone.rows().first).to_contain_text("+100余额 100")
    expect(phone.rows().last).to_contain_text("注册")
    expect(phone.see("end")).to_be_visible()


def test_the_token_never_gets_into_an_address_nor_into_the_data_of_a_page(phone):
    phone.launch()
    phone.fetch("100")
    phone.see("me").click()
    expect(phone.see("save")).to_be_enabled()
    token = phone.stored_token()
    assert len(token) > 20
    assert phone.requests
    assert not [path for _, path in phone.requests if token in path or "token" in path]
    shown = json.dumps(phone.page.evaluate("host.pageData()"))
    assert '"credit": "100"' in shown
    assert token not in shown
    assert "openid" not in shown
    assert "session_key" not in shown


def test_all_callers_of_a_launch_share_one_login(phone):
    with phone.held("**/login") as held:
        phone.launch()
        phone.see("fetch").click()  # Three requests more, while the login of the launch is under way.
        expect(phone.see("fetch")).to_have_text("正在获取…")
        phone.wait_until(lambda: held)
        assert len(held) == 1
    expect(phone.see("credit")).to_have_text("100")
    expect(phone.rows()).to_have_count(2)
    assert phone.count("POST", "/login") == 1


def test_the_statement_pages_back_to_the_first_event_in_order_and_without_duplicates(phone, service):
    phone.launch()
    phone.fetch("100")
    openid = service.openid_of(phone.user)
    for number in range(1, 46):
        service.grant(openid, number, f"第 {number} 次", f"page-{number}")
    phone.fetch("1,135")
    expect(phone.rows()).to_have_count(20)
    phone.load_more()
    expect(phone.rows()).to_have_count(40)
    phone.page.set_viewport_size(SCREEN)
    phone.page.mouse.wheel(0, 9000)  # Reaching the bottom loads as well as the button.
    expect(phone.rows()).to_have_count(47)
    expect(phone.see("end")).to_have_text("没有更早的记录了")
    assert phone.versions() == list(range(47, 0, -1))
    expect(phone.rows().nth(0)).to_contain_text("第 45 次")
    expect(phone.rows().nth(0)).to_contain_text("+45余额 1,135")
    expect(phone.rows().nth(44)).to_contain_text("+1余额 101")


def test_a_refresh_while_an_older_page_is_loading_does_not_mix_the_two(phone, service):
    phone.launch()
    phone.fetch("100")
    openid = service.openid_of(phone.user)
    for number in range(1, 31):
        service.grant(openid, 1, "前", f"mix-{number}")
    phone.fetch("130")
    with (
        phone.page.expect_request_finished(lambda request: "before=" in request.url),
        phone.held("**/v1/me/events?*before=*") as held,
    ):
        phone.load_more()
        expect(phone.page.get_by_text("正在加载…")).to_be_visible()
        phone.wait_until(lambda: held)
        service.grant(openid, 5, "后", "mix-after")
        phone.fetch("135")
        expect(phone.rows().first).to_contain_text("后")
    phone.load_more()
    expect(phone.rows()).to_have_count(33)
    assert phone.versions() == list(range(33, 0, -1))


def test_a_later_launch_keeps_the_token_and_shows_the_credit_by_itself(phone, service):
    phone.launch()
    phone.fetch("100")
    service.grant(service.openid_of(phone.user), 7, "活动", "relaunch")
    phone.launch()
    expect(phone.see("credit")).to_have_text("107")
    expect(phone.rows()).to_have_count(3)
    assert phone.count("GET", "/checklogin") == 1
    assert phone.count("POST", "/login") == 0


def test_a_token_that_the_service_no_longer_knows_costs_one_login_and_one_retry(phone):
    phone.launch()
    phone.fetch("100")
    phone.failures_expected = True
    phone.page.evaluate("localStorage.setItem('wx:token', JSON.stringify('of-another-life'))")
    phone.launch()
    expect(phone.rows()).to_have_count(2)
    expect(phone.see("fetch")).to_be_enabled()
    expect(phone.see("credit")).to_have_text("100")
    expect(phone.see("credit-time")).to_contain_text("更新于")
    assert phone.count("POST", "/login") == 1
    assert phone.count("GET", "/v1/me/credit") == 2
    assert phone.stored_token() != "of-another-life"


def test_offline_the_last_known_credit_stays_with_its_time_and_a_retry_works_once_online(phone, service):
    phone.launch()
    phone.fetch("100")
    phone.failures_expected = True
    phone.context.set_offline(True)
    phone.launch()
    expect(phone.see("error")).to_have_text("连接不上服务器，请检查网络后重试。")
    expect(phone.see("credit")).to_have_text("100")
    expect(phone.see("credit-time")).to_have_text(re.compile(r"^未能更新 · 今天 \d\d:\d\d 的积分$"))
    phone.see("retry").click()
    expect(phone.see("error")).to_be_visible()
    phone.context.set_offline(False)
    service.grant(service.openid_of(phone.user), 1, "补", "offline")
    phone.see("retry").click()
    expect(phone.see("credit")).to_have_text("101")
    expect(phone.see("error")).to_have_count(0)
    expect(phone.see("credit-time")).to_contain_text("更新于")


def test_a_page_of_the_statement_that_did_not_come_is_asked_for_again_by_a_tap(phone, service):
    phone.launch()
    phone.fetch("100")
    for number in range(1, 21):
        service.grant(service.openid_of(phone.user), 1, "次", f"tail-{number}")
    phone.fetch("120")
    phone.failures_expected = True
    phone.context.set_offline(True)
    phone.load_more()
    expect(phone.see("more")).to_have_text("没有加载成功，点此重试")
    phone.context.set_offline(False)
    phone.load_more()
    expect(phone.rows()).to_have_count(22)


def test_a_refused_login_shows_the_services_own_sentence_and_can_be_tried_again(phone):
    phone.launch(login="refused")  # No code of the sandbox: its WeChat answers 40029.
    with phone.page.expect_response("**/login") as answer:
        phone.see("fetch").click()
    assert answer.value.status == 200
    expect(phone.see("error")).to_have_text(answer.value.json()["err"])
    expect(phone.see("credit")).to_have_count(0)
    phone.launch()
    phone.fetch("100")


def test_a_saved_profile_is_shown_after_a_relaunch(phone):
    phone.launch()
    phone.fetch("100")
    phone.see("me").click()
    expect(phone.see("save")).to_be_enabled()
    phone.choose_avatar("tiny.bin", png(48, noisy=False))
    expect(phone.see("avatar")).to_have_attribute("src", re.compile("^data:image/png;base64,iVBOR"))
    phone.see("nickname").fill("  小满 & <b>同学</b> ")
    phone.see("save").click()
    expect(phone.see("nickname")).to_have_text("小满 & <b>同学</b>")
    phone.launch()
    expect(phone.see("nickname")).to_have_text("小满 & <b>同学</b>")
    assert phone.see("avatar").evaluate("image => image.decode().then(() => image.naturalWidth)") == 48


def test_a_nickname_is_required(phone):
    phone.launch()
    phone.see("me").click()
    expect(phone.see("save")).to_be_enabled()
    phone.see("nickname").fill("   ")
    phone.see("save").click()
    expect(phone.see("error")).to_have_text("请填写昵称。")
    assert not [method for method, _ in phone.requests if method == "PUT"]


def test_a_large_picture_is_compressed_until_the_service_takes_it(phone):
    phone.launch()
    phone.see("me").click()
    expect(phone.see("save")).to_be_enabled()
    phone.choose_avatar("album.png", png(700, noisy=True))
    expect(phone.see("avatar")).to_have_attribute("src", re.compile("^data:image/jpeg;base64,/9j/"))
    assert len(phone.see("avatar").get_attribute("src")) <= 40_000
    phone.see("nickname").fill("大图")
    phone.see("save").click()
    expect(phone.see("nickname")).to_have_text("大图")
    expect(phone.see("avatar")).to_have_attribute("src", re.compile("^data:image/jpeg"))


def test_a_file_that_is_no_picture_is_refused_with_the_reason(phone):
    phone.launch()
    phone.see("me").click()
    expect(phone.see("save")).to_be_enabled()
    phone.choose_avatar("cat.png", b"GIF89a, and not what its name says")
    expect(phone.see("error")).to_have_text("头像只支持 PNG、JPEG 或 WebP 图片。")
    expect(phone.see("avatar")).to_have_count(0)


def test_a_profile_that_could_not_be_read_cannot_be_overwritten(phone):
    phone.launch()
    phone.fetch("100")
    phone.failures_expected = True
    phone.context.set_offline(True)
    phone.see("me").click()
    expect(phone.see("error")).to_have_text("连接不上服务器，请检查网络后重试。")
    expect(phone.see("save")).to_be_disabled()
    phone.context.set_offline(False)
    phone.see("retry").click()
    expect(phone.see("save")).to_be_enabled()


def test_event_types_of_a_later_service_still_make_sensible_rows(phone, service):
    """No service sends them yet, so its real answer is changed on the way."""

    def of_the_future(route):
        answer = route.fetch()
        statement = answer.json()
        lent, granted = statement["events"][:2]
        lent.update(type="CreditLent", data={"amount": 30, "order": {"id": 1}}, credit=granted["credit"] - 30)
        granted.update(type="LotsMerged", data={})
        route.fulfill(response=answer, json=statement)

    phone.launch()
    phone.fetch("100")
    service.grant(service.openid_of(phone.user), 7, "x", "future-1")
    service.grant(service.openid_of(phone.user), 8, "y", "future-2")
    phone.context.route("**/v1/me/events?*", of_the_future)
    phone.fetch("115")
    expect(phone.rows()).to_have_count(4)
    expect(phone.rows().nth(0)).to_contain_text("积分减少")
    expect(phone.rows().nth(0)).to_contain_text("−30余额 77")
    expect(phone.rows().nth(1)).to_contain_text("积分增加")
    expect(phone.rows().nth(1)).to_contain_text("+7余额 107")


def test_the_largest_credit_is_shown_to_the_last_digit_and_fits_on_the_card(phone, service):
    phone.launch()
    phone.fetch("100")
    service.grant(service.openid_of(phone.user), MAX_CREDIT - 100, "全部", "max")
    phone.fetch("9,007,199,254,740,991")
    expect(phone.rows().first).to_contain_text("+9,007,199,254,740,891")
    assert phone.see("credit").evaluate("text => text.scrollWidth <= text.clientWidth")
    assert phone.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_pull_down_refresh_stops_after_the_data_came(phone, service):
    phone.launch()
    phone.fetch("100")
    service.grant(service.openid_of(phone.user), 1, "拉", "pull")
    phone.requests.clear()
    with phone.held("**/v1/me/credit"):
        phone.page.evaluate("host.pullDown()")
        phone.page.evaluate("host.pullDown()")  # Once more while the first is under way: they share it.
        expect(phone.rows()).to_have_count(3)
        expect(phone.page.locator("body[data-pulled]")).to_have_count(1)
    expect(phone.page.locator("body[data-pulled]")).to_have_count(0)
    assert phone.see("credit").text_content() == "101"
    assert phone.count("GET", "/v1/me/credit") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_fits_a_phone_in_both_colour_schemes(phones, service, pictures, scheme):
    phone = phones(scheme=scheme)
    phone.failures_expected = True
    fits = "document.documentElement.scrollWidth <= innerWidth"

    def look(name):
        phone.look(pictures, f"{scheme}-{name}")
        assert phone.page.evaluate(fits), name

    phone.launch()
    expect(phone.see("fetch")).to_be_enabled()
    look("1-first-launch")
    with phone.held("**/v1/me/**"):
        phone.see("fetch").click()
        expect(phone.page.locator(".card-skeleton")).to_be_visible()
        look("2-loading")
    expect(phone.see("credit")).to_have_text("100")
    openid = service.openid_of(phone.user)
    reasons = ["每日签到", "邀请好友", "夏季活动奖励，感谢一路相伴的每一位老朋友和新朋友"]
    for number in range(24):
        service.grant(openid, 5 * number + 3, reasons[number % 3], f"look-{number}")
    phone.see("me").click()
    expect(phone.see("save")).to_be_enabled()
    look("3-profile-empty")
    phone.choose_avatar("me.png", png(96, noisy=False))
    expect(phone.see("avatar")).to_be_visible()
    phone.see("nickname").fill("小满")
    look("4-profile")
    phone.see("save").click()
    phone.fetch("1,552")
    expect(phone.page.locator(".toast")).to_have_count(0)
    look("5-statement")
    phone.context.set_offline(True)
    phone.launch()
    expect(phone.see("error")).to_be_visible()
    look("6-offline")
    phone.context.set_offline(False)
    service.grant(openid, MAX_CREDIT - 1552, "全部", "look-max")
    phone.see("retry").click()
    expect(phone.see("credit")).to_have_text("9,007,199,254,740,991")
    expect(phone.see("fetch")).to_be_enabled()
    look("7-largest-credit")
    phone.context.clear_cookies()
    phone.page.evaluate("localStorage.clear()")
    phone.launch(login="refused")
    phone.see("fetch").click()
    expect(phone.see("error")).to_be_visible()
    look("8-login-refused")
