"""The live page in a real Chromium, over a real daemon on a real server: `make page-test`.

With FORETICK_TEST_SCREENSHOTS=FOLDER it leaves pictures to look at.
"""

from __future__ import annotations

import math
import os
import shutil
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from foretick.app.live import VIEWERS_MAX
from servers import DaemonProcess, Server, missing, wait_until
from viewing import Viewing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

pytestmark = [pytest.mark.heavy, pytest.mark.redis]

HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script>'&"
PATIENCE_MS = 20_000
THEMES = ("light", "dark")

CONTRASTS = """() => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1});
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  const over = (colours) => {
    pen.clearRect(0, 0, 1, 1);
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !node.checkVisibility() || node.closest('.hidden, .skip, noscript, script')) continue;
    const grounds = [];
    for (let at = node; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
    const ground = light(over(['Canvas', ...grounds]));
    const ink = light(over(['Canvas', ...grounds, getComputedStyle(node).color]));
    const contrast = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    if (contrast < 4.5) poor.push([text, contrast.toFixed(2)]);
  }
  return poor;
}"""
DRAWN = """(id) => {
  const canvas = document.querySelector(`#${id} canvas`);
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const found = new Set();
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i + 3] > 200) found.add((pixels[i] << 16) | (pixels[i + 1] << 8) | pixels[i + 2]);
  }
  return found.size;
}"""


class Producer(threading.Thread):
    """Ticks of a few series, twenty a second each, until the end of the tests."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._ending = threading.Event()
        self.round = 0

    def push(self, rounds: int) -> None:
        pipe = self._client.pipeline(transaction=False)
        for _ in range(rounds):
            self.round += 1
            wave = math.sin(self.round / 15)
            spike = 25 if self.round % 97 == 0 else 0
            pipe.xadd("ticks", {"series": "boiler-7", "value": round(70 + 9 * wave + self.round % 7 / 5 + spike, 3)})
            pipe.xadd("ticks", {"series": "pump-2", "value": round(3 + 0.2 * wave, 4)})
            pipe.xadd("ticks", {"series": HOSTILE, "value": self.round % 11})
        pipe.execute()

    def run(self) -> None:
        while not self._ending.wait(0.05):
            self.push(1)

    def end(self) -> None:
        self._ending.set()
        self.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        missing("playwright")
    path = shutil.which("chromium") or missing("chromium")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[DaemonProcess, Server]]:
    server = Server("redis").start()
    daemon = DaemonProcess(server.url, checkpoint__every=0).start()
    producer = Producer(server.client())
    producer.push(400)
    producer.start()
    yield daemon, server
    producer.end()
    daemon.discard()
    server.discard()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page of a daemon; fails at the end where the browser complained."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def make(daemon: DaemonProcess, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": 1360, "height": 860}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.on(
            "console",
            lambda message: message.type == "error" and "ERR_" not in message.text and complaints.append(message.text),
        )
        page.goto(f"http://127.0.0.1:{daemon.http_port}/")
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


def keep(page: Any, name: str, *, full: bool = False) -> None:
    if folder := os.environ.get("FORETICK_TEST_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=full)


def choose(page: Any, name: str) -> None:
    page.get_by_role("option").filter(has_text=name).first.click()
    page.wait_for_function("name => document.querySelector('h1').textContent.startsWith(name)", arg=name)
    page.wait_for_function("() => document.getElementById('f-actual').textContent !== '…'")


@pytest.mark.parametrize("theme", THEMES)
def test_a_series_is_seen_to_move_and_every_word_can_be_read(
    theme: str, running: Any, open_page: Callable[..., Any]
) -> None:
    page = open_page(running[0], color_scheme=theme)
    choose(page, "boiler-7")
    before = page.text_content("#f-actual")
    page.wait_for_function("before => document.getElementById('f-actual').textContent !== before", arg=before)
    page.wait_for_function("() => document.getElementById('v-rate').textContent !== '…'")
    page.wait_for_function("() => document.querySelectorAll('#mix .track').length > 3")
    page.get_by_text("The last ticks as a table").click()
    page.wait_for_selector("#rows tr:nth-child(12)")
    keep(page, f"desktop-{theme}")
    assert page.evaluate(CONTRASTS) == []
    assert page.evaluate(DRAWN, "chart") > 20
    assert page.evaluate(DRAWN, "errors") > 10
    assert page.text_content("#link") == "live"
    assert page.text_content("#f-coverage").count("%") == 2
    assert int(page.text_content("#f-anomalies")) >= 1
    assert "boiler-7: actual" in page.text_content("#said")


def test_on_a_phone_nothing_is_cut_off(running: Any, open_page: Callable[..., Any]) -> None:
    page = open_page(running[0], is_mobile=True, device_scale_factor=2)
    page.set_viewport_size({"width": 360, "height": 740})
    choose(page, "boiler-7")
    page.wait_for_function("() => document.querySelectorAll('#mix .track').length > 3")
    keep(page, "phone", full=True)
    assert page.evaluate("document.scrollingElement.scrollWidth") == 360
    assert page.evaluate("document.querySelector('#chart canvas').getBoundingClientRect().right") <= 360


def test_everything_is_reached_by_keyboard_and_has_a_name(running: Any, open_page: Callable[..., Any]) -> None:
    page = open_page(running[0])
    page.wait_for_selector("[role=option]:nth-child(3)")
    page.keyboard.press("/")
    page.keyboard.type("PUMP")
    page.wait_for_function("() => document.querySelectorAll('[role=option]').length === 1")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.querySelector('h1').textContent === 'pump-2'")
    assert page.get_attribute("#list", "aria-activedescendant") == "series-0"
    page.keyboard.press("Escape")
    page.wait_for_selector("[role=option]:nth-child(3)")
    page.keyboard.press("Tab")  # out of the search, into the orders
    page.keyboard.press("ArrowRight")
    assert page.is_checked("input[value=newest]")
    page.keyboard.press("p")
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    held = page.text_content("#f-actual")
    page.wait_for_timeout(600)
    assert page.text_content("#f-actual") == held
    page.keyboard.press("p")
    page.wait_for_function("held => document.getElementById('f-actual').textContent !== held", arg=held)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, [tabindex="0"], [role=img]')].filter((node) =>
           !(node.ariaLabel || node.getAttribute('aria-describedby') || node.textContent.trim() || node.labels?.length)
        ).map((node) => node.outerHTML)"""
    )
    assert nameless == []


def test_a_hostile_name_is_shown_and_not_obeyed(running: Any, open_page: Callable[..., Any]) -> None:
    page = open_page(running[0])
    choose(page, HOSTILE[:4])
    assert page.text_content("h1") == HOSTILE
    assert page.title() == f"{HOSTILE} · foretick"
    assert page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    page.reload()
    page.wait_for_function("name => document.querySelector('h1').textContent === name", arg=HOSTILE)


def test_where_everybody_is_looking_already_the_page_says_so_and_tries_again(
    running: Any, open_page: Callable[..., Any]
) -> None:
    crowd: list[Viewing] = []

    def is_crowded() -> bool:
        """Whether all places are taken; those of pages closed a moment ago become free with their next event."""
        crowd.append(one := Viewing(running[0].http_port))
        if next(one.events())[0] == "full":
            crowd.pop().close()
        return len(crowd) == VIEWERS_MAX

    try:
        wait_until(is_crowded, 30, "a place for everybody")
        page = open_page(running[0])
        page.wait_for_function(
            "() => document.getElementById('banner').textContent.includes('people are looking already')"
        )
        keep(page, "full")
    finally:
        for one in crowd:
            one.close()
    page.wait_for_function("() => document.getElementById('link').textContent === 'live'", timeout=30_000)


def test_without_a_series_it_tells_how_to_make_one_and_then_shows_it(open_page: Callable[..., Any]) -> None:
    server = Server("redis").start()
    daemon = DaemonProcess(server.url, checkpoint__every=0).start()
    try:
        page = open_page(daemon)
        page.wait_for_selector("text=No series yet")
        keep(page, "empty")
        assert page.evaluate(CONTRASTS) == []
        assert "redis-cli XADD ticks" in page.text_content("#nothing")
        server.client().xadd("ticks", {"series": "boiler-7", "value": 71.3})
        page.wait_for_function("() => document.querySelector('h1').textContent === 'boiler-7'")
        page.wait_for_function("() => document.getElementById('f-actual').textContent === '71.3'")
        assert page.is_hidden("#nothing")

        daemon.kill()
        page.wait_for_function(
            "() => document.getElementById('banner').textContent.includes('No connection to the daemon')"
        )
        keep(page, "lost")
        assert page.evaluate(CONTRASTS) == []
        wait_until(lambda: _is_free(daemon.http_port), what="the port")
        daemon.start()
        page.wait_for_function("() => document.getElementById('link').textContent === 'live'")
        page.wait_for_function("() => document.getElementById('banner').hidden")
    finally:
        daemon.discard()
        server.discard()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0
