"""The checks of the cluster test report, which see: pages in $PAGES, in a headless Chromium.

Prints "ok NAME" or "not ok NAME: why"; exits with 1 after the latter. Leaves pictures of the pages beside them.
"""
from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from checks import Wrong, must, must_equal
from selenium import webdriver

PAGES = Path(os.environ["PAGES"])
# Nothing else is on a page.
TAGS = set(
    "html head meta title style body header main footer section article div p span b bdi code h1 h2 ul li table thead tbody tr th td"
    " figure figcaption details summary svg circle line polyline polygon rect text path".split()
)
failed = False

# Texts with less contrast than people with weak eyes need, by the rule of WCAG: the colour of each text, on all that is
# behind it.
CONTRAST = """
const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => top[i] * a + below[i] * (1 - a)); };
const light = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
    return .2126 * r + .7152 * g + .0722 * b; };
const faint = new Set();
for (const element of document.body.querySelectorAll('*')) {
    if (element.closest('svg') || ![...element.childNodes].some(n => n.nodeType == 3 && n.data.trim())) continue;
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(parse(getComputedStyle(e).backgroundColor));
    const back = chain.reduce((below, top) => over(top, below), [255, 255, 255]);
    const text = over(parse(getComputedStyle(element).color), back);
    const [high, low] = [light(text), light(back)].sort((a, b) => b - a);
    if ((high + .05) / (low + .05) < 4.5) faint.add(element.outerHTML.slice(0, 90));
}
return [...faint].slice(0, 5);
"""
# What sticks out of the page, unless it is within what can be scrolled by itself, or is cut off there.
OVERFLOW = """
const width = document.documentElement.clientWidth;
const isCut = e => e != document.body && (getComputedStyle(e).overflowX != 'visible' || isCut(e.parentElement));
const wide = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > width + 1 && !isCut(e.parentElement));
return [document.documentElement.scrollWidth - width, wide.slice(0, 3).map(e => e.outerHTML.slice(0, 90))];
"""


@contextmanager
def check(name: str) -> Iterator[None]:
    global failed
    try:
        yield
        print(f"ok {name}")
    except (Wrong, AssertionError) as error:
        failed = True
        print(f"not ok {name}: {error}")


class Browser:
    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb"):
            options.add_argument(argument)
        options.binary_location = "/usr/bin/chromium"
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))

    def show(self, width: int, scheme: str = "light", media: str = "") -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    def open(self, name: str) -> list[str]:
        """Returns the addresses of what the page has fetched, itself among them."""
        self.driver.get_log("performance")
        self.driver.get((PAGES / f"{name}.html").as_uri())
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def ask(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def picture(self, name: str, height: int | None = None) -> None:
        size = self.ask("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": min(height or size[1], size[1]), "scale": 1}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        (PAGES / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


def texts(browser: Browser, selector: str) -> list[str]:
    return browser.ask(f"return [...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)")


def count(browser: Browser, selector: str) -> int:
    return browser.ask(f"return document.querySelectorAll({json.dumps(selector)}).length")


def sound(browser: Browser, name: str) -> None:
    """What holds for every page."""
    with check(f"{name}: it fetches nothing"):
        browser.show(1280)
        fetched = browser.open(name)
        must_equal(fetched, [(PAGES / f"{name}.html").as_uri()], "fetched")
        must_equal(browser.ask("return performance.getEntriesByType('resource').length"), 0, "resources")
        must_equal(browser.driver.get_log("browser"), [], "the console")
    with check(f"{name}: it has our tags, no script, and texts for all pictures"):
        tags = set(browser.ask("return [...new Set([...document.querySelectorAll('*')].map(e => e.localName))]"))
        must(tags <= TAGS, f"tags {sorted(tags - TAGS)}")
        must("script" not in tags, "a script")
        attributes = set(browser.ask("return [...new Set([...document.querySelectorAll('*')].flatMap(e => [...e.attributes].map(a => a.name)))]"))
        must(not any(a.startswith("on") or a in ("href", "src", "style", "srcset") for a in attributes), f"attributes {sorted(attributes)}")
        must(browser.driver.title.startswith("Segments of "), browser.driver.title)
        must_equal(count(browser, "h1"), 1, "headings")
        silent = browser.ask("return [...document.querySelectorAll('svg')].filter(s => s.getAttribute('role') != 'img' || !s.querySelector('title')?.textContent).length")
        must_equal(silent, 0, "pictures without a text")
    with check(f"{name}: it is as wide as the screen"):
        for width in (320, 375, 768, 1280):
            browser.show(width)
            for is_open in ("false", "true"):
                browser.ask(f"document.querySelectorAll('details').forEach(d => d.open = {is_open})")
                must_equal(browser.ask(OVERFLOW), [0, []], f"too wide at {width}")
        browser.ask("document.querySelectorAll('details').forEach(d => d.open = false)")
    with check(f"{name}: light and dark differ, and can be read"):
        backs = []
        for scheme in ("light", "dark"):
            browser.show(1280, scheme)
            backs.append(browser.ask("return getComputedStyle(document.body).backgroundColor"))
            must_equal(browser.ask(CONTRAST), [], f"faint texts, {scheme}")
            browser.picture(f"{name}-{scheme}")
            browser.show(375, scheme)
            browser.picture(f"{name}-phone-{scheme}", 12000)
        must(backs[0] != backs[1], f"both are {backs[0]}")
    with check(f"{name}: it can be printed"):
        browser.show(1280, "dark", "print")
        must_equal(browser.ask("return getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)", "the paper")
        must_equal(browser.ask(CONTRAST), [], "faint texts")
        pdf = base64.b64decode(browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
        (PAGES / f"{name}.pdf").write_bytes(pdf)
        must(pdf.startswith(b"%PDF") and len(pdf) > 5000, f"{len(pdf)} bytes")
        browser.show(1280)


def month(browser: Browser) -> None:
    browser.open("month")
    with check("month: the first screen says what shrank, what was late and what waits"):
        answers = dict(zip(texts(browser, ".answers h2"), texts(browser, ".answers .big")))
        must_equal(answers["Which segment shrank last week?"], "lapsed", "shrank")
        must_equal(answers["Which source was late?"], "shop.carts", "late")
        must_equal(answers["Does anything wait?"], "1 segment, 3 messages", "waits")
        must_equal(answers["Did a refresh go wrong?"], "1 segment", "wrong")
        shown = browser.ask("return document.querySelector('.answers').getBoundingClientRect().bottom <= innerHeight")
        must(shown, "the answers are below the first screen")
        whole = " ".join(texts(browser, ".answers article"))
        for text in ("cart abandoners has waited for 5 h 20 min", "For mail tool", "Stays as it was: birthdays"):
            must(text in whole, f"{text!r} is not in {whole!r}")
    with psycopg.connect(dbname="shop", autocommit=True) as connection:
        sizes = dict(connection.execute("select name, to_char(coverage, 'FM999,999') from segmenter_status group by 1, 2").fetchall())
        sizes.pop("only")
        log = connection.execute(
            "select segment_name, sum(added) filter (where status = 'ok'), sum(removed) filter (where status = 'ok'),"
            " count(*) filter (where status = 'ok'), count(*) filter (where status = 'waiting'), count(*) filter (where status = 'refused'),"
            " count(*) filter (where status = 'failed') from segmenter_log where action in ('refresh', 'exclude') and segment_name <> 'only' group by 1"
        ).fetchall()
    with check("month: a chart for each segment has its figures"):
        must_equal(dict(zip(texts(browser, "figcaption .title"), texts(browser, "figcaption .now"))), sizes, "members")
        must_equal(count(browser, "svg.sizes"), len(sizes), "charts")
        came = dict(zip(texts(browser, "figcaption .title"), texts(browser, ".sum .came")))
        must_equal(came, {name: f"+{added:,}" if added else "0" for name, added, *_ in log}, "came")
        must(all(browser.ask("return [...document.querySelectorAll('svg.sizes')].map(s => s.querySelectorAll('polyline').length > 1)")), "no line")
    with check("month: the strips and their table are the log"):
        must_equal(count(browser, "svg.strip:not(.axis)"), len(sizes), "strips")
        rows = browser.ask("return [...document.querySelectorAll('.strips ~ details tbody tr')].map(r => [...r.cells].slice(0, 5).map(c => c.textContent))")
        expected = {name: [str(n) if n else "\u2013" for n in counts] for name, _, _, *counts in log}
        must_equal({row[0]: row[1:] for row in rows}, expected, "counts")
    with check("month: all segments, the matrix, the lineage"):
        must_equal(sorted(texts(browser, "table.all tbody th")), sorted(sizes), "rows")
        size = count(browser, ".matrix tbody tr")
        must_equal(count(browser, ".matrix tbody td"), size * size, "cells")
        must(size == len([s for s in sizes.values() if s and s != "0"]), f"{size} in the matrix")
        names = {text.strip() for text in texts(browser, "svg.lineage text")}
        must({"shop.people", "lapsed", "win back", "mail tool"} <= names, f"{sorted(names)}")
    with check("month: nothing of the people is on it"):
        page = (PAGES / "month.html").read_text()
        with psycopg.connect(dbname="shop") as connection:
            hashes = [row[0] for row in connection.execute("select email from shop.people")]
        must(not any(value in page for value in hashes), "a hash")


def many(browser: Browser) -> None:
    browser.show(1280)
    browser.open("many")
    with psycopg.connect(dbname="many", autocommit=True) as connection:
        names = [row[0] for row in connection.execute("select name from segmenter_segments")]
    with check("many: a thousand segments take less than 2 MB"):
        size = (PAGES / "many.html").stat().st_size
        must(size < 2_000_000, f"{size} bytes")
        must_equal(count(browser, "table.all tbody tr"), 1000, "rows")
        must("24 of 1,000 segments" in " ".join(texts(browser, ".legend")), "what is left out")
        must_equal(count(browser, "figure"), 24, "charts")
    with check("many: hostile names are texts"):
        shown = set(texts(browser, "table.all tbody th"))
        for name in names:
            if name.isprintable():
                text = name if len(name) <= 80 else name[:80] + "\u2026"
                must(text in shown, f"{text!r} is missing")
        must_equal(count(browser, "h1"), 1, "headings")
        must_equal(browser.driver.title, "Segments of many", "title")
        must(not any("\u202e" in text or "\u0007" in text for text in shown), "a character that is not seen")


def main() -> None:
    browser = Browser()
    try:
        for name in ("month", "none", "one", "many"):
            sound(browser, name)
        browser.show(1280)
        month(browser)
        browser.open("none")
        with check("none: it says so"):
            must("no segment that role stranger may see" in texts(browser, "main")[0], texts(browser, "main")[0][:200])
            must_equal(count(browser, "svg"), 0, "pictures")
        browser.open("one")
        with check("one: a chart, a strip, a row, and nothing to compare"):
            must_equal([count(browser, s) for s in ("figure", ".strips .row", "table.all tbody tr", ".matrix")], [1, 2, 1, 0], "numbers")
        many(browser)
        browser.open("panels")
        with check("the dashboard: every panel has a heading, and its data; nothing was delivered"):
            must_equal([count(browser, s) for s in ("section", "h2", "section > p", "svg")], [16, 16, 6, 5], "panels")
        for scheme in ("light", "dark"):
            browser.show(1280, scheme)
            browser.picture(f"panels-{scheme}")
    finally:
        browser.driver.quit()
    sys.exit(1 if failed else 0)


main()
