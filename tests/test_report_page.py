"""The page of tsn-train report in a real browser: it works, it is quiet, and names do nothing."""

import base64
import json
import re
import shutil
from collections import Counter

import numpy as np
import pytest
from report_helpers import HOSTILE, write_runs
from train_helpers import run_program

from train.fuse import fuse
from train.metrics import confusion_matrix, predictions
from train.scores import read_scores
from tsn_core.errors import visible

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
)
MANY_CLASSES = tuple(f"class {number:03d}" for number in range(101))
# Contrast of every text with what lies behind it, after WCAG 2.1: [ratio, text] of the worst.
CONTRAST = """
const linear = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = numbers(getComputedStyle(e).backgroundColor);
    if (color.length === 3 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
let worst = [99, ""], number = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
  if (element.closest("script, style, option, :disabled")) continue;
  const style = getComputedStyle(element);
  const own = numbers(element instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [light(own), light(behind(element))].sort((x, y) => y - x);
  number += 1;
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < worst[0]) worst = [ratio, walker.currentNode.data.trim()];
}
return [...worst, number];
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of few videos with hostile names, and of many with many classes."""
    root = tmp_path_factory.mktemp("pages")
    found = {}
    for name, classes, number in (("hostile", HOSTILE, 120), ("many", MANY_CLASSES, 2000)):
        runs = write_runs(root / name, classes, number, with_shards=name == "hostile")
        page = root / f"{name}.html"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("train.bootstrap.NUM_RESAMPLES", 500)  # many classes take seconds
            result = run_program("report", *runs, "--out", page)
        assert result.exit_code == 0, result.output
        parts = [read_scores(run) for run in runs]
        found[name] = page, [*parts, fuse(parts, None)]
    return found


def opened(browser, page, *, width=1200, dark=False, media=""):
    wishes = {"color-scheme": "dark" if dark else "light", "reduced-motion": "reduce"}
    features = [{"name": f"prefers-{name}", "value": value} for name, value in wishes.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready") == "yes"
    return browser


@pytest.fixture
def hostile(browser, pages):
    """A freshly opened page of few videos; afterwards the console must be empty."""
    yield opened(browser, pages["hostile"][0])
    assert browser.get_log("browser") == []


@pytest.fixture
def fusion(pages):
    """The scores that the page of few videos shows first."""
    return pages["hostile"][1][-1]


def element(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def column(browser, table, number):
    """Return the texts of a table's column, from the first on."""
    script = "return [...document.querySelectorAll(arguments[0])].map((cell) => cell.textContent)"
    return browser.execute_script(script, f"{table} tbody tr > :nth-child({number + 1})")


def readout(browser):
    return element(browser, "figure.chart .readout").get_attribute("textContent")


def caption(browser, table):
    return element(browser, f"{table} caption").text


def type_into(browser, selector, text, table):
    before = caption(browser, table)
    element(browser, selector).send_keys(text)
    WebDriverWait(browser, 10).until(lambda b: caption(b, table) != before)


def cell_center(browser, row, column):
    """Return where a cell of the matrix lies, from the middle of the canvas."""
    script = """const {left, top, cell} = matrix.place, box = matrix.canvas.getBoundingClientRect();
    return [left + (arguments[1] + 0.5) * cell - box.width / 2,
            top + (arguments[0] + 0.5) * cell - box.height / 2];"""
    return browser.execute_script(script, row, column)


# --- safe and quiet ---


@pytest.mark.parametrize("name", ["hostile", "many"])
def test_it_loads_without_a_word_and_asks_for_nothing(browser, pages, name):
    page = pages[name][0]
    opened(browser, page)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    urls = {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in urls if not url.startswith("data:")} == {page.as_uri()}


def test_nothing_moves_while_it_loads(browser, pages):
    opened(browser, pages["many"][0])
    script = """const done = arguments[0];
    let sum = 0;
    const add = (list) => list.getEntries().forEach((entry) => { sum += entry.value; });
    new PerformanceObserver(add).observe({type: 'layout-shift', buffered: true});
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(sum), 0)));"""
    assert browser.execute_async_script(script) < 0.02


def test_hostile_names_are_only_text(hostile):
    assert hostile.execute_script("return window.pwned") is None
    script = "return document.querySelectorAll('[onerror], iframe, object, embed, base').length"
    assert hostile.execute_script(script) == 0
    assert hostile.execute_script("return document.scripts.length") == 2
    shown = set(column(hostile, "#classes-table", 0))
    assert shown == {visible(name) for name in HOSTILE}
    assert visible(HOSTILE[3]).startswith("\\u202e")
    assert HOSTILE[1] in hostile.title
    assert HOSTILE[5] in shown  # nobody's template
    failures = column(hostile, "#failures-table", 2)
    assert failures == ["no such file", HOSTILE[0], HOSTILE[1]]
    Select(element(hostile, "#videos-true")).select_by_visible_text(HOSTILE[0])
    assert set(column(hostile, "#videos-table", 1)) == {HOSTILE[0]}


def test_the_policy_stops_what_might_slip_through(browser, pages):
    opened(browser, pages["hostile"][0])
    script = """const done = arguments[0], blocked = [];
    addEventListener('securitypolicyviolation', (e) => {
      blocked.push(e.effectiveDirective);
      if (blocked.length === 4) done([window.pwned ?? null, blocked.sort()]);
    });
    const script = document.createElement('script');
    script.textContent = 'window.pwned = 3';
    document.body.append(script);
    document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.pwned=4">');
    fetch('http://127.0.0.1:9/').catch(() => {});"""
    directives = ["connect-src", "img-src", "script-src-attr", "script-src-elem"]
    assert browser.execute_async_script(script) == [None, directives]
    browser.get_log("browser")


# --- tables ---


def test_classes_sort_and_filter(hostile, fusion):
    confusion = confusion_matrix(fusion.video_scores, fusion.labels)
    accuracies = np.diag(confusion) / confusion.sum(axis=1)
    names = [visible(name) for name in HOSTILE]
    worst_first = [names[label] for label in np.argsort(accuracies, kind="stable")]
    assert column(hostile, "#classes-table", 0) == worst_first
    heads = hostile.find_elements(By.CSS_SELECTOR, "#classes-table th[scope=col]")
    assert [head.get_attribute("aria-sort") for head in heads].count("ascending") == 1
    heads[4].find_element(By.TAG_NAME, "button").click()  # the fusion, which was sorted by before
    order = np.lexsort((np.arange(6), -accuracies))
    assert column(hostile, "#classes-table", 0) == [names[label] for label in order]
    assert [
        head.get_attribute("aria-sort") for head in heads if head.get_attribute("aria-sort")
    ] == ["descending"]
    heads[1].find_element(By.TAG_NAME, "button").click()
    counts = [int(text) for text in column(hostile, "#classes-table", 1)]
    assert counts == sorted(confusion.sum(axis=1).tolist(), reverse=True)
    shown = dict(zip(column(hostile, "#classes-table", 0), column(hostile, "#classes-table", 4)))
    assert shown == {name: f"{100 * value:.1f}%" for name, value in zip(names, accuracies.round(4))}
    type_into(hostile, "#classes-filter", "SCRIPT", "#classes-table")
    assert column(hostile, "#classes-table", 0) == [HOSTILE[1]]


def test_videos_filter_sort_and_turn_pages(hostile, fusion):
    predicted = predictions(fusion.video_scores, fusion.labels)
    wrong = predicted != fusion.labels
    names = np.array([visible(name) for name in fusion.names])
    table = "#videos-table"
    assert column(hostile, table, 0) == names[:50].tolist()
    assert caption(hostile, table) == "1 to 50 of 120 videos as fusion sees them"
    back, forward = hostile.find_elements(By.CSS_SELECTOR, "#videos-pager button")
    assert not back.is_enabled()
    forward.click()
    forward.click()
    assert column(hostile, table, 0) == names[100:].tolist()
    assert not forward.is_enabled()
    Select(element(hostile, "#videos-outcome")).select_by_value("wrong")
    assert column(hostile, table, 0) == names[wrong].tolist()
    assert caption(hostile, table) == f"{wrong.sum()} videos as fusion sees them; wrong only"
    ranks = [
        int((row >= row[label]).sum()) for row, label in zip(fusion.video_scores, fusion.labels)
    ]
    assert column(hostile, table, 5) == [str(rank) for rank in np.array(ranks)[wrong]]
    element(hostile, f"{table} thead th:nth-child(4) button").click()
    confidences = [float(text.rstrip("%")) for text in column(hostile, table, 3)]
    assert confidences == sorted(confidences, reverse=True)
    type_into(hostile, "#videos-filter", "v_0000", table)
    few = [name for name, bad in zip(names, wrong) if bad and "v_0000" in name]
    assert sorted(column(hostile, table, 0)) == sorted(few)
    element(hostile, "#videos-reset").click()
    Select(element(hostile, "#videos .test-choice")).select_by_visible_text("rgb")
    assert caption(hostile, table) == "1 to 50 of 120 videos as rgb sees them"
    type_into(hostile, "#videos-filter", "no such video", table)
    assert column(hostile, table, 0) == ["Nothing fits."]


def test_many_videos_stay_few_elements(browser, pages):
    opened(browser, pages["many"][0])
    assert len(column(browser, "#videos-table", 0)) == 50
    assert len(column(browser, "#classes-table", 0)) == 100
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert len(column(browser, "#classes-table", 0)) == 101
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    element(browser, "#classes-pager button:last-of-type").click()
    assert len(column(browser, "#classes-table", 0)) == 1
    assert browser.execute_script("return document.querySelectorAll('*').length") < 6000
    assert browser.get_log("browser") == []


def test_failures_and_settings(hostile):
    assert caption(hostile, "#failures-table") == "3 failures of the extraction"
    type_into(hostile, "#failures-filter", "decode", "#failures-table")
    assert column(hostile, "#failures-table", 1) == ["decode"]
    stages = Counter(("open", "decode", "open")).most_common()
    text = element(hostile, "#extraction").text
    assert ", ".join(f"{number} at {stage}" for stage, number in stages) in text
    rows = hostile.find_elements(By.CSS_SELECTOR, "#settings-table tbody tr")
    element(hostile, "#settings-differing").click()
    left = [row.find_element(By.TAG_NAME, "th").text for row in rows if row.is_displayed()]
    assert left == ["modality folder", "model: modality", "model: snippet length", "seed"]


# --- the matrix ---


def test_the_matrix_tells_and_lists_what_is_under_the_pointer(hostile, fusion):
    confusion = confusion_matrix(fusion.video_scores, fusion.labels)
    off = confusion - np.diag(np.diag(confusion))
    label, taken = np.unravel_index(off.argmax(), off.shape)
    Select(element(hostile, "#matrix-order")).select_by_value("id")
    canvas = element(hostile, "#matrix")
    hostile.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    across = ActionChains(hostile)
    x, y = cell_center(hostile, int(label), int(taken))
    across.move_to_element_with_offset(canvas, round(x), round(y)).perform()
    number, total = confusion[label, taken], confusion[label].sum()
    names = [visible(name) for name in HOSTILE]
    assert element(hostile, "#matrix-cell").text == (
        f"{names[label]} taken for {names[taken]}: "
        f"{number} of {total} videos ({100 * number / total:.1f}%)"
    )
    assert element(hostile, "#matrix-cursor").is_displayed()
    ActionChains(hostile).click().perform()
    predicted = predictions(fusion.video_scores, fusion.labels)
    there = (fusion.labels == label) & (predicted == taken)
    expected = [visible(name) for name in fusion.names[there]]
    items = hostile.find_elements(By.CSS_SELECTOR, "#matrix-videos li")
    assert [item.get_attribute("textContent") for item in items] == expected
    element(hostile, "#matrix-videos button").click()
    assert column(hostile, "#videos-table", 0) == expected
    assert caption(hostile, "#videos-table") == (
        f"{number} videos as fusion sees them; true class {names[label]}, predicted {names[taken]}"
    )
    assert hostile.switch_to.active_element.get_attribute("id") == "videos-title"


def test_the_matrix_orders_and_filters(hostile, fusion):
    def shown():
        return hostile.execute_script("return matrix.shown")

    accuracies = np.diag(confusion_matrix(fusion.video_scores, fusion.labels)) / np.bincount(
        fusion.labels
    )
    assert sorted(shown()) == list(range(6))
    order = Select(element(hostile, "#matrix-order"))
    order.select_by_value("accuracy")
    assert [accuracies[label] for label in shown()] == sorted(accuracies)
    order.select_by_value("name")
    script = "return matrix.shown.map((label) => data.classes[label])"
    names = hostile.execute_script(script)
    assert names == hostile.execute_script(
        "return [...data.classes].sort(new Intl.Collator('en', {numeric: true}).compare)"
    )
    element(hostile, "#matrix-filter").send_keys("onerror")
    confusion = confusion_matrix(fusion.video_scores, fusion.labels)
    related = np.flatnonzero(confusion[0] + confusion[:, 0])
    WebDriverWait(hostile, 10).until(lambda _: sorted(shown()) == related.tolist())
    element(hostile, "#matrix-filter").send_keys("xyz")
    WebDriverWait(hostile, 10).until(lambda _: shown() == [])
    assert element(hostile, "#matrix-cell").text == "No class has such a name."


def test_many_classes_fill_the_matrix_with_the_counts(browser, pages):
    """The canvas shows as many painted rows as there are classes with videos."""
    page, tests = pages["many"]
    opened(browser, page)
    counts = browser.execute_script("return [...matrix.counts]")
    expected = confusion_matrix(tests[-1].video_scores, tests[-1].labels)
    assert counts == expected.ravel().tolist()
    script = """const {left, top, cell} = matrix.place;
    const context = matrix.canvas.getContext('2d'), n = matrix.shown.length;
    const middle = (edge, k) => edge + (k + 0.5) * cell;
    const at = (k) => [...context.getImageData(middle(left, k), middle(top, k), 1, 1).data];
    return matrix.shown.map((label, k) => at(k));"""
    pixels = browser.execute_script(script)
    diagonal = np.diag(expected)[browser.execute_script("return matrix.shown")]
    for (red, _, blue, _), count in zip(pixels, diagonal):
        assert (blue > red) == (count > 0)


# --- keys ---


def test_the_keyboard_alone_is_enough(hostile, fusion):
    body = element(hostile, "body")
    body.send_keys(Keys.TAB)
    first = hostile.switch_to.active_element
    assert first.text == "Skip to the results"
    assert first.rect["x"] >= 0
    first.send_keys(Keys.ENTER)
    assert hostile.execute_script("return document.activeElement.id") == "main"
    canvas = element(hostile, "#matrix")
    Select(element(hostile, "#matrix-order")).select_by_value("id")
    canvas.send_keys(Keys.HOME)
    canvas.send_keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert hostile.execute_script("return matrix.cell") == [1, 2]
    canvas.send_keys(Keys.ARROW_LEFT)
    right = int(np.diag(confusion_matrix(fusion.video_scores, fusion.labels))[1])
    assert element(hostile, "#matrix-cell").text.startswith(f"{HOSTILE[1]} right: {right} of ")
    canvas.send_keys(Keys.ENTER)
    assert len(hostile.find_elements(By.CSS_SELECTOR, "#matrix-videos li")) == min(right, 20)
    canvas.send_keys(Keys.END, Keys.ARROW_RIGHT)
    assert hostile.execute_script("return matrix.cell") == [1, 5]
    head = element(hostile, "#videos-table thead button")
    head.send_keys(Keys.SPACE)
    assert element(hostile, "#videos-table thead th").get_attribute("aria-sort") == "ascending"
    assert hostile.execute_script("return document.activeElement === arguments[0]", head)
    style = "return getComputedStyle(document.activeElement).outlineStyle"
    assert hostile.execute_script(style) == "solid"
    chart = element(hostile, "figure.chart")
    chart.send_keys(Keys.HOME)
    assert readout(hostile) == "epoch 1 train 2 test 2.2"
    chart.send_keys(Keys.ARROW_RIGHT)
    assert readout(hostile) == "epoch 2 train 1 test 1.1"


def test_everything_that_can_be_used_is_a_control_with_a_name(hostile):
    script = """return [...document.querySelectorAll('button, select, input, a, [tabindex="0"]')]
    .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))
    .map((e) => e.outerHTML)"""
    assert hostile.execute_script(script) == []
    script = """return [...document.querySelectorAll('table')].filter((table) =>
    !table.caption?.textContent.trim() || !table.querySelector('th[scope]')).length"""
    assert hostile.execute_script(script) == 0
    ids = hostile.execute_script("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert max(Counter(ids).values()) == 1
    targets = hostile.execute_script(
        "return [...document.querySelectorAll('a[href^=\"#\"]')].map((a) => a.hash.slice(1))"
    )
    assert set(targets) <= set(ids)


def test_curves_are_read_out_under_the_pointer(hostile):
    svg = element(hostile, "figure.chart svg")
    hostile.execute_script("arguments[0].scrollIntoView({block: 'center'})", svg)
    left = -svg.rect["width"] // 2 + 2
    ActionChains(hostile).move_to_element_with_offset(svg, int(left), 0).perform()
    assert readout(hostile) == "epoch 1 train 2 test 2.2"
    assert element(hostile, "figure.chart .marker").get_attribute("visibility") == "visible"
    ActionChains(hostile).move_to_element(element(hostile, "h1")).perform()
    assert readout(hostile).startswith("epoch 12")


# --- looks ---


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_is_enough_in_light_and_dark(browser, pages, dark):
    opened(browser, pages["hostile"][0], dark=dark)
    element(browser, "#settings-differing").click()
    ratio, text, number = browser.execute_script(CONTRAST)
    assert number > 300
    assert ratio >= 4.5, text
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 128) == dark


@pytest.mark.parametrize("name", ["hostile", "many"])
def test_a_phone_scrolls_only_up_and_down(browser, pages, name):
    opened(browser, pages[name][0], width=360)
    script = "return [document.documentElement.scrollWidth, innerWidth]"
    assert browser.execute_script(script) == [360, 360]
    assert element(browser, "#matrix").is_displayed()


def test_it_prints(browser, pages):
    opened(browser, pages["hostile"][0], dark=True)
    script = """window.scenes = [];
    for (const name of ['beforeprint', 'afterprint']) addEventListener(name, () =>
      scenes.push([...matrix.canvas.getContext('2d').getImageData(0, 0, 1, 1).data]));"""
    browser.execute_script(script)
    Select(element(browser, "#videos-outcome")).select_by_value("wrong")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 5
    assert len(column(browser, "#classes-table", 0)) == 6
    light, dark = browser.execute_script("return scenes")
    assert light[:3] == [255, 255, 255]
    assert dark[:3] == [21, 24, 28]
    opened(browser, pages["hostile"][0], width=718, dark=True, media="print")  # A4
    assert browser.execute_script("return document.documentElement.scrollWidth") == 718
    assert not element(browser, "#videos-filter").is_displayed()
    assert not element(browser, "nav").is_displayed()
    assert element(browser, "#videos-table").is_displayed()
    color = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert color == "rgb(255, 255, 255)"
    assert browser.get_log("browser") == []
