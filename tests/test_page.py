"""The page, in a real browser: Debian's Chromium, without a screen and without a network."""

import base64
import html
import io
import json
import re
import shlex
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from framework_parity.common.commands.main import read
from framework_parity.common.core.errors import ParityError
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.data.datasets import Digits, Synthetic
from framework_parity.common.report import page
from framework_parity.common.report.details import CURVE_POINTS, thinned
from framework_parity.common.report.page import PAGE, write_page
from framework_parity.common.report.report import Report
from framework_parity.common.report.wording import run_name
from framework_parity.common.training.recipe import Recipe
from tests.comparisons import finished
from tests.helpers import COMPARE, PLAIN, SMALL, run
from tests.test_own_model import PLAIN_MODEL

NAMES = ("chromium", "chromium-browser", "google-chrome")  # Debian's, and where there is another
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 380, "height": 800}

MARKUP = "<b><img src=x onerror=alert(1)>"
REASON = "no <script>alert(2)</script> & <b>nothing</b>"
RUNS = {
    ("alpha", "scratch"): 1.0,
    ("alpha", "concise"): 1.0,
    (MARKUP, "scratch"): 3.0,
    ("<b>gone<br>%{y}", "scratch"): REASON,
}
TOO_FAST = f"{MARKUP} scratch"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two sound runs, one that trains three times too fast, one that could not be had."""
    data = Digits()
    return finished(tmp_path_factory.mktemp("page"), RUNS, data, max_epochs=2, lr=0.1)


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "expected Chromium; received none; install it: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def look(browser):
    """A function that opens a report's page; whatever went wrong there fails the test."""
    wrong, asked, contexts = [], [], []

    def look(report, viewport=WIDE, **options):
        context = browser.new_context(viewport=viewport, offline=True, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("dialog", lambda dialog: wrong.append(dialog.message))
        tab.on("request", lambda request: asked.append(request.url))
        address = (report.folder / PAGE).as_uri()
        tab.goto(address)
        assert asked.pop(0) == address
        return tab

    yield look
    for context in contexts:
        context.close()
    assert not wrong
    assert not asked


def picture(tab, **options):
    return np.asarray(Image.open(io.BytesIO(tab.screenshot(**options))).convert("RGB"))


def texts(tab, selector):
    return [text.strip() for text in tab.locator(selector).all_inner_texts()]


def svg_texts(tab, selector):
    return tab.locator(selector).all_text_contents()


# What a reader sees


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_page_is_readable(report, look, viewport):
    tab = look(report, viewport)
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        assert report.sentence in tab.locator("#verdict").inner_text()
        box = tab.locator("#verdict").bounding_box()
        assert box["y"] + box["height"] < viewport["height"]
        assert tab.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        pixels = picture(tab)
        background = pixels[2, 2].mean()
        assert background < 60 if scheme == "dark" else background > 230
        different = np.abs(pixels.astype(int) - pixels[2, 2]).max(axis=2) > 60
        assert 0.01 < different.mean() < 0.5
    for figure in tab.locator(".plot").all():
        inside = figure.bounding_box()
        assert inside["x"] >= 0
        assert inside["x"] + inside["width"] <= viewport["width"]
        assert figure.locator(".trace").count()


def test_text_can_be_told_from_its_background(report, look):
    """Contrast of 4.5 to 1, as WCAG 2.1 asks for text."""
    contrast = """selector => {
        const light = (colour) => {
            const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => v / 255)
                .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const style = (element) => getComputedStyle(element);
        const element = document.querySelector(selector);
        const text = style(element).fill && element.tagName === "text" ? "fill" : "color";
        const [a, b] = [style(element)[text], style(document.body).backgroundColor].map(light);
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }"""
    tab = look(report)
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        words = ("#verdict", ".muted", ".grade.rounding", ".grade.disagree", ".grade.unavailable")
        for selector in (*words, ".js-plotly-plot .xtick text", ".js-plotly-plot .xtitle"):
            assert tab.evaluate(contrast, selector) >= 4.5, (scheme, selector)


def test_the_first_screen_says_what_is_and_what_to_do(report, look):
    tab = look(report)
    cells = texts(tab, ".grades tbody td")
    for cell in cells[:2]:
        assert re.match(r"✓\s*rounding\s", cell)
    assert re.match(r"✕\s*disagree", cells[2])
    assert cells[3] == ""
    assert re.match(r"–\s*unavailable", cells[4])
    steps = texts(tab, ".next li")
    assert any(REASON in step and "Mend" in step for step in steps)
    assert any(TOO_FAST in step and "learning rate × 3" in step for step in steps)
    assert tab.locator(".next").bounding_box()["y"] < WIDE["height"]


def test_the_table_is_sorted_and_filtered(report, look):
    tab = look(report)
    first = tab.locator("#run-table tbody tr td:first-child")
    field = tab.get_by_placeholder("a backend, a grade")
    names = [run_name(run) for run in report.runs]
    expect(first).to_have_text(names)
    field.fill("disagree")
    expect(first).to_have_text([TOO_FAST])
    field.fill("alpha")
    expect(first).to_have_text(names[:2])
    field.fill("")
    expect(first).to_have_text(names)
    header = tab.locator("#run-table th", has_text="loss error")
    header.click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    expect(first.last).to_have_text(TOO_FAST)
    errors = {run_name(run): run["loss_envelopes"] or -1 for run in report.runs}
    assert [errors[name] for name in texts(tab, "#run-table td:first-child")] == sorted(
        errors.values()
    )
    header.click()
    expect(header).to_have_attribute("aria-sort", "descending")
    expect(first.first).to_have_text(TOO_FAST)


def test_runs_are_switched_off_and_on(report, look):
    tab = look(report)
    shown = """() => Object.fromEntries([...document.querySelectorAll(".plot")].map((figure) => [
        figure.id,
        figure.data.filter((t) => t.meta === "alpha concise" && t.visible !== false).length,
    ]))"""
    before = tab.evaluate(shown)
    curves = {name for name, count in before.items() if count}
    assert len(curves) == 7
    tab.get_by_label("alpha concise", exact=True).uncheck()
    assert not any(tab.evaluate(shown).values())
    tab.get_by_label("alpha concise", exact=True).check()
    assert tab.evaluate(shown) == before


def test_values_are_shown_under_the_pointer(report, look):
    tab = look(report)
    figure = tab.locator("#plot-val-loss")
    figure.scroll_into_view_if_needed()
    figure.hover(position={"x": 200, "y": 120})
    tab.locator(".hoverlayer .legend").wait_for()
    said = " ".join(svg_texts(tab, ".hoverlayer text"))
    values = {f"{run['val_loss'][epoch]:.6f}" for run in report.runs[:3] for epoch in (0, 1)}
    assert TOO_FAST in said
    assert len([value for value in values if value in said]) >= 2


def test_markup_stays_text(report, look):
    """The fixture fails if a dialog opens, a request is made or a script stumbles."""
    tab = look(report)
    assert not tab.locator("img[src=x]").count()
    assert not tab.locator("#runs b, .next b, .next script, .js-plotly-plot b").count()
    assert TOO_FAST in texts(tab, "#run-table td:first-child")
    assert REASON in " ".join(texts(tab, "#divergence p"))
    assert TOO_FAST in [text.strip() for text in svg_texts(tab, "#plot-memory .ytick text")]
    assert "<b>gone<br>%{y}" in texts(tab, ".grades tbody th")
    source = (report.folder / PAGE).read_text()
    assert MARKUP not in source
    assert source.count("</script") == tab.locator("script").count() == 4


def test_it_prints(report, look):
    tab = look(report, color_scheme="dark")
    tab.emulate_media(media="print")
    assert picture(tab)[2, 2].mean() > 250
    assert not tab.locator(".chips input").first.is_visible()
    assert not tab.locator(".dt-search").is_visible()
    tab.set_viewport_size({"width": 690, "height": 980})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 690
    assert tab.pdf(format="A4").count(b"/Type /Page\n") >= 2


# What is on it


def test_examples_on_which_runs_differ_are_all_there(report, look):
    tab = look(report)
    flips = {flip["example"]: flip for run in report.runs for flip in run["flips"] or ()}
    assert flips
    shown = texts(tab, "#differences figcaption")
    assert len(shown) == len(flips)
    for text in shown:
        flip = flips.pop(int(re.search(r"example (\d+)", text)[1]))
        assert text.startswith(f"is {flip['label']} ")
        assert f"reference: {flip['reference']}\n" in text
        assert f"{TOO_FAST}: {flip['run']}\n" in text
        assert f"margin {flip['margin']:.2g}" in text
        fits = "large enough" if flip["explained"] else "too small"
        assert text.endswith(f"logit error {fits}")
    assert not flips
    assert tab.locator("#confusion h3").count() == 2
    assert tab.locator("#confusion td.changed").count()


def test_pictures_are_those_of_the_examples(report, look):
    tab = look(report)
    style = tab.evaluate(
        """() => [...document.querySelectorAll("#wrong .example")].map((element) => {
            const style = getComputedStyle(element);
            return [element.getAttribute("aria-label"), style.backgroundPosition, style.width];
        })"""
    )
    uri = re.search(r'background-image: url\("data:image/png;base64,([^"]*)"', page_of(report))[1]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))))
    data, oracle = Digits(), report.details.oracle
    wrong = set(np.flatnonzero(oracle.val_logits.argmax(axis=1) != data.y_val).tolist())
    assert len(style) == min(len(wrong), page.WRONG_SHOWN)
    for label, position, width in style:
        example, zoom = int(label.split()[-1]), int(width.removesuffix("px")) // 8
        left, top = (-int(part.removesuffix("px")) // zoom for part in position.split())
        expected = (255 * data.scale(data.X_val[example])).reshape(8, 8).astype(np.uint8)
        np.testing.assert_array_equal(sheet[top : top + 8, left : left + 8], expected)
        wrong.remove(example)


def test_weights_are_pictures(report):
    rows = page._weights(report.details)
    assert [row["name"] for row in rows] == ["reference", *report.details.runs]
    W = report.details.oracle.parameters["W"][-1]
    encoded = rows[0]["picture"].partition("base64,")[2]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")).astype(
        int
    )
    assert pixels.shape == (8, 80, 4)
    drawn = pixels[..., 3] * np.sign(pixels[..., 0] - pixels[..., 2]) / 255
    expected = np.concatenate(list(W.T.reshape(-1, 8, 8)), axis=1) / np.abs(W).max()
    np.testing.assert_allclose(drawn, expected, atol=0.03)


def test_the_command_repeats_the_comparison(report):
    assert command_of(report)[:2] == ["python", "compare.py"]
    arguments = command_of(report)[2:]
    _, (options, _) = read(arguments)
    assert options.backends == list(dict.fromkeys(run["backend"] for run in report.runs))
    assert options.implementations == ["scratch", "concise"]
    for name, value in report.facts["recipe"].items():
        assert getattr(options, name) == value
    assert Recipe(**report.facts["recipe"]).lr == options.lr
    assert (options.jobs, options.threads, options.timeout) == (1, 1, 60.0)


def test_features_are_not_shown_as_pictures(tmp_path, look):
    report = finished(tmp_path, {("alpha", "scratch"): 1.0}, Synthetic(200, 5, 3), max_epochs=1)
    tab = look(report)
    assert tab.locator("#confusion table").count() == 1
    assert not tab.locator("#weights, .example, .gallery").count()


def test_images_of_other_numbers(tmp_path, look):
    """Features in floating point, an image wider than high, class names that hold markup."""
    random = np.random.default_rng(0)
    X = random.standard_normal((120, 15), dtype=np.float32)
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
    data = DataModule(
        X[:80], y[:80], X[80:], y[80:], name="own", image_shape=(3, 5), labels=("a", "<i>b", "c")
    )
    tab = look(finished(tmp_path, {("alpha", "scratch"): 1.0}, data, max_epochs=1, sigma=0.5))
    assert tab.locator("#wrong .example").count()
    assert tab.locator("#weights img").count() == 3
    assert "<i>b" in texts(tab, "#confusion thead th")


def test_nothing_that_ran(tmp_path, look):
    report = finished(tmp_path, {("alpha", "scratch"): REASON}, max_epochs=1)
    assert report.verdict == "incomplete"
    tab = look(report)
    assert REASON in tab.locator(".next").inner_text()
    assert not tab.locator(".chips").count()


# What may be gone


def test_without_records_the_page_says_so(report, tmp_path, look):
    folder = tmp_path / "copy"
    shutil.copytree(report.folder, folder)
    shutil.rmtree(folder / "runs" / "alpha-scratch")
    write_page(Report.load(folder))
    tab = look(Report(report.facts, folder))
    assert "alpha scratch: its record cannot be drawn" in tab.locator("header").inner_text()
    names = tab.evaluate("document.getElementById('plot-error-W').data.map((t) => t.name)")
    assert "alpha concise" in names
    assert "alpha scratch" not in names
    shutil.rmtree(folder / "reference")
    write_page(Report.load(folder))
    tab = look(Report(report.facts, folder))
    assert "run the comparison again" in tab.locator("header").inner_text()
    assert report.sentence in tab.locator("#verdict").inner_text()
    assert not tab.locator("#plot-error-W, #confusion, #agreement").count()
    assert tab.locator("#plot-val-loss .trace").count()


def test_without_the_data_set_there_are_no_pictures(report, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(report.folder, folder)
    facts = json.loads((folder / "plan" / "plan.json").read_text())
    facts["data_folder"] = str(tmp_path / "nowhere")
    (folder / "plan" / "plan.json").write_text(json.dumps(facts))
    copy = Report.load(folder)
    write_page(copy)
    assert copy.details.images is None
    assert "nowhere" in page_of(copy)
    assert 'class="example"' not in page_of(copy)


def test_without_room_the_report_stands_alone(report, tmp_path):
    (tmp_path / "file").touch()
    copy = Report({**report.facts, "notices": []}, tmp_path / "file" / "nowhere")
    write_page(copy)
    (notice,) = copy.facts["notices"]
    assert notice.startswith(f"{PAGE} was not written")


def test_the_saved_report_says_that_it_stands_alone(report, tmp_path):
    (tmp_path / PAGE).mkdir()
    copy = Report({**report.facts, "notices": []}, tmp_path)
    copy.save()
    write_page(copy)
    assert Report.load(tmp_path).facts == copy.facts
    assert len(copy.facts["notices"]) == 1


def test_a_machine_whose_memory_is_unknown(report, tmp_path):
    copy = Report({**report.facts, "machine": {**report.facts["machine"]}}, tmp_path)
    copy.facts["machine"]["memory_bytes"] = None
    write_page(copy)
    assert " processors; " in page_of(copy)


def test_an_empty_trajectory_is_said_to_be_none(report, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(report.folder, folder)
    (folder / "reference" / "reference" / "arrays.npz").write_bytes(b"")
    write_page(Report.load(folder))
    assert "reference/reference: expected what the comparison left" in page_of(
        Report(report.facts, folder)
    )


# How large it is


def test_the_page_is_small_enough(report):
    assert (report.folder / PAGE).stat().st_size < page.MOST_BYTES == 6_000_000


@pytest.mark.parametrize(("room", "gone"), [(1_000, "weights"), (50_000, "weights and examples")])
def test_pictures_go_where_the_page_would_be_too_large(report, tmp_path, monkeypatch, room, gone):
    folder = tmp_path / "copy"
    shutil.copytree(report.folder, folder)
    monkeypatch.setattr(page, "MOST_BYTES", (report.folder / PAGE).stat().st_size - room)
    write_page(Report.load(folder))
    text = (folder / PAGE).read_text()
    assert f"Pictures of {gone} are left out" in text
    for name in ("weights", "example"):
        assert (f'class="{name}"' in text) == (name not in gone)


@pytest.mark.parametrize("steps", [1, 2, CURVE_POINTS, CURVE_POINTS + 1, 23_450])
def test_thinned_curves_keep_what_stands_out(steps):
    values = np.random.default_rng(steps).random(steps)
    at, kept = thinned(values)
    assert len(at) == len(kept) <= 400
    assert at[-1] == steps
    assert kept.max() == values.max()
    for start, end, value in zip([0, *at[:-1]], at, kept, strict=True):
        assert value == values[start:end].max()
    if steps <= CURVE_POINTS:
        np.testing.assert_array_equal(kept, values)


# Written by the runner


def test_the_runner_writes_it(tmp_path, look):
    process = run([*COMPARE, PLAIN, *SMALL, "--quiet", "--out", tmp_path / "out"], tmp_path)
    assert process.returncode == 0, process.stderr
    assert f"report.json and {PAGE} written" in process.stdout
    report = Report.load(tmp_path / "out")
    tab = look(report)
    assert report.sentence in tab.locator("#verdict").inner_text()
    statuses = Counter(texts(tab, ".grades tbody .grade"))
    assert sum(statuses.values()) == len(report.runs) == 2


def test_a_model_of_ones_own_has_a_page_with_what_there_is(tmp_path, look):
    (tmp_path / "mine.py").write_text(PLAIN_MODEL)
    out = tmp_path / "out"
    words = [*COMPARE, "model", tmp_path / "mine.py", PLAIN, *SMALL, "--quiet", "--out", out]
    process = run(words, tmp_path)
    assert process.returncode == 0, process.stderr
    report = Report.load(out)
    tab = look(report)
    assert report.sentence in tab.locator("#verdict").inner_text()
    assert texts(tab, ".grades thead th") == ["mine"]
    rungs = [text.split()[0] for text in texts(tab, "#network tbody th")]
    assert rungs == [rung["tensor"] for rung in report.runs[0]["rungs"]]
    assert tab.locator("#plot-val-loss .trace").count() == 2
    assert not tab.locator("#error, #confusion").count()
    assert read(command_of(report)[2:])[1][0].path == "mine.py"
    with pytest.raises(ParityError, match="one's own"):
        report.plot_error()


def test_what_moved_since_the_baseline_is_on_the_page(tmp_path, look):
    words = [PLAIN, *SMALL, "--quiet", "--implementation", "scratch"]
    golden = tmp_path / "golden.npz"
    save = [*COMPARE, "baseline", "save", golden, *words, "--out", tmp_path / "one"]
    first = run(save, tmp_path)
    assert first.returncode == 0, first.stderr
    second = run([*COMPARE, *words, "--out", tmp_path / "two", "--baseline", golden], tmp_path)
    assert second.returncode == 0, second.stderr
    assert not look(Report.load(tmp_path / "one")).locator("#baseline").count()
    report = Report.load(tmp_path / "two")
    assert "golden.npz, saved" in look(report).locator("#baseline").inner_text()
    assert read(command_of(report)[2:])[1][0].baseline == str(golden)


def command_of(report):
    """The words of the command that repeats a comparison."""
    (command,) = re.findall('<pre class="command">(.*?)</pre>', page_of(report))
    return shlex.split(html.unescape(command))


def page_of(report):
    return (report.folder / PAGE).read_text(encoding="utf-8")
