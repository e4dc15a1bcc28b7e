"""The page in play/, driven in Chromium, against Keras."""

import base64
import functools
import glob
import http.server
import os
import re
import shutil
import socket
import subprocess
import threading
import urllib.request

import numpy as np
import pytest
import safetensors.numpy
from conftest import ROOT, SMALL, randomize
from scipy.ndimage import center_of_mass

import nice
from support import checkpoint, data, options, quality

CHROMIUM = shutil.which("chromium")
if not CHROMIUM and os.environ.get("CI") != "true":
    pytest.skip("no chromium here: the page was not tested", allow_module_level=True)

from playwright.sync_api import expect, sync_playwright

FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip
PLAY = os.path.join(ROOT, "play")
NAMES = ("deep", "pretrained", "paper", "noise-free")  # as the page lists them
SHIPPED = next(p for n in NAMES if os.path.exists(p := f"{ROOT}/weights/{n}{options.SUFFIX}"))
DRAWN = "([w, id]) => { const c = document.getElementById(id), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return Array.from({length: d.length / 4}, (_, i) => d[4 * i + w]); }"  # noqa: E501


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=ROOT)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Visit:
    """A page of the browser, and what it asked for and complained about."""

    def __init__(self, browser, **context):
        context = {"locale": "en-GB", "viewport": {"width": 1100, "height": 900}, **context}
        self.page = browser.new_context(**context).new_page()
        self.requests, self.errors = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    def open(self, address, fragment="", wait="window.nice"):
        self.page.goto(f"{address}#{fragment}")
        self.page.wait_for_function(wait)
        return self.page

    def close(self, origin):
        self.page.context.close()
        assert self.errors == []
        assert [u for u in self.requests if not u.startswith((origin, "blob:", "data:"))] == []


@pytest.fixture(scope="module")
def page(browser, address):
    """The page with the weights it opens with, and the data."""
    visit = Visit(browser)
    if not SHIPPED.endswith(f"deep{options.SUFFIX}"):
        visit.page.route("**/weights/deep*", lambda route: route.fulfill(path=SHIPPED))
    yield visit.open(f"{address}/play/", wait="window.nice && digits()")
    visit.close(address)


@pytest.fixture
def visit(browser, address):
    """`visit(weights=bytes, **context)`: a page of its own; in place of all weights, these."""
    visits = []

    def begin(weights=None, **context):
        visits.append(Visit(browser, **context))
        if weights is not None:
            visits[-1].page.route("**/weights/*", lambda route: route.fulfill(body=weights))
        return visits[-1]

    yield begin
    for each in visits:
        each.close("file://" if each.page.url.startswith("file") else address)


@pytest.fixture(scope="module")
def flow():
    return nice.load(SHIPPED)


@pytest.fixture(scope="module")
def digits():
    return data.load(options.MNIST)


def weights(path, prior="gaussian", levels=255, picture=(3, 4), codes=None, **choices):
    """A small random flow: its file's bytes, and itself."""
    model = {**SMALL, "output_activation": "relu", "convention": "article", "shuffle": "reverse",
             "noise": 0.01, "noise_kind": "negative", "dropout": 0.0, **choices}  # fmt: skip
    encoder, decoder = nice.build(**model)
    randomize(encoder)
    configuration = {"model": model, "prior": prior, "levels": levels, "picture": picture}
    checkpoint.save(path, {**checkpoint.named(encoder), **(codes or {})}, configuration)
    with open(path, "rb") as file:
        return file.read(), nice.Trained(encoder, decoder, configuration)


def loaded(page, content):
    """Let the page's own code read a weights file, as `window.read`, beside what it shows."""
    page.evaluate(
        "b => { window.read = new kit.Flow(Uint8Array.from(atob(b), c => c.charCodeAt()).buffer) }",
        base64.b64encode(content).decode(),
    )


def map_rows(page, function, rows):
    """`function` (JavaScript, of a Float32Array) of every row: float64 NumPy."""
    code = f"rows => rows.map(r => Array.from([({function})(Float32Array.from(r))].flat()[0]))"
    if "logLikelihood" in function:
        code = f"rows => rows.map(r => ({function})(Float32Array.from(r)))"
    return np.array(page.evaluate(code, np.asarray(rows, "float64").tolist()))


def canvas(page, name, channel=0):
    return np.array(page.evaluate(DRAWN, [channel, name]), "float32")


def settle(page):
    """Until everything that has changed is drawn."""
    page.wait_for_function("!dirty.size")


def drawn(page, points):
    """Draw a line with the mouse; points in parts of the canvas."""
    page.locator("#draw").scroll_into_view_if_needed()
    box = page.locator("#draw").bounding_box()
    for i, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if i == 0:
            page.mouse.down()
    page.mouse.up()
    settle(page)


SEVEN = [(0.25, 0.2), (0.75, 0.2), (0.4, 0.85)]


# ------------------------------------------------------------------------------ the numbers


def test_shipped_flow_is_keras(page, flow, digits, rng):
    x = flow.scale(digits.x_test[:5])
    z = rng.standard_normal((5, 784)).astype("float32")
    encoded = map_rows(page, "nice.encode", x)
    np.testing.assert_allclose(encoded, flow.encode(x), atol=1e-4, rtol=1e-5)
    decoded = map_rows(page, "nice.decode", z)
    np.testing.assert_allclose(decoded, flow.decode(z), atol=1e-4)
    assert page.evaluate("nice.configuration.model.dim") == 784


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"output_activation": "linear", "convention": "paper", "prior": "logistic", "levels": 256},
        {"output_activation": "linear", "prior": "logistic", "couplings": 3},
        {"convention": "paper", "levels": 256, "depth": 0, "couplings": 1},
        {"shuffle": "random", "seed": 0, "units": 5},
        {"shuffle": "random", "seed": 7, "prior": "logistic", "levels": 256, "convention": "paper"},
    ],
)
def test_every_kind_of_flow_is_keras(page, tmp_path, rng, choices):
    content, small = weights(str(tmp_path / "w.safetensors"), **choices)
    loaded(page, content)
    x = rng.random((4, 12), dtype="float32")
    encoded = map_rows(page, "x => read.encode(x)", x)
    np.testing.assert_allclose(encoded, small.encode(x), atol=1e-4)
    decoded = map_rows(page, "x => read.decode(x)", encoded)
    np.testing.assert_allclose(decoded, x, atol=1e-5)
    np.testing.assert_allclose(small.decode(encoded), x, atol=1e-4)
    nats = map_rows(page, "x => read.logLikelihood(x)", x)
    np.testing.assert_allclose(nats, small.log_likelihood(x), rtol=1e-5, atol=1e-4)
    # The gradient against central differences.
    gradient, step = map_rows(page, "x => read.gradient(x)", x[:1])[0], 1e-3
    shifts = step * np.eye(12)
    ahead, behind = (map_rows(page, "x => read.logLikelihood(x)", x[:1] + s)
                     for s in (shifts, -shifts))  # fmt: skip
    differences = (ahead - behind) / (2 * step)
    assert np.abs(differences - gradient).max() < 1e-2 * np.abs(gradient).max()


def test_float16_is_widened_exactly(page):
    halves = np.array([0, 6e-8, 6e-5, -1 / 3, 1, -65504], "float16")
    content = safetensors.numpy.save({"a": halves}, {"configuration": "{}"})
    code = flow_source("open")
    got = page.evaluate(f"b => {{ {code}; const f = open(Uint8Array.from(atob(b), c => c.charCodeAt()).buffer); return Array.from(f.tensor('a', [6])) }}",  # noqa: E501
                        base64.b64encode(content).decode())  # fmt: skip
    assert got == halves.astype("float64").tolist()


def flow_source(name):
    """The body of flowKit, with `name` in reach."""
    with open(os.path.join(PLAY, "flow.js"), encoding="utf-8") as file:
        source = file.read()
    source = source.replace("return { Flow,", f"return {{ {name}, Flow,")
    return source.split("*/", 1)[1].replace(
        "const kit = flowKit();", f"const {{ {name} }} = flowKit();"
    )  # noqa: E501


def test_mean_nats_of_1000_test_digits(page, flow, digits):
    page.wait_for_function("nats.histogram.length === 1000", timeout=120_000)
    expected = flow.log_likelihood(flow.scale(digits.x_test[:1000])).mean()
    assert np.mean(page.evaluate("nats.histogram")) == pytest.approx(expected, abs=0.01)


def test_codes_follow_their_formula(page, tmp_path, rng):
    groups, rank = 3, 2
    codes = {
        "labels": np.array([0, 1, 1], "int32"),
        "shares": np.array([0.5, 0.4, 0.1], "float32"),
        "means": rng.standard_normal((groups, 12)).astype("float16"),
        "directions": rng.standard_normal((groups, rank, 12)).astype("float16"),
        "rest": np.ones((groups, 12), "float16"),
        "low": np.full((groups, 12), -9, "float16"),
        "high": np.full((groups, 12), 9, "float16"),
    }
    content, _ = weights(
        str(tmp_path / "w.safetensors"), codes={"codes/" + n: a for n, a in codes.items()}
    )
    loaded(page, content)
    draw = "([label, T]) => { const r = kit.randomOf(5); return Array.from({length: 1500}, () => Array.from(kit.drawCode(read.codes, label, r, T))) }"  # noqa: E501
    means = codes["means"].astype("float64")
    np.testing.assert_allclose(page.evaluate(draw, [0, 0])[0], means[0])
    z = np.array(page.evaluate(draw, [0, 0.5]))
    directions = codes["directions"][0].astype("float64")
    np.testing.assert_allclose(np.cov(z.T), 0.25 * directions.T @ directions, atol=0.15)
    of_second = np.isclose(page.evaluate(draw, [1, 0]), means[1]).all(axis=1)
    assert of_second.mean() == pytest.approx(0.8, abs=0.05)
    assert np.abs(page.evaluate(draw, [0, 50])).max() == 9


# -------------------------------------------------------------------------------- the cards


def test_sliders_move_the_picture(page):
    before, terms = canvas(page, "digit"), page.locator("#terms").inner_text()
    wide = page.locator("#wide input[type=range][data-dimension]").first
    wide.fill("6")
    settle(page)
    assert np.abs(canvas(page, "digit") - before).max() > 60
    assert page.locator("#terms").inner_text() != terms
    moved = canvas(page, "digit")
    page.locator("#narrow input[data-dimension]").fill("3")
    settle(page)
    assert np.abs(canvas(page, "digit") - moved).mean() < 1
    wide.focus()
    page.keyboard.press("Home")
    settle(page)
    assert np.abs(canvas(page, "digit") - moved).max() > 60
    page.click("#new")
    settle(page)
    assert not np.array_equal(canvas(page, "digit"), before)
    assert "z=s" in page.evaluate("new Promise(f => setTimeout(() => f(location.hash), 400))")


def test_terms_add_up(page, flow):
    page.click("#encode")
    settle(page)
    numbers = re.findall(r"^[=−]? ?(−?\d+\.\d)$", page.locator("#terms").inner_text(), re.M)
    total, *terms = (float(n.replace("−", "-")) for n in numbers)
    assert len(terms) == 3
    assert total == pytest.approx(terms[0] - sum(terms[1:]), abs=0.2)
    assert terms[0] == pytest.approx(flow.log_determinant(), abs=0.1)


def test_drawn_digit(page, flow, digits):
    page.click("#clear")
    drawn(page, SEVEN)
    look = np.array(page.evaluate("Array.from(look)"), "uint8")
    y, x = center_of_mass(look.reshape(28, 28))
    assert abs(x - 14) <= 1 and abs(y - 14) <= 1
    rows, columns = (np.flatnonzero(look.reshape(28, 28).any(axis=a)) for a in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    text = page.locator("#nats").inner_text()
    nats = flow.log_likelihood(flow.scale(look[None]))[0]
    assert float(text.split()[0]) == pytest.approx(nats, abs=0.1 + 1e-5 * abs(nats))
    assert float(page.locator("#trip").inner_text()) < 1e-5
    # Its neighbours are NumPy's.
    expect(page.locator("#neighbours figcaption")).to_have_count(11)
    page.wait_for_timeout(200)
    distances = np.linalg.norm((digits.x_train.astype("float32") - look) / 255, axis=1)
    nearest = np.argsort(distances)[:11]
    shown = page.locator("#neighbours figcaption").all_inner_texts()
    assert shown == [f"{digits.y_train[i]} · {distances[i]:.1f}" for i in nearest]


def test_presets(page, flow, digits):
    def nats():
        settle(page)
        return float(page.locator("#nats").inner_text().split()[0])

    def expected(x):
        return pytest.approx(flow.log_likelihood(flow.scale(x.reshape(1, -1)))[0], abs=0.5)

    page.click("#some")
    settle(page)
    assert nats() == expected(digits.x_test[int(page.evaluate("state.x").removeprefix("t"))])
    page.evaluate("clear('t0')")
    plain = nats()
    page.locator("#shift").fill("4")
    shifted = np.zeros((28, 28), "uint8")
    shifted[:, 4:] = digits.x_test[0].reshape(28, 28)[:, :-4]
    assert nats() == expected(shifted) and nats() < plain
    assert page.evaluate("Array.from(look)") == shifted.ravel().tolist()
    page.click("#clear")
    blank = nats()
    assert blank == expected(np.zeros(784, "uint8"))
    page.click("#corner")
    assert nats() < blank - 1000
    page.click("#corner")


def test_each_digit_asked_for_is_drawn(page):
    for _ in range(2):
        pictures = []
        for digit in range(10):
            page.click(f"#ask-{digit}")
            settle(page)
            assert page.locator(f"#ask-{digit}").get_attribute("aria-pressed") == "true"
            pictures.append(canvas(page, "asked") / 255)
        read = quality.read(np.stack(pictures))[0].argmax(axis=1)
        assert (read == np.arange(10)).sum() >= 8, read


def test_between_two_digits(page, digits):
    page.click("#pair")
    a, b = (page.evaluate(f"state.{name}") for name in "ab")
    for t, n in ((0, a), (1, b)):
        page.locator("#t").fill(str(t))
        settle(page)
        for name in ("line", "blend"):
            assert np.abs(canvas(page, name) - digits.x_test[int(n)]).max() <= 1
    page.locator("#t").fill("0.5")
    settle(page)
    assert np.abs(canvas(page, "line") - canvas(page, "blend")).max() > 40


def test_erased_half_climbs_and_the_rest_stays(page):
    page.click("#other")
    settle(page)
    whole = page.evaluate("Array.from(fill.x)")
    page.click("#right")
    page.click("#climb")
    page.wait_for_function("fill.values.length > 6", timeout=60_000)
    page.click("#climb")
    settle(page)
    x, values = (np.array(page.evaluate(f"Array.from(fill.{name})")) for name in ("x", "values"))
    hidden = np.arange(784) % 28 >= 14
    assert np.array_equal(x[~hidden], np.array(whole)[~hidden])
    assert (np.diff(values) > 0).all() and x.min() >= 0 and x.max() <= 1
    assert values[-1] == pytest.approx(
        map_rows(page, "x => nice.logLikelihood(x)", [x])[0], abs=0.1
    )


# --------------------------------------------------------------------------- as people use it


def test_language_switches_every_word(page):
    page.evaluate("clear('')")
    english = page.locator("body").inner_text()
    page.click("#language")
    settle(page)
    chinese = page.locator("body").inner_text()
    assert page.locator("html").get_attribute("lang") == "zh"
    assert "加性耦合层" in chinese and "加性耦合层" not in english
    lines = set(english.splitlines()) & set(chinese.splitlines())
    assert [line for line in lines if re.search(r"[A-Za-z]{4,} [a-z]{3,}", line)] == []
    page.click("#language")
    settle(page)
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.evaluate("Object.keys(WORDS.en).join() === Object.keys(WORDS.zh).join()")
    latin = "Object.keys(WORDS.zh).filter(key => !/[\\u4e00-\\u9fff]/.test(WORDS.zh[key]))"
    assert page.evaluate(latin) == ["other", "nats", "t"]


def test_controls_have_names(page):
    unnamed = page.evaluate("""() => {
        const text = (e) => e?.textContent.trim();
        const name = (e) => e.ariaLabel || (e.matches("button") && text(e)) || text(e.labels?.[0]);
        const controls = document.querySelectorAll("button, input, select, canvas[id]");
        return [...controls].filter(e => !name(e)).map(e => e.id);
    }""")
    assert unnamed == []


def bad_files(path):
    content, _ = weights(path)
    configuration = b'{"__metadata__": {"configuration": "{}"}}'
    return {
        "cut.safetensors": content[:-40],
        "header.safetensors": content[:30],
        "empty.safetensors": b"",
        "foreign.safetensors": len(configuration).to_bytes(8, "little") + configuration,
        "text.safetensors": b"no weights at all, but some text",
        "nan.safetensors": content[:-16] + b"\xff" * 16,
        "broken.npz": b"PK\x03\x04" + bytes(100),
    }


def test_bad_file_gets_one_message_and_changes_nothing(page, tmp_path):
    z = np.linspace(-1, 1, 784)[None]
    before = map_rows(page, "nice.decode", z)
    for name, content in bad_files(str(tmp_path / "w.safetensors")).items():
        page.evaluate(
            """([name, b]) => {
                const transfer = new DataTransfer();
                const bytes = Uint8Array.from(atob(b), c => c.charCodeAt());
                transfer.items.add(new File([bytes], name));
                const init = {dataTransfer: transfer, bubbles: true, cancelable: true};
                document.body.dispatchEvent(new DragEvent("drop", init));
            }""",
            [name, base64.b64encode(content).decode()],
        )
        expected = "mnist.npz" if name.endswith("npz") else name
        expect(page.locator("#message")).to_contain_text(expected)
        assert np.array_equal(map_rows(page, "nice.decode", z), before), name
        page.locator("#message button").click()
        expect(page.locator("#message")).to_be_hidden()
    page.click("#new")
    settle(page)
    assert canvas(page, "digit").max() > 0


def test_own_file_of_other_pictures(visit, address, tmp_path):
    first, _ = weights(str(tmp_path / "a.safetensors"))
    path = str(tmp_path / "mine.safetensors")
    weights(path, prior="logistic", picture=(2, 6), couplings=9)
    one = visit(first)
    page = one.open(f"{address}/play/")
    page.set_input_files("#file", path)
    page.wait_for_function("nice.name === 'mine.safetensors'")
    settle(page)
    assert page.evaluate("[$('digit').width, $('digit').height]") == [6, 2]
    assert page.locator("#weights").input_value() == "mine.safetensors"
    assert "logistic" in page.locator("#facts").inner_text()
    assert "softplus" in page.locator("#terms").inner_text()
    page.wait_for_function("data")
    expect(page.locator("#rank")).to_contain_text("2 × 6")
    page.select_option("#weights", "paper")
    page.wait_for_function("nice.name === 'paper'")


def test_missing_files_are_told(visit, address, tmp_path):
    content, _ = weights(str(tmp_path / "a.safetensors"))
    one = visit(content)
    one.page.route("**/weights/deep*", lambda route: route.fulfill(status=404))
    one.page.route("**/mnist.npz", lambda route: route.fulfill(status=404))
    page = one.open(f"{address}/play/")
    assert page.evaluate("nice.name") == "pretrained"
    expect(page.locator("#message")).to_contain_text("mnist.npz")
    assert page.locator("#encode").is_disabled()
    page.click("#new")
    settle(page)
    one.errors[:] = [e for e in one.errors if "404" not in e]


def test_address_holds_the_state(visit, address, tmp_path):
    content, _ = weights(str(tmp_path / "a.safetensors"))
    first = visit(content).open(f"{address}/play/")
    first.click("#new")
    first.locator("#T").fill("0.6")
    first.locator("#wide input").nth(1).fill("3")
    first.click("#theme")
    first.click("#language")
    first.wait_for_function("location.hash.includes('zh') && location.hash.includes('moved')")
    again = visit(content).open(*first.url.split("#"))
    settle(first), settle(again)
    assert np.array_equal(canvas(first, "digit"), canvas(again, "digit"))
    for page in (first, again):
        assert page.locator("html").get_attribute("lang") == "zh"
        assert page.locator("html").get_attribute("data-theme") == "dark"


def test_reader_s_language_and_theme_come_first(visit, address, tmp_path):
    content, _ = weights(str(tmp_path / "a.safetensors"))
    page = visit(content, locale="zh-CN", color_scheme="dark").open(f"{address}/play/")
    assert page.locator("html").get_attribute("lang") == "zh"
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_phone(visit, address):
    size = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    page = visit(**size).open(f"{address}/play/", wait="window.nice && digits()")
    page.click("#encode")
    for _ in range(2):
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.click("#language")
    box = page.locator("#draw").bounding_box()
    page.locator("#draw").scroll_into_view_if_needed()
    box = page.locator("#draw").bounding_box()
    page.touchscreen.tap(box["x"] + 50, box["y"] + 90)
    settle(page)
    assert page.evaluate("look.some(Boolean)")


def test_keyboard_draws(page):
    page.click("#clear")
    page.focus("#draw")
    for key in (" ", *["ArrowDown"] * 8, " ", *["ArrowRight"] * 5):
        page.keyboard.press(key)
    settle(page)
    look = np.array(page.evaluate("Array.from(look)")).reshape(28, 28)
    assert look.any(axis=1).sum() == 20 and look.any(axis=0).sum() < 12
    page.click("#clear")


def test_opened_as_a_file(visit, tmp_path):
    path = str(tmp_path / "a.safetensors")
    weights(path, picture=(28, 28), dim=784, couplings=2)
    page = visit().open(f"file://{PLAY}/index.html", wait="told")
    expect(page.locator("#message")).to_contain_text("make play")
    page.set_input_files("#file", [path, options.MNIST])
    page.wait_for_function("digits()")
    page.click("#encode")
    settle(page)
    assert canvas(page, "digit").max() > 100


def test_page_is_small_and_alone():
    paths = glob.glob(os.path.join(PLAY, "*"))
    assert sum(map(os.path.getsize, paths)) <= 60 * 1024
    for path in paths:
        with open(path, encoding="utf-8") as file:
            found = re.findall(r"https?://[\w./-]+", file.read())
        assert set(found) <= {"https://kexue.fm/archives/5776"}, path


def test_make_play_serves_the_page():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["make", "-s", "play", f"PORT={port}"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert f"http://127.0.0.1:{port}/play/" in line
        for _ in range(100):
            try:
                with urllib.request.urlopen(line.strip()) as answer:
                    assert b"main.js" in answer.read()
                break
            except OSError:
                threading.Event().wait(0.1)
        else:
            pytest.fail("no answer")
    finally:
        os.killpg(process.pid, 15)
        process.communicate()
