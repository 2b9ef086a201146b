from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from http_served import ADMIN, READ, Served, eventually, served, tokens
from small_site import SmallSite

from edgepose.runtime.daemon.event import Event

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.needs("playwright")]
DESKTOP: Any = {"width": 1280, "height": 900}
PHONE: Any = {"width": 360, "height": 740}
_CHECKSUM = """(canvas) => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0;
  for (let at = 0; at < data.length; at += 4) sum = (sum * 31 + data[at] + 3 * data[at + 1] + 7 * data[at + 2]) % 1000000007;
  return sum;
}"""
_BRIGHT = """(canvas) => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    const [most, least] = [Math.max(data[at], data[at + 1], data[at + 2]), Math.min(data[at], data[at + 1], data[at + 2])];
    count += most - least > 90;
  }
  return count;
}"""
"""Pixels of a strong colour: the ground without pictures is dark and grey."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    import shutil

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def here(site: SmallSite) -> Iterator[Served]:
    with served(site) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Fails at the end where the page complained of anything."""
    context = browser.new_context(viewport=DESKTOP)
    opened, complaints = context.new_page(), list[str]()
    opened.set_default_timeout(15_000)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    yield opened
    told = [complaint for complaint in complaints if "willReadFrequently" not in complaint]  # that is said of the tests' own reading
    context.close()  # in the middle of a connection, now and then, of which the browser complains
    assert told == []


def opened(page: Page, here: Served) -> Page:
    page.goto(here.server.url)
    page.wait_for_selector('.card[data-condition="live"] [data-number="people"]')
    return page


def test_the_page_shows_every_camera_with_its_numbers(page: Page, here: Served) -> None:
    opened(page, here)
    assert page.locator(".card h2").all_inner_texts() == ["camera-0", "camera-1"]
    eventually(lambda: page.locator('[data-number="people"]').first.inner_text() in ("1", "2"), "people")
    assert page.locator('[data-number="fps"]').first.inner_text() == "20.0"
    assert page.locator('[data-number="age"]').first.inner_text().endswith("ms")
    assert "inference" in str(page.locator(".stages").first.get_attribute("aria-label"))
    assert page.locator("#verdict").get_attribute("data-state") == "ready"
    assert "2 of 2 live" in page.locator("#health").inner_text()
    assert "camera-1: live" in page.locator("#log").inner_text()


def test_pictures_move_and_skeletons_are_drawn_over_them(page: Page, here: Served) -> None:
    opened(page, here)
    canvas = page.locator("canvas").first
    eventually(lambda: canvas.evaluate("canvas => canvas.width") > 300, "a canvas as large as its card")
    seen = set[int]()
    eventually(lambda: seen.add(canvas.evaluate(_CHECKSUM)) or len(seen) >= 4, "pictures that move")
    page.locator("#pictures").click()
    assert page.locator("#pictures").get_attribute("aria-pressed") == "false"
    eventually(lambda: canvas.evaluate(_BRIGHT) > 500, "skeletons")
    seen.clear()
    eventually(lambda: seen.add(canvas.evaluate(_CHECKSUM)) or len(seen) >= 4, "skeletons that move")


def test_skeletons_lie_on_the_people_in_the_picture(site: SmallSite, page: Page, here: Served) -> None:
    """The page draws a picture of one frame with the people of that frame: a neck is where the truth about it is."""
    opened(page, here)
    page.evaluate("""async () => {
      const { draw } = await import("/page/drawing.js");
      const skeleton = await (await fetch("/api/skeleton")).json();
      const canvas = document.createElement("canvas");
      canvas.id = "probe";
      canvas.style.cssText = "position: fixed; left: 0; top: 0; width: 640px; height: 360px; z-index: 9";
      document.body.append(canvas);
      const person = { id: null, score: 1, keypoints: skeleton.keypoints.map(() => null) };
      person.keypoints[1] = [320.5, 100.5, 1];
      draw(canvas, null, [person], [640, 360], skeleton);
    }""")
    colour = page.evaluate("""[...document.getElementById("probe").getContext("2d").getImageData(320, 100, 1, 1).data]""")
    wanted = here.client.get("/api/skeleton").json()["colours"][1]
    assert "#" + "".join(f"{value:02x}" for value in colour[:3]) == wanted
    assert site.names


def test_events_appear_as_they_happen(site: SmallSite, page: Page, here: Served) -> None:
    opened(page, here)
    page.wait_for_selector('#verdict[data-state="ready"]')
    site.events.publish(Event("camera-1", "fall", "started", time.time(), zone="stairs", person=4))
    entry = page.locator('#events li[data-kind="fall"]').first
    entry.wait_for()
    assert "Fall" in entry.inner_text() and "stairs" in entry.inner_text() and "person 4" in entry.inner_text()
    assert "Fall" in page.locator("#announcer").inner_text(), "screen readers are told"


def test_markup_in_a_name_stays_text(site: SmallSite, page: Page, here: Served) -> None:
    opened(page, here)
    page.wait_for_selector('#verdict[data-state="ready"]')
    site.events.publish(Event("camera-1", "<img src=x onerror=alert(1)>", "happened", time.time()))
    page.locator("#events li", has_text="<img").first.wait_for()
    assert page.locator("#events img").count() == 0


def test_everything_is_reached_by_keyboard_and_is_seen_to_be(page: Page, here: Served) -> None:
    opened(page, here)
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()"))
        outline = page.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth"
        )
        assert outline == "solid3px", reached[-1]
    assert reached[:5] == ["Skip to the cameras", "Pictures", "Enlarge camera-0", "Enlarge camera-1", "Http"]
    page.get_by_role("button", name="Enlarge camera-1").focus()
    page.keyboard.press("Enter")
    assert page.locator(".card.large h2").inner_text() == "camera-1"


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_no_width_of_a_screen_needs_scrolling_to_the_side(page: Page, here: Served, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    opened(page, here)
    page.wait_for_selector("#health dd")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    widths = page.locator(".card, .panel").evaluate_all("parts => parts.map(part => [part.scrollWidth, part.clientWidth])")
    assert all(scroll <= client for scroll, client in widths)


def test_dark_and_light_follow_the_system_and_can_be_read(page: Page, here: Served) -> None:
    for scheme, dark in (("light", False), ("dark", True)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        opened(page, here)
        ground = page.evaluate(_CONTRAST_OF, "body")
        assert (ground["ground"] < 0.2) is dark
        for selector in ("h1", ".card h2", ".numbers dt", ".condition", ".legend", "#health dd", "#log", "#verdict-text", "#pictures"):
            assert page.evaluate(_CONTRAST_OF, selector)["ratio"] >= 4.5, f"{scheme}: {selector}"


_CONTRAST_OF = """(selector) => {
  const luminance = (colour) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const element = document.querySelector(selector);
  let behind = element;
  while (["rgba(0, 0, 0, 0)", "transparent"].includes(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
  const [ink, ground] = [luminance(getComputedStyle(element).color), luminance(getComputedStyle(behind).backgroundColor)];
  return { ground, ratio: (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05) };
}"""


def test_a_lost_camera_says_so_over_its_picture(site: SmallSite, page: Page, here: Served) -> None:
    opened(page, here)
    site.lost = "no picture for 5 s: connecting again"
    try:
        page.wait_for_selector('.card[data-condition="lost"]')
        assert "no picture for 5 s" in page.locator(".veil").first.inner_text()
        assert "camera-0: lost" in page.locator("#announcer").inner_text()
    finally:
        site.lost = ""
    page.wait_for_selector('.card[data-condition="live"] h2:text("camera-0")')


def test_the_page_comes_back_when_the_server_does(site: SmallSite, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(15_000)
        with served(site) as first:
            opened(page, first)
        page.wait_for_selector('#verdict[data-state="offline"]')
        with served(site, port=first.server.port):
            page.wait_for_selector('#verdict[data-state="ready"]')


def test_events_of_while_nobody_looked_are_listed_once(site: SmallSite, page: Page, here: Served) -> None:
    page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => window.away ?? false })")
    turn = "away => { window.away = away; document.dispatchEvent(new Event('visibilitychange')); }"
    opened(page, here)
    page.wait_for_selector('#verdict[data-state="ready"]')
    site.events.publish(Event("camera-0", "seen", "happened", time.time()))
    page.locator('#events li[data-kind="seen"]').wait_for()
    page.evaluate(turn, True)
    site.events.publish(Event("camera-0", "missed", "happened", time.time()))
    eventually(lambda: here.client.get("/api/events").json()[0]["kind"] == "missed", "the event")
    page.evaluate(turn, False)
    page.locator('#events li[data-kind="missed"]').wait_for()
    site.events.publish(Event("camera-0", "later", "happened", time.time()))
    page.locator('#events li[data-kind="later"]').wait_for()
    kinds = page.locator("#events li").evaluate_all("items => items.map(item => item.dataset.kind)")
    assert kinds[:3] == ["later", "missed", "seen"] and kinds.count("seen") == kinds.count("missed") == 1


def test_a_page_that_could_not_begin_tries_again_though_its_tab_was_left(browser: Browser, here: Served) -> None:
    asked = list[str]()

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        route.abort() if len(asked) == 1 else route.continue_()

    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.route("**/api/session", answer)
        page.goto(here.server.url)
        page.wait_for_selector('#verdict[data-state="offline"]')
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_selector('#verdict[data-state="ready"]')


def test_a_skeleton_that_does_not_fit_is_asked_for_until_one_comes(browser: Browser, here: Served) -> None:
    def answer(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            told = here.client.get("/api/skeleton").json()
            route.fulfill(json={**told, "keypoints": told["keypoints"][:-1], "colours": [], "limbs": []})
        elif len(asked) < 4:
            route.abort()
        else:
            route.continue_()

    asked = list[str]()
    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.route("**/api/skeleton", answer)
        opened(page, here)
        page.locator("#pictures").click()
        eventually(lambda: page.locator("canvas").first.evaluate(_BRIGHT) > 500, "skeletons")
        page.wait_for_selector('#verdict[data-state="ready"]')
    assert len(asked) >= 4


_TWO_CARDS = """async () => {
  const { Cameras } = await import("/page/cameras.js");
  const room = Object.assign(document.createElement("section"), { id: "probe" });
  document.body.append(room);
  const cameras = new Cameras(room, document.getElementById("camera-card"), () => {}, () => {});
  const state = { condition: "live", reason: "", captured: 9, dropped: 0, size_wh: [640, 360] };
  cameras.update([{ ...state, name: "slow", fps: 0.2 }, { ...state, name: "quick", fps: 20 }]);
  for (const camera of ["slow", "quick"]) cameras.poses({ camera, index: 1, size: [640, 360], people: [], age_ms: 40, stages_ms: {} });
  const now = performance.now.bind(performance);
  performance.now = () => now() + 8000;
}"""


def test_a_camera_of_few_frames_a_second_is_not_taken_for_silent_between_them(page: Page, here: Served) -> None:
    page.goto(here.server.url)
    page.evaluate(_TWO_CARDS)
    slow, quick = (page.locator(f"#probe .card >> nth={index} >> [data-number='people']") for index in (0, 1))
    eventually(lambda: quick.get_attribute("data-said") == "\N{EN DASH}", "nothing new of the quick one")
    assert slow.inner_text() == "0"


def test_a_token_is_asked_for_and_a_wrong_one_refused(site: SmallSite, browser: Browser) -> None:
    with served(site, tokens()) as here, browser.new_context(viewport=PHONE) as context:
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.goto(here.server.url)
        page.wait_for_selector("#login:not([hidden])")
        assert page.evaluate("document.activeElement.id") == "token"
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("This token is nobody's.").wait_for()
        page.fill("#token", READ)
        page.keyboard.press("Enter")
        page.wait_for_selector(".card")
        assert not page.locator("#log-panel").is_visible(), "the log is for admins"
        assert READ not in page.evaluate("JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}, location.href])")
        page.get_by_role("button", name="Log out").click()
        page.wait_for_selector("#login:not([hidden])")
        page.fill("#token", ADMIN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#log-panel:not([hidden])")


def test_the_page_asks_nobody_else(page: Page, here: Served) -> None:
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    opened(page, here)
    assert len(asked) > 8
    assert all(url.startswith((here.server.url, here.server.url.replace("http", "ws", 1), "blob:", "data:")) for url in asked)
