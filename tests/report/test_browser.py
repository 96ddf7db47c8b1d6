import shutil

import pytest

from gentheory.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the PATH")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports():
    return {}


@pytest.fixture
def report(study, reports, tmp_path_factory):
    """The report of the study, written once."""
    if not reports:
        reports["study"] = write_report(study, tmp_path_factory.mktemp("page"), num_resamples=50)
    return reports["study"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_in_a_window(browser, report, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url[:80]))
    page.goto(report.path.as_uri(), wait_until="load")

    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 3
    assert all(natural > 0 for natural in widths)
    fits(page)
    for sentence in report.findings:
        item = page.get_by_role("listitem").filter(has_text=sentence)
        assert item.count() == 1
        assert item.is_visible()
    # A narrow window gets panels two abreast instead of a strip too small to read.
    shapes = page.evaluate("[...document.images].map(i => i.naturalHeight / i.naturalWidth)")
    assert (shapes[1] > 1) == (width == 400)
    small = page.evaluate("[...document.images].map(i => i.clientWidth / i.naturalWidth)")
    assert min(small) > 0.85
    ink, paper = page.evaluate(
        "(style => [style.color, style.backgroundColor])(getComputedStyle(document.body))"
    )
    assert (brightness(ink) > brightness(paper)) == (scheme == "dark")
    assert complaints == []
    context.close()


def brightness(colour):
    """Mean of the channels in "rgb(1, 2, 3)"."""
    channels = colour.removeprefix("rgb(").removesuffix(")").split(",")
    return sum(map(float, channels)) / 3


def test_many_settings_in_a_wide_and_a_narrow_window(browser, many, tmp_path):
    report = write_report(many, tmp_path, num_resamples=50)
    for width in (1280, 400):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(report.path.as_uri(), wait_until="load")
        fits(page)
        for summary in page.locator("summary").all():
            summary.click()
        assert page.evaluate("[...document.querySelectorAll('details')].every(d => d.open)")
        fits(page)
        assert page.locator("#rival-0-difference td").first.is_visible()
        small = page.evaluate("[...document.images].map(i => i.clientWidth / i.naturalWidth)")
        assert min(small) > 0.85
        page.close()


def fits(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    cards = "[...document.querySelectorAll('.card')]"
    assert page.evaluate(f"{cards}.every(card => card.scrollWidth <= card.clientWidth)")
