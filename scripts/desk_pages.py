#!/usr/bin/env python3
"""Walks through the pages as a person would, with a real browser, in both languages.

Starts `callvault demo`, finds a call by the last four digits of a number and a rough day, plays it at 1.5x, marks a second,
and opens the link to that second in another browser. Needs the package `playwright` and Debian's Chromium:

  python3 -m venv /tmp/browser && /tmp/browser/bin/pip install playwright==1.65.2 axe-playwright-python==0.1.8
  /tmp/browser/bin/python scripts/desk_pages.py --bin target/release/callvault --screens docs/screens

With Node.js and `npm ci --prefix scripts/oidc_provider` a person also signs in through an OpenID Connect provider, and is asked why
before the first sound.

The middle of five tries of each page's weight, first paint and first sound is printed as a table, to be read on a machine that does nothing else.
Where axe-playwright-python is installed, every page is held to axe's rules as well: nothing serious may be found.
"""

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

try:
    from axe_playwright_python.sync_playwright import Axe
except ImportError:
    Axe = None

# What a person sees, by language.
WORDS = {
    "en": {"locale": "en-GB", "today": "today", "mark": "Mark this second", "play": "Play", "search": "Search", "ops": "Operations"},
    "zh": {"locale": "zh-CN", "today": "今天", "mark": "标记此刻", "play": "播放", "search": "查找", "ops": "运行"},
}

ELSEWHERE = {
    "en": {"button": "Sign in with Acme", "why": "Why do you want to hear this call?", "no_role": "none of your groups has a role"},
    "zh": {"button": "使用 Acme 登录", "why": "您为什么要收听此通话？", "no_role": "没有角色"},
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, ask, seconds=180):
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        try:
            last = ask()
            if last:
                return last
        except OSError as error:
            last = error
        time.sleep(0.3)
    sys.exit(f"{what} did not come: {last}")


def until(page, expression, seconds=30):
    """Waits for it to be true. The browser's own waiting evaluates strings, which the pages' policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > end:
            raise AssertionError(f"it did not come to: {expression}")
        page.wait_for_timeout(50)


class Walk:
    def __init__(self, base, browser, screens, password):
        self.base, self.browser, self.screens, self.password = base, browser, screens, password
        self.done, self.wrong, self.table = [], [], []

    def visitor(self, lang, who="ada", **more):
        context = self.browser.new_context(locale=WORDS[lang]["locale"], viewport={"width": 1280, "height": 860}, **more)
        page = context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        # A blocked style or script says so here.
        page.on("console", lambda line: self.wrong.append(f"console: {line.text}") if "Content Security" in line.text else None)
        # Whoever is not signed in is led to the form, and from there to where they wanted to go.
        page.goto(self.base + "/")
        page.locator("input[name=name]").fill(who)
        page.locator("input[type=password]").fill(self.password)
        page.locator("main button[type=submit], main form button").last.click()
        page.wait_for_url(self.base + "/")
        return page

    def shot(self, page, name):
        if self.screens:
            page.screenshot(path=str(self.screens / f"{name}.png"))

    def held(self, page, name):
        """axe finds nothing serious."""
        if Axe is None:
            return
        found = Axe().run(page).response["violations"]
        for rule in found:
            if rule["impact"] in ("serious", "critical"):
                where = "; ".join(node["html"][:120] for node in rule["nodes"][:3])
                self.wrong.append(f"axe, {name}: {rule['id']} ({rule['impact']}): {where}")
        self.done.append(f"axe on {name}")

    def find_and_play(self, lang, item):
        words = WORDS[lang]
        digits = item["callee"][-4:]
        page = self.visitor(lang)
        page.goto(self.base + "/")
        assert page.locator("html").get_attribute("lang").startswith(lang), "the browser's language"
        # Keyboard alone: to the box, type, to the line, open it.
        page.locator("body").press("/")
        page.keyboard.type(f"{digits} {words['today']}")
        line = page.locator(f".row:has(a.open[href='/recordings/{item['recording_id']}'])")
        expect(page.locator(".understood")).to_be_visible()
        expect(line).to_be_visible()
        assert digits in page.url and "part=" not in page.url, page.url
        self.held(page, f"search, {lang}")
        page.keyboard.press("Escape")
        # The calls of the demo may still be coming: the list is drawn again while one walks in it.
        for _ in range(300):
            if line.evaluate("row => row === document.activeElement"):
                page.keyboard.press("Enter")
                break
            page.keyboard.press("j")
        page.wait_for_url(f"**/recordings/{item['recording_id']}")

        # 1.5x, and it really goes on.
        audio = page.locator("#audio")
        page.locator("#speed").select_option("1.5")
        page.locator("#toggle").click()
        until(page, "document.getElementById('audio').currentTime > 1.2")
        assert audio.evaluate("a => a.playbackRate") == 1.5
        page.locator("h1").click()
        page.keyboard.press("Space")
        until(page, "document.getElementById('audio').paused")
        at = audio.evaluate("a => a.currentTime")
        page.keyboard.press("ArrowLeft")
        assert audio.evaluate("a => a.currentTime") < at, "the arrow goes back"

        # One side alone, an even volume, silence: on and off again.
        if page.locator("#sides").count():
            page.locator("#sides").select_option("1")
        for key, button in (("v", "#level"), ("s", "#silence")):
            page.locator("h1").click()
            page.keyboard.press(key)
            expect(page.locator(button)).to_have_attribute("aria-pressed", "true")
            page.keyboard.press(key)
            expect(page.locator(button)).to_have_attribute("aria-pressed", "false")

        # Half way in the waveform, then a mark there with one key.
        box = page.locator("#seek").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        middle = audio.evaluate("a => a.currentTime / a.duration")
        assert 0.4 < middle < 0.6, middle
        page.locator("h1").click()
        page.keyboard.press("m")
        page.keyboard.type(f"price named <{lang}>")
        page.keyboard.press("Enter")
        mark = page.locator(".marks li", has_text=f"price named <{lang}>")
        expect(mark).to_be_visible()
        link = mark.locator("a.at").get_attribute("href")
        assert "?t=" in link, link
        self.held(page, f"call, {lang}")
        self.shot(page, "call" if lang == "en" else "call-zh")

        # A colleague opens the link: at that second, and the speed is their own.
        other = self.visitor(lang, "bo")
        other.goto(self.base + link)
        second = float(link.split("t=")[1])
        until(other, f"Math.abs(document.getElementById('audio').currentTime - {second}) < 0.3")
        assert other.locator("#audio").evaluate("a => a.playbackRate") == 1
        expect(other.locator(".marks li", has_text=f"price named <{lang}>")).to_be_visible()
        other.context.close()
        # The speed was remembered for the first.
        page.reload()
        until(page, "document.getElementById('audio').playbackRate === 1.5")
        page.context.close()
        self.done.append(f"found by {digits} and {words['today']}, played at 1.5x, marked, opened at {second} s ({lang})")

    def list_player(self):
        page = self.visitor("en")
        page.goto(self.base + "/")
        page.locator(".play").first.click()
        until(page, "document.getElementById('dock-audio').currentTime > 0.5")
        expect(page.locator("#dock")).to_be_visible()
        page.context.close()
        self.done.append("played from the list")

    def administration(self, item):
        """Every page of those who look after the house, in both languages, on a phone and in the dark."""
        words = {
            "en": {"made": "New account", "job": "Run now", "test": "Test", "verify": "Verify the chain", "whole": "The chain is whole.", "change": "Change"},
            "zh": {"made": "新建账户", "job": "立即运行", "test": "测试", "verify": "验证哈希链", "whole": "哈希链完整。", "change": "更改"},
        }
        pages = {
            "accounts": "/admin/accounts", "account": "/admin/account/bo", "tokens": "/admin/tokens", "sources": "/admin/sources",
            "schedule": "/admin/schedule", "configuration": "/admin/configuration", "trail": "/audit", "own": "/account",
        }
        for lang, said in words.items():
            page = self.visitor(lang)
            zh = "-zh" if lang == "zh" else ""
            # Somebody new, seen with the link that is told once; then another role and a scope for them.
            page.goto(self.base + "/admin/accounts")
            expect(page.get_by_role("heading", name=said["made"])).to_be_visible()
            page.locator("#name").fill(f"li-{lang}")
            page.locator("#role").select_option("listener")
            page.locator("form.stack button[type=submit]").click()
            expect(page.locator("code.secret")).to_contain_text("/sign-in/link?t=")
            page.get_by_role("link", name=f"li-{lang}").click()
            page.locator("#role").select_option("officer")
            page.locator("#sources").fill(item["source"])
            page.get_by_role("button", name=said["change"], exact=True).click()
            page.wait_for_url("**/admin/accounts")
            expect(page.locator("tr", has_text=f"li-{lang}")).to_contain_text(item["source"])
            page.goto(self.base + "/admin/tokens")
            page.locator("#name").fill(f"export-{lang}")
            page.locator("form.stack button[type=submit]").click()
            expect(page.locator("code.secret")).to_contain_text("cvt_")
            page.goto(self.base + "/admin/schedule")
            page.locator("#poll").get_by_role("button", name=said["job"]).click()
            expect(page.locator("[role=status]")).to_be_visible()
            page.goto(self.base + "/admin/sources")
            page.locator("section.card").first.get_by_role("button", name=said["test"]).click()
            expect(page.locator("[role=status]")).to_be_visible(timeout=40_000)
            page.goto(self.base + "/audit")
            page.get_by_role("button", name=said["verify"]).click()
            expect(page.locator("[role=status]")).to_contain_text(said["whole"])
            for name, path in pages.items():
                page.goto(self.base + path)
                page.evaluate("document.activeElement.blur()")
                assert page.locator("html").get_attribute("lang").startswith(lang), path
                self.held(page, f"{path}, {lang}")
                self.shot(page, f"admin-{name}{zh}")
            page.context.close()
            # The way in, as a stranger finds it.
            context = self.browser.new_context(locale=WORDS[lang]["locale"], viewport={"width": 1280, "height": 860})
            page = context.new_page()
            page.goto(self.base + "/sign-in")
            self.held(page, f"/sign-in, {lang}")
            self.shot(page, f"sign-in{zh}")
            context.close()
        for dark in (False, True):
            page = self.visitor("zh" if dark else "en", color_scheme="dark" if dark else "light")
            page.set_viewport_size({"width": 390, "height": 844})
            for name, path in pages.items():
                page.goto(self.base + path)
                page.evaluate("document.activeElement.blur()")
                wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if wide > 0:
                    self.wrong.append(f"{path} on a phone: {wide} px too wide")
                self.held(page, f"{path} on a phone{', dark' if dark else ''}")
                if (name, dark) in (("accounts", False), ("schedule", True), ("trail", True)):
                    self.shot(page, f"admin-{name}-phone{'-zh-dark' if dark else ''}")
            page.context.close()
        self.done.append("administration: a link, another role, a token, a run, a test, the chain; both languages, phone, dark")

    def measure(self, item):
        """Bytes of each page without its audio, the first paint and the first sound, with nothing in the browser's cache."""
        state = self.visitor("en").context.storage_state()
        call = f"/recordings/{item['recording_id']}"
        lines = []
        for path in ("/", "/?q=today", call, "/operations", "/admin/accounts", "/admin/schedule", "/audit"):
            paints, sounds, weight = [], [], 0
            for _ in range(5):
                context = self.browser.new_context(storage_state=state, viewport={"width": 1280, "height": 860})
                page = context.new_page()
                network = context.new_cdp_session(page)
                network.send("Network.enable")
                audio, bytes_of = set(), {}
                network.on("Network.responseReceived", lambda e: audio.add(e["requestId"]) if e["response"]["mimeType"].startswith("audio/") else None)
                network.on("Network.loadingFinished", lambda e: bytes_of.update({e["requestId"]: e["encodedDataLength"]}))
                page.goto(self.base + path)
                until(page, "performance.getEntriesByName('first-contentful-paint').length > 0")
                page.wait_for_timeout(300)
                paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
                weight = sum(n for request, n in bytes_of.items() if request not in audio)
                if path == call:
                    sounds.append(page.evaluate(
                        "() => new Promise(done => { const from = performance.now(), audio = document.getElementById('audio');"
                        " audio.addEventListener('playing', () => done(performance.now() - from), { once: true });"
                        " document.getElementById('toggle').click(); })"
                    ))
                context.close()
            if weight > 150_000:
                self.wrong.append(f"{path} weighs {weight} bytes")
            middle = lambda values: f"{sorted(values)[len(values) // 2]:.0f} ms" if values else ""
            shown = "/recordings/ID" if path == call else path
            lines.append(f"| `{shown}` | {weight / 1000:.0f} kB | {middle(paints)} | {middle(sounds)} |")
        self.table = ["| page | weight without audio | first paint | first sound after the click |", "|---|---|---|---|", *lines]
        self.done.append("weights, first paint, first sound")

    def others(self, two):
        page = self.visitor("en")
        page.goto(self.base + "/operations")
        self.held(page, "operations")
        self.shot(page, "operations")
        page.keyboard.press("?")
        expect(page.locator("#help")).to_be_visible()
        page.keyboard.press("Escape")
        page.goto(self.base + "/")
        page.locator("h1").evaluate("() => document.activeElement.blur()")
        self.shot(page, "search")
        # The switch turns everything over, and is remembered.
        page.get_by_role("button", name="中文").click()
        expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
        page.goto(self.base + "/operations")
        expect(page.get_by_role("heading", level=1)).to_have_text(WORDS["zh"]["ops"])
        page.context.close()
        for name, lang, path, dark, size in (
            ("search-zh-dark", "zh", "/", True, (1280, 860)),
            ("call-phone", "en", f"/recordings/{two}?t=2", False, (390, 844)),
            ("search-phone-dark", "en", "/", True, (390, 844)),
        ):
            page = self.visitor(lang, color_scheme="dark" if dark else "light")
            page.set_viewport_size({"width": size[0], "height": size[1]})
            page.goto(self.base + path)
            page.evaluate("document.activeElement.blur()")
            page.wait_for_timeout(400)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wide > 0:
                self.wrong.append(f"{name}: the page is {wide} px too wide")
            self.shot(page, name)
            page.context.close()
        # Without script: the form and the native player.
        plain = self.visitor("en", java_script_enabled=False)
        plain.goto(self.base + "/?q=today")
        expect(plain.locator(".row").first).to_be_visible()
        plain.locator("a.open").first.click()
        expect(plain.locator("h1")).to_be_visible()
        plain.context.close()
        self.done.append("operations, keys, language switch, phone, dark, without script")

    def through_provider(self, page, words, who):
        """The provider's own two pages: who one is, and whether callvault may know."""
        page.goto(self.base + "/sign-in")
        page.locator("#oidc").click()
        page.locator("input[name=login]").fill(who)
        page.locator("input[name=password]").fill("x")
        page.locator("button[type=submit]").click()
        page.locator("button[type=submit]").click()

    def sign_in_elsewhere(self, lang, item):
        """In through an OpenID Connect provider, asked why before the first sound, out again; and somebody without a role."""
        words = ELSEWHERE[lang]
        context = self.browser.new_context(locale=WORDS[lang]["locale"], viewport={"width": 1280, "height": 860})
        page = context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("console", lambda line: self.wrong.append(f"console: {line.text}") if "Content Security" in line.text and page.url.startswith(self.base) else None)
        page.goto(self.base + "/sign-in")
        expect(page.locator("#oidc")).to_have_text(words["button"])
        self.held(page, f"sign-in, {lang}")
        self.shot(page, "sign-in" if lang == "en" else "sign-in-zh")
        self.through_provider(page, words, "olga")
        page.wait_for_url(self.base + "/")
        page.goto(self.base + f"/recordings/{item['recording_id']}")
        expect(page.locator("audio#audio")).to_have_count(0)
        expect(page.locator("#why h2")).to_have_text(words["why"])
        self.held(page, f"reason, {lang}")
        self.shot(page, "reason" if lang == "en" else "reason-zh")
        page.locator("#why-text").fill("complaint 4711")
        page.keyboard.press("Enter")
        page.locator("#toggle").click()
        until(page, "document.getElementById('audio').currentTime > 0.5")
        context.close()

        context = self.browser.new_context(locale=WORDS[lang]["locale"])
        page = context.new_page()
        self.through_provider(page, words, "guest")
        expect(page.get_by_role("alert")).to_contain_text(words["no_role"])
        expect(page.locator("code")).to_have_text("no_role")
        self.held(page, f"refused, {lang}")
        self.shot(page, "refused" if lang == "en" else "refused-zh")
        context.close()
        self.done.append(f"signed in through the provider, asked why, played; refused without a role ({lang})")


def elsewhere(options, data, item, browser, password):
    """The same archive with a provider and a question before each call."""
    folder = Path(__file__).resolve().parent / "oidc_provider"
    if not (folder / "node_modules/oidc-provider").is_dir():
        if os.environ.get("CALLVAULT_REQUIRE_SERVERS") == "1":
            sys.exit("no OpenID provider: run `npm ci --prefix scripts/oidc_provider`")
        print("SKIPPED: sign-in through a provider (`npm ci --prefix scripts/oidc_provider` was not run)")
        return None
    base, port = f"http://127.0.0.1:{free_port()}", free_port()
    provider = subprocess.Popen(
        ["node", str(folder / "server.mjs"), str(port), f"{base}/sign-in/oidc/back", f"{base}/sign-in"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    serve = None
    try:
        assert provider.stdout.readline().startswith("ready"), "the provider starts"
        config = Path(data) / "with-provider.toml"
        config.write_text((Path(data) / "callvault.toml").read_text() + f"""
[access]
ask_reason = ["play"]
[access.oidc]
issuer = "http://127.0.0.1:{port}"
client_id = "callvault"
client_secret = "secret of the tests: + % and more"
scopes = ["openid", "profile", "email", "groups"]
label = "Acme"
roles = {{ listener = ["call-desk"], officer = ["legal"], administrator = ["it"] }}
""")
        environment = os.environ | {"CALLVAULT__SERVER__LISTEN": base.removeprefix("http://"), "CALLVAULT__SERVER__PUBLIC_URL": base}
        command = [options.bin, "--config", str(config), "web"]
        serve = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("the pages with a provider", lambda: urllib.request.urlopen(base + "/healthz").status == 200)
        walk = Walk(base, browser, options.screens, password)
        for lang in WORDS:
            walk.sign_in_elsewhere(lang, item)
        return walk
    finally:
        for process in (serve, provider):
            if process:
                process.terminate()
                process.wait(timeout=30)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.environ.get("CALLVAULT_BIN", "target/debug/callvault"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--screens", type=Path, help="a folder for pictures of the pages")
    parser.add_argument("--only-measure", action="store_true", help="no walk: the table alone")
    options = parser.parse_args()
    if options.screens:
        options.screens.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        base = f"http://127.0.0.1:{free_port()}"
        command = [options.bin, "demo", "--data", data, "--listen", base.removeprefix("http://"), "--calls", "20"]
        demo = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            def one():
                search = [options.bin, "--config", f"{data}/callvault.toml", "--json", "search", "--state", "archived", "--limit", "0"]
                done = subprocess.run(search, capture_output=True, text=True)
                items = [json.loads(line) for line in done.stdout.splitlines()]
                good = [i for i in items if i["access"] and i["callee"] and i["callee"][-4:].isdigit() and i["access"]["duration_ms"] > 4000]
                # Two sides show most of the player.
                good.sort(key=lambda i: (-(i["access"]["channels"] or 1), i["callee"]))
                return len(items) >= 20 and good and good[0]

            item = wait_for("a call to play", one)
            # No name of an account is in it: those are refused.
            password = f"river-{secrets.randbelow(10**12):012}-plum"
            for name, role in (("ada", "administrator"), ("bo", "officer")):
                command = [options.bin, "--config", f"{data}/callvault.toml", "account", "add", name, "--role", role, "--password-stdin"]
                subprocess.run(command, input=password + "\n", text=True, check=True, stdout=subprocess.DEVNULL)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=options.chromium,
                    args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
                )
                walk = Walk(base, browser, options.screens, password)
                if not options.only_measure:
                    for lang in WORDS:
                        walk.find_and_play(lang, item)
                    walk.list_player()
                    walk.administration(item)
                    walk.others(item["recording_id"])
                    more = elsewhere(options, data, item, browser, password)
                    if more:
                        walk.done += more.done
                        walk.wrong += more.wrong
                walk.measure(item)
                browser.close()
            for line in walk.done:
                print(f"ok: {line}")
            if Axe is None:
                print("axe-playwright-python is not installed: its rules were not looked at")
            print("\n".join(walk.table))
            for line in walk.wrong:
                print(f"WRONG: {line}")
            print(f"{len(walk.done)} passed, {len(walk.wrong)} failed")
            return 1 if walk.wrong else 0
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(timeout=30)


if __name__ == "__main__":
    sys.exit(main())
