"""The mini-program checks its own proof: unmodified, in Chromium, against the running service and its seals."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from api.vault import open_signer
from ledger.commands import GrantCredit
from ledger.committer import microseconds_now
from ledger.events import MAX_CREDIT
from ledger.seal import origin_of
from ledger.seal_file import SealFile
from ledger.sealer import make_seal
from ledger.sqlite import Turnstile
from scripts.sandbox_wechat import APPID
from tests.backend import SOON_US, happened, new_account
from tests.conftest import ROOT, Service

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the mini-program was NOT tested: playwright is missing"
)
expect = sync_api.expect

pytest_plugins = ["tests.miniprogram.fixtures"]
pytestmark = pytest.mark.usefixtures("within_a_day")

FILES = ("ledger.db", "seals.db")


@pytest.fixture(scope="module")
def unsealed(tmp_path_factory, sandbox):
    """A service that seals nothing by itself: somebody else has that duty."""
    running = Service(tmp_path_factory.mktemp("proof") / "data", sandbox.url, workers=1)
    running.data.mkdir()
    duty = Turnstile(running.data / "sealer.lock")
    assert duty.take_if_free()
    running.start()
    yield running
    running.stop(signal.SIGKILL)
    duty.close()
    assert "unexpected error" not in running.log, running.log


def seal(service, after_us=0):
    """Seal what was recorded, as at a moment so much later than now."""
    signer = open_signer(service.data / "signing.key", origin_of(APPID))
    now_us = microseconds_now() + after_us
    assert make_seal(service.data / "ledger.db", service.data / "seals.db", signer, now_us)


def refresh(phone, credit, word):
    """Ends with the phone's check."""
    phone.fetch(credit)
    phone.checked()
    expect(phone.see("seal-word")).to_have_text(word)


def details(phone):
    """The page's details, opened where they are not."""
    if not phone.see("seal-details").count():
        phone.see("seal").click()
    return phone.see("seal-details")


def test_after_a_seal_the_phone_has_checked_its_own_account_and_says_what_it_checked(phones, unsealed):
    phone = phones(at=unsealed)
    phone.launch()
    refresh(phone, "100", "尚未封存")
    expect(details(phone)).to_contain_text("你的账户很快会在下一次封存里")
    command = [sys.executable, "-c", "from scripts.credit_ledger import main; main()", "seal"]
    environ = {**os.environ, "CREDIT_DATA": str(unsealed.data)}
    sealed = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert sealed.stdout.startswith("seal "), sealed.stderr
    number = int(sealed.stdout.split()[1])
    refresh(phone, "100", "已核验")
    expect(phone.see("seal")).to_contain_text(re.compile(rf"^已核验今天 \d\d:\d\d 第 {number} 次封存$"))
    expect(details(phone)).to_contain_text("公钥是这部手机刚刚第一次见到的")
    expect(details(phone)).to_contain_text("到第 2 条记录为止，100 积分")
    expect(details(phone)).to_contain_text("封存里你的每一笔明细都核对过")
    expect(details(phone)).to_contain_text("下面列出的明细，已封存的 2 条都和封存里的一样")
    expect(details(phone)).to_contain_text("明细的增减逐条相加，正好是这个数")

    phone.check_in("105")
    expect(details(phone)).to_contain_text("最新的 2 条记录尚未封存")
    refresh(phone, "105", "已核验")
    expect(details(phone)).to_contain_text("1 张签到回执在等待封存")
    seal(unsealed)
    phone.requests.clear()
    refresh(phone, "105", "已核验")
    expect(details(phone)).to_contain_text("1 张签到回执已兑现")
    expect(details(phone)).to_contain_text(f"接得上以前核验过的第 {number} 次封存")
    expect(details(phone)).to_contain_text("公钥还是这部手机第一次见到的那个")
    assert phone.count("GET", "/v1/me/proof") == 1
    assert phone.count("GET", f"/v1/seals/{number}/consistency/{number + 1}") == 1

    phone.failures_expected = True
    phone.context.set_offline(True)
    phone.launch()
    expect(phone.see("seal-word")).to_have_text("离线未核验")
    expect(phone.see("credit")).to_have_text("105")
    expect(details(phone)).to_contain_text(re.compile(f"上次核验的是今天 .* 第 {number + 1} 次封存"))


def test_a_history_of_more_than_a_page_is_checked_with_the_key_of_config_js(phones, unsealed):
    phone = phones(at=unsealed)
    phone.launch()
    refresh(phone, "100", "尚未封存")
    openid = unsealed.openid_of(phone.user)
    happened(unsealed, *(GrantCredit(openid, 1, "x", f"many-{number}") for number in range(1100)))
    seal(unsealed)

    with closing(SealFile(unsealed.data / "seals.db")) as seals:
        vkey = seals.vkey()
    bundle = (phone.built / "bundle.js").read_text()
    assert bundle.count("sealKey: ''") == 1
    body = bundle.replace("sealKey: ''", f"sealKey: {json.dumps(vkey)}")
    phone.context.route(
        "**/__page/bundle.js", lambda route: route.fulfill(body=body, content_type="text/javascript")
    )
    phone.launch()
    refresh(phone, "1,200", "已核验")
    expect(details(phone)).to_contain_text("公钥是小程序自带的")
    expect(details(phone)).to_contain_text("到第 1,102 条记录为止，1,200 积分")
    assert phone.count("GET", "/v1/me/proof?after=1000") == 1


def test_an_answer_that_was_changed_on_the_way_is_found_and_blocks_nothing(phones, unsealed):
    phone = phones(at=unsealed)
    phone.launch()
    refresh(phone, "100", "尚未封存")
    seal(unsealed)
    refresh(phone, "100", "已核验")

    def richer(route):
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "credit": 1000})

    phone.context.route("**/v1/me/credit", richer)
    refresh(phone, "1,000", "核验失败")
    expect(details(phone)).to_contain_text("页面上的积分和封存的积分不一样。")
    phone.context.route("**/v1/me/proof*", richer)
    refresh(phone, "1,000", "核验失败")
    expect(details(phone)).to_contain_text("你的账户不在封存的总账里，或者数目不同。")
    expect(details(phone)).to_contain_text("请不要退出登录")
    phone.context.unroute("**/v1/me/proof*")
    phone.context.unroute("**/v1/me/credit")
    expect(phone.see("checkin")).to_be_enabled()
    refresh(phone, "100", "已核验")

    def another_reason(route):
        answer = route.fetch()
        proof = answer.json()
        proof["events"][-1]["data"] = proof["events"][-1]["data"].replace("赔偿", "奖励")
        route.fulfill(response=answer, json=proof)

    unsealed.grant(unsealed.openid_of(phone.user), 7, "赔偿", "sorry")
    seal(unsealed)
    phone.context.route("**/v1/me/proof*", another_reason)
    refresh(phone, "107", "核验失败")
    expect(details(phone)).to_contain_text("有的明细和封存时的内容不同，或者前后接不上。")
    phone.context.unroute("**/v1/me/proof*")
    refresh(phone, "107", "已核验")


def test_a_list_that_is_not_what_was_sealed_is_found(phones, unsealed):
    phone = phones(at=unsealed)
    phone.launch()
    refresh(phone, "100", "尚未封存")
    seal(unsealed)
    refresh(phone, "100", "已核验")

    def another_time(route):
        answer = route.fetch()
        page = answer.json()
        page["events"][-1]["recorded_at"] = "2020-01-01T00:00:00.000000Z"
        route.fulfill(response=answer, json=page)

    phone.context.route("**/v1/me/events*", another_time)
    refresh(phone, "100", "核验失败")
    expect(details(phone)).to_contain_text("页面上第 1 条记录的时间和封存的不一样。")
    phone.context.unroute("**/v1/me/events*")
    refresh(phone, "100", "已核验")

    # What has lapsed is in the list before anybody records it, and in no seal.
    soon = microseconds_now() + SOON_US
    happened(unsealed, GrantCredit(unsealed.openid_of(phone.user), 9, "限时", "soon", expires_at_us=soon))
    seal(unsealed)
    time.sleep(max(0, soon - microseconds_now()) / 1_000_000)
    refresh(phone, "100", "已核验")
    expect(phone.see("event-4")).to_contain_text("积分过期")
    expect(details(phone)).to_contain_text("下面列出的明细，已封存的 3 条都和封存里的一样")
    expect(details(phone)).to_contain_text("最新的 1 条记录尚未封存")


def copied(service):
    """What ledger and seals are now, each as one file."""
    copies = {}
    for name in FILES:
        with closing(sqlite3.connect(service.data / name)) as live:
            copies[name] = live.serialize()
    return copies


@contextmanager
def stopped(service) -> Iterator[None]:
    service.stop(signal.SIGKILL)  # Politely, it would wait for the browser's open connections.
    yield
    service.start()


def put_back(service, copies):
    for name, content in copies.items():
        for file in service.data.glob(f"{name}*"):
            if not file.name.endswith(".lock"):
                file.unlink()
        (service.data / name).write_bytes(content)


def test_a_ledger_that_was_replaced_behind_the_users_back_is_found_each_way(phones, unsealed):
    phone = phones(at=unsealed)
    phone.failures_expected = True
    phone.launch()
    refresh(phone, "100", "尚未封存")
    me, other = unsealed.openid_of(phone.user), new_account(unsealed)
    seal(unsealed)
    refresh(phone, "100", "已核验")
    early = copied(unsealed)
    moment = microseconds_now()

    def grant(openid, amount):
        happened(unsealed, GrantCredit(openid, amount, "x", f"key-{openid}"), clock_us=lambda: moment)

    def lie(credit, why):
        refresh(phone, credit, "核验失败")
        expect(details(phone)).to_contain_text(why)

    grant(me, 7)
    grant(other, 5)
    seal(unsealed)
    refresh(phone, "107", "已核验")
    honest = copied(unsealed)

    with stopped(unsealed):
        put_back(unsealed, early)
    lie("100", "封存的记录比以前核验过的少了。")

    grant(me, 8)
    seal(unsealed)
    lie("108", "以前核验过的记录被改动了。")

    # The user's own account is as it was, but somebody else's is not.
    with stopped(unsealed):
        put_back(unsealed, early)
    grant(me, 7)
    grant(other, 6)
    seal(unsealed)
    lie("107", "封存记录和以前核验过的接不上。")
    happened(unsealed, GrantCredit(other, 1, "x", "more"))
    seal(unsealed)
    lie("107", "封存记录和以前核验过的接不上。")

    with stopped(unsealed):
        put_back(unsealed, {"ledger.db": honest["ledger.db"]})
        for file in (*unsealed.data.glob("seals.db*"), unsealed.data / "signing.key"):
            file.unlink()
    seal(unsealed)
    lie("107", "签名公钥和原来的不同。")


def test_a_check_in_that_was_acknowledged_and_never_sealed_is_found(phones, unsealed):
    phone = phones(at=unsealed)
    phone.failures_expected = True
    phone.launch()
    refresh(phone, "100", "尚未封存")
    seal(unsealed)
    refresh(phone, "100", "已核验")
    before = copied(unsealed)
    phone.check_in("105")
    with stopped(unsealed):
        put_back(unsealed, before)
    new_account(unsealed)
    seal(unsealed, after_us=61_000_000)
    refresh(phone, "100", "核验失败")
    expect(details(phone)).to_contain_text("签到回执承诺过的记录没有被封存。")
    assert phone.page.evaluate("JSON.parse(localStorage.getItem('wx:receipts')).length") == 1


def test_the_line_and_its_details_fit_a_phone_in_both_colour_schemes(phones, unsealed, pictures):
    phone = phones(at=unsealed)
    phone.failures_expected = True

    def look(name):
        for scheme in ("light", "dark"):
            phone.page.emulate_media(color_scheme=scheme)
            phone.look(pictures, f"{scheme}-seal-{name}")
            assert phone.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name

    phone.launch()
    refresh(phone, "100", "尚未封存")
    details(phone)
    look("1-unsealed")
    seal(unsealed)
    refresh(phone, "100", "已核验")
    phone.see("seal").click()
    expect(phone.see("seal-details")).to_have_count(0)
    look("2-verified")
    phone.check_in("105")
    unsealed.grant(unsealed.openid_of(phone.user), MAX_CREDIT - 105, "全部", "max")
    seal(unsealed)
    refresh(phone, "9,007,199,254,740,991", "已核验")
    expect(phone.page.locator(".toast")).to_have_count(0)
    details(phone)
    look("3-details")
    phone.context.route("**/v1/me/proof*", lambda route: route.fulfill(json={}))
    refresh(phone, "9,007,199,254,740,991", "核验失败")
    look("4-failed")
    phone.context.unroute("**/v1/me/proof*")
    phone.context.set_offline(True)
    phone.launch()
    expect(phone.see("seal-word")).to_have_text("离线未核验")
    details(phone)
    look("5-offline")
