"""The page in play/, driven in Chromium, against Keras."""

import base64
import functools
import glob
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import urllib.request

import compact
import numpy as np
import pytest
import safetensors.numpy
from scipy.ndimage import center_of_mass

import nice
from support import data, options, quality

CHROMIUM = shutil.which("chromium")
if not CHROMIUM and os.environ.get("CI") != "true":
    pytest.skip("no chromium here: the page was not tested", allow_module_level=True)

from playwright.sync_api import expect, sync_playwright

FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip
ROOT = options.HERE
PLAY = os.path.join(ROOT, "play")
DRAWN = "([w, id]) => { const c = document.getElementById(id), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return Array.from({length: d.length / 4}, (_, i) => d[4 * i + w]); }"  # noqa: E501
BYTES = "b => Uint8Array.from(atob(b), c => c.charCodeAt())"


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
        self.page.set_default_timeout(60_000)
        self.requests, self.errors = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    def open(self, address, fragment="", wait="window.nice"):
        self.page.goto(f"{address}#{fragment}")
        self.page.wait_for_function(wait)
        return self.page

    def forgive(self, *words):
        """Errors that a test provokes are the browser's own lines, not the page's."""
        self.errors[:] = [e for e in self.errors if not any(word in e for word in words)]

    def close(self, origin):
        self.page.context.close()
        assert self.errors == []
        assert [u for u in self.requests if not u.startswith((origin, "blob:", "data:"))] == []


READY = "window.nice && digits() && reader && nats.known.length === 1000"


@pytest.fixture(scope="module")
def page(browser, address):
    """The page as it opens, everything there that it fetches unasked."""
    visit = Visit(browser)
    yield visit.open(f"{address}/play/", wait=READY)
    visit.close(address)


@pytest.fixture
def visit(browser, address):
    """`visit(weights=bytes, **context)`: a page of its own; in place of all weights, these."""
    visits = []

    def begin(weights=None, **context):
        visits.append(Visit(browser, **context))
        if weights is not None:
            route = re.compile("/weights/(?!classifier)")
            visits[-1].page.route(route, lambda route: route.fulfill(body=weights))
        return visits[-1]

    yield begin
    for each in visits:
        each.close("file://" if each.page.url.startswith("file") else address)


@pytest.fixture(scope="module")
def flow():
    """What the page opens with, in Keras."""
    return compact.flow_of(*compact.read())


@pytest.fixture(scope="module")
def digits():
    return data.load(options.MNIST)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def weights(path, prior="gaussian", levels=255, picture=(3, 4), others=None, **choices):
    """A small random flow: its file's bytes, and itself."""
    model = {"dim": 12, "couplings": 4, "units": 16, "depth": 2, "seed": 1, "dropout": 0.0,
             "output_activation": "relu", "convention": "article", "shuffle": "reverse",
             "noise": 0.01, "noise_kind": "negative", **choices}  # fmt: skip
    rng, dim, arrays = np.random.default_rng(0), model["dim"], dict(others or {})
    arrays["encoder/scale/log_scale"] = 0.5 * rng.standard_normal((1, dim)).astype("float32")
    sizes = [dim // 2, *[model["units"]] * model["depth"], dim // 2]
    channels, side, couplings = (model.get(n) for n in ("channels", "kernel", "couplings"))
    near = {"conv": couplings, "both": couplings // 2}.get(model.get("network"), 0)
    for c in range(1, couplings + 1):
        kind, shapes = "dense", list(zip(sizes, sizes[1:]))
        if c <= near:
            kind, shapes = "conv", [
                (side, side + 1, 1, channels), (1, 1, channels, channels), (side, side, channels, 1)
            ]  # fmt: skip
        for i, shape in enumerate(shapes, start=1):
            kernel, bias = rng.standard_normal(shape), 0.3 * rng.standard_normal(shape[-1])
            name = f"encoder/coupling_{c}/m/{kind}_{i}/"
            arrays[name + "kernel"] = (kernel * np.prod(shape[:-1]) ** -0.5).astype("float32")
            arrays[name + "bias"] = bias.astype("float32")
    configuration = {"model": model, "prior": prior, "levels": levels, "picture": picture}
    content = safetensors.numpy.save(arrays, {"configuration": json.dumps(configuration)})
    with open(path, "wb") as file:
        file.write(content)
    return content, nice.load(path)


def loaded(page, content):
    """Let the page's own code read a weights file, as `window.read`, beside what it shows."""
    page.evaluate(f"b => {{ window.read = new Flow(({BYTES})(b).buffer) }}",
                  base64.b64encode(content).decode())  # fmt: skip


def map_rows(page, function, rows):
    """`function` (JavaScript, of a Float32Array) of every row: float64 NumPy."""
    code = "v => typeof v === 'number' ? v : Array.from(v)"
    code = f"rows => rows.map(r => ({code})(({function})(Float32Array.from(r))))"
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


def number(text):
    return float(text.split()[0].replace("−", "-"))


SEVEN = [(0.25, 0.2), (0.75, 0.2), (0.4, 0.85)]


# ------------------------------------------------------------------------------ the numbers


def test_first_weights_are_keras(page, flow, digits, rng):
    assert page.evaluate("nice.name") == "compact"
    x = flow.scale(digits.x_test[:5])
    z = rng.standard_normal((5, 784)).astype("float32")
    encoded = map_rows(page, "nice.encode", x)
    np.testing.assert_allclose(encoded, flow.encode(x), atol=3e-4, rtol=1e-5)
    decoded = map_rows(page, "nice.decode", z)
    np.testing.assert_allclose(decoded, flow.decode(z), atol=1e-5)
    assert page.evaluate("nice.configuration.model.dim") == 784


def test_compact_weights_are_nearly_the_float16_ones(flow, digits, rng):
    exact = nice.load(compact.path_of("pretrained"))
    x = flow.scale(digits.x_test[:1000])
    nats, as_trained = flow.log_likelihood(x), exact.log_likelihood(x)
    assert np.median(np.abs(nats - as_trained)) < 4
    assert abs(np.median(nats) - np.median(as_trained)) < 4
    fitted = compact.read()[0]
    basis = fitted["codes/basis"] * fitted["codes/basis_step"].astype("float32")[:, None]
    means = fitted["codes/centre"] + fitted["codes/means"].astype("float32") @ basis
    expected = exact.codes.centre + exact.codes.means @ exact.codes.basis
    assert np.sqrt(((means - expected) ** 2).mean()) < 0.1 * expected.std()
    samples, near = 0.75 * rng.standard_normal((100, 784)), exact.encode(x[:100])
    for z, most in ((samples, 0.015), (near, 0.015)):
        error = flow.pictures(z) - exact.pictures(z)
        assert np.sqrt((error**2).mean()) < most
    assert os.path.getsize(compact.COMPACT) < 7e6
    shares = quality.read(flow.sample(1000))[0]  # 40 % of 10,000 samples
    assert (shares.max(axis=1) > 0.9).mean() > 0.37


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"output_activation": "linear", "convention": "paper", "prior": "logistic", "levels": 256},
        {"output_activation": "linear", "prior": "logistic", "couplings": 3},
        {"convention": "paper", "levels": 256, "depth": 0, "couplings": 1},
        {"shuffle": "random", "seed": 0, "units": 5},
        {"shuffle": "random", "seed": 7, "prior": "logistic", "levels": 256, "convention": "paper"},
        {"network": "conv", "channels": 6, "kernel": 3, "output_activation": "linear"},
        {"network": "conv", "channels": 3, "kernel": 5, "dim": 60, "picture": (6, 10)},
        {"network": "conv", "channels": 2, "kernel": 1, "convention": "paper", "prior": "logistic"},
        {"network": "both", "channels": 5, "kernel": 3, "couplings": 3, "convention": "paper"},
        {"network": "both", "channels": 5, "kernel": 7, "couplings": 1},
    ],
)
def test_every_kind_of_flow_is_keras(page, tmp_path, rng, choices):
    content, small = weights(str(tmp_path / "w.safetensors"), **choices)
    loaded(page, content)
    x = rng.random((4, small.dim), dtype="float32")
    encoded = map_rows(page, "x => read.encode(x)", x)
    np.testing.assert_allclose(encoded, small.encode(x), atol=1e-4)
    decoded = map_rows(page, "x => read.decode(x)", encoded)
    np.testing.assert_allclose(decoded, x, atol=1e-5)
    np.testing.assert_allclose(small.decode(encoded), x, atol=1e-4)
    nats = map_rows(page, "x => read.logLikelihood(x)", x)
    np.testing.assert_allclose(nats, small.log_likelihood(x), rtol=1e-5, atol=1e-4)


def test_float16_is_widened_exactly(page):
    halves = np.array([0, 6e-8, 6e-5, -1 / 3, 1, -65504], "float16")
    content = safetensors.numpy.save({"a": halves}, {"configuration": "{}"})
    got = page.evaluate(f"b => Array.from(openWeights(({BYTES})(b).buffer).tensor('a', [6]))",
                        base64.b64encode(content).decode())  # fmt: skip
    assert got == halves.astype("float64").tolist()


def test_shipped_likelihoods_are_keras(page, flow, digits):
    x = digits.x_test[:1000]
    shipped = np.fromfile(os.path.join(PLAY, "likelihoods.bin"), "<f4").reshape(-1, 1000)
    np.testing.assert_allclose(shipped[0], flow.log_likelihood(flow.scale(x)), atol=0.05)
    assert np.array_equal(page.evaluate("nats.known"), shipped[0].astype("float64"))
    np.testing.assert_allclose(  # and the page's own
        map_rows(page, "nice.logLikelihood", flow.scale(x[:20])), shipped[0, :20], atol=0.05
    )
    for name in ("paper", "conv"):  # of another prior and convention, of another m
        other = nice.load(compact.path_of(name))
        row = shipped[1 + compact.LISTED.index(name), :20]
        np.testing.assert_allclose(row, other.log_likelihood(other.scale(x[:20])), atol=0.05)
    sizes = page.evaluate("SHIPPED")
    assert sizes.pop("compact") == os.path.getsize(compact.COMPACT)
    assert sizes == {name: os.path.getsize(compact.path_of(name)) for name in compact.LISTED}


def test_shipped_convolution_is_keras_and_small(visit, address, digits, rng):
    one = visit()
    page = one.open(f"{address}/play/", "w=conv", wait="window.nice && data && !dirty.size")
    conv = nice.load(compact.path_of("conv"))
    x, z = conv.scale(digits.x_test[:5]), rng.standard_normal((5, 784)).astype("float32")
    encoded = map_rows(page, "nice.encode", x)
    np.testing.assert_allclose(encoded, conv.encode(x), atol=3e-4, rtol=1e-5)
    np.testing.assert_allclose(map_rows(page, "nice.decode", z), conv.decode(z), atol=1e-5)
    assert "8 convolutions of 3 × 3, 32 channels" in page.locator("#facts").inner_text()
    assert "14,872" in page.locator("#facts").inner_text()
    assert page.locator("#digit-read").inner_text() == ""  # z = 0 is black: there is no digit
    assert os.path.getsize(compact.path_of("conv")) < 1e5


def codes_of(rng, dim):
    """Small random codes, by their names in a file."""
    groups, rank, size = 3, 2, 4
    held = {
        "labels": np.array([0, 1, 1], "int32"),
        "shares": np.array([0.5, 0.4, 0.1], "float32"),
        "means": rng.standard_normal((groups, size)).astype("float16"),
        "directions": rng.standard_normal((groups, rank, size)).astype("float16"),
        "basis": rng.standard_normal((size, dim)).astype("float16"),
        "centre": rng.standard_normal(dim).astype("float16"),
        "rest": np.ones((groups, dim), "float16"),
        "contrast": np.array([1.5], "float16"),
    }
    return {"codes/" + name: array for name, array in held.items()}


def test_codes_follow_their_formula(page, tmp_path, rng):
    others = codes_of(rng, 12)
    loaded(page, weights(str(tmp_path / "w.safetensors"), others=others)[0])
    draw = "([label, T]) => { const r = randomOf(5); return Array.from({length: 1500}, () => Array.from(drawCode(read.codes, label, r, T))) }"  # noqa: E501
    held = {name[6:]: array.astype("float64") for name, array in others.items()}
    means = held["centre"] + held["means"] @ held["basis"]
    np.testing.assert_allclose(page.evaluate(draw, [0, 0])[0], means[0], rtol=1e-5, atol=1e-6)
    z = np.array(page.evaluate(draw, [0, 0.5]))
    directions = held["directions"][0] @ held["basis"]
    np.testing.assert_allclose(np.cov(z.T), 0.25 * directions.T @ directions, rtol=0.1, atol=0.3)
    of_second = np.isclose(page.evaluate(draw, [1, 0]), means[1], atol=1e-5).all(axis=1)
    assert of_second.mean() == pytest.approx(0.8, abs=0.05)
    assert page.evaluate("read.codes.contrast") == 1.5


def test_classifier_is_keras(page, digits):
    x = quality.scaled(digits.x_test[:20])
    shares = map_rows(page, "x => reader(x)", x)
    np.testing.assert_allclose(shares, quality.read(x)[0], atol=1e-4)


# -------------------------------------------------------------------------------- the plane

MAKE = """([choices, seed]) => {
    window.made = new PlaneFlow({couplings: 4, crossing: true, encodes: "9", scaling: true,
                                 ...choices}, randomOf(seed));
    const random = randomOf(5);
    made.weights.forEach((_, i) => { made.weights[i] += 0.2 * random.normal(); });
}"""


@pytest.mark.parametrize("choices", [{}, {"encodes": "7"}, {"crossing": False, "couplings": 2}])
def test_plane_s_gradients_and_jacobian(page, choices):
    page.evaluate(MAKE, [choices, 1])
    points = [[0.3, -0.8], [-1.1, 0.4], [0.9, 1.2]]
    codes = np.array([page.evaluate("x => made.encode([...x])", x) for x in points])
    back = np.array([page.evaluate("z => made.decode([...z])", z) for z in codes.tolist()])
    np.testing.assert_allclose(back, points, atol=1e-12)
    scale = np.exp(page.evaluate("Array.from(made.logScale)"))
    for x in points:
        found = page.evaluate("x => made.jacobian(x)", x)
        ahead, behind = (
            [page.evaluate("x => made.encode(x)", list(x + s)) for s in sign * 1e-6 * np.eye(2)]
            for sign in (1, -1)
        )
        differences = (np.array(ahead) - behind).T / 2e-6
        np.testing.assert_allclose(found["whole"], differences, atol=1e-6)
        assert np.linalg.det(found["whole"]) == pytest.approx(np.prod(scale))  # (8): only s counts
    # Gradients of the loss by the weights, against central differences.
    slopes, differences = page.evaluate("""x => {
        const flat = Float64Array.from(x.flat()), h = 1e-6, differences = [];
        made.gradients.fill(0);
        for (const point of x) made.backward([...point]);
        for (let i = 0; i < made.weights.length; i += 7) {
            const w = made.weights[i], at = v => { made.weights[i] = v; return made.loss(flat); };
            differences.push((at(w + h) - at(w - h)) / (2 * h));
            made.weights[i] = w;
        }
        const slopes = Array.from(made.gradients, g => g / x.length);
        return [slopes.filter((_, i) => i % 7 === 0), differences];
    }""", points)  # fmt: skip
    assert np.abs(slopes).max() > 0.01
    np.testing.assert_allclose(slopes, differences, atol=1e-6)


def test_plane_without_crossing_moves_one_number_alone(page):
    page.evaluate(MAKE, [{"crossing": False}, 1])
    x = page.evaluate("(() => { const h = [0.3, -0.8]; made.forward(h); return h; })()")
    assert x[0] == 0.3 and x[1] != -0.8
    page.evaluate(MAKE, [{"scaling": False}, 1])
    page.evaluate("made.logScale.fill(0); made.step(batchOf(16))")
    assert page.evaluate("Array.from(made.logScale)") == [0, 0]


def test_plane_learns_what_crossing_allows(page):
    def after_3000(**choices):
        for name, value in choices.items():
            if name == "couplings":
                page.locator("#couplings").fill(str(value))
            else:
                page.locator(f"#{name}").set_checked(value)
        page.click("#reset")
        page.evaluate("for (let n = 0; n < 3000; n++) plane.flow.step(batchOf(BATCH))")
        page.click("#step")
        settle(page)
        assert "3001" in page.locator("#plane-loss").inner_text()
        return number(page.locator("#plane-loss").inner_text())

    assert after_3000() == pytest.approx(0.879, abs=0.05)
    uncrossed = after_3000(crossing=False)
    assert uncrossed == pytest.approx(1.702, abs=0.05)
    assert after_3000(couplings=1) == pytest.approx(uncrossed, abs=0.02)
    page.locator("#crossing").check()
    page.locator("#couplings").fill("4")


def test_plane_plays_steps_and_shows_its_jacobian(page):
    page.click("#reset")
    before = canvas(page, "plane")
    page.click("#play")
    page.wait_for_function("plane.flow.steps > 50")
    page.click("#play")
    settle(page)
    steps = page.evaluate("plane.flow.steps")
    assert np.abs(canvas(page, "plane") - before).max() > 60
    page.click("#step")
    settle(page)
    assert page.evaluate("plane.flow.steps") == steps + 1
    page.click("#play")
    page.locator(
        "#weights"
    ).scroll_into_view_if_needed()  # out of sight it leaves the others the time
    page.wait_for_timeout(200)
    steps = page.evaluate("plane.flow.steps")
    page.wait_for_timeout(200)
    assert page.evaluate("plane.flow.steps") == steps
    page.click("#play")
    page.hover("#plane", position={"x": 60, "y": 90})
    settle(page)
    text = page.locator("#jacobian").inner_text()
    assert "det = 1" in text and "(8)" in text
    determinant = page.evaluate("Math.exp(plane.flow.logScale[0] + plane.flow.logScale[1])")
    assert f"{determinant:.3f}" in text
    cells = page.locator("#jacobian .matrix").first.locator("span").all_inner_texts()
    assert cells[:2] == ["1", "0"] and cells[3] == "1"
    page.focus("#plane")
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert page.locator("#jacobian").inner_text() != text
    page.select_option("#points", "own")
    box = page.locator("#plane").bounding_box()
    page.mouse.move(box["x"] + 80, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 120, steps=3)
    page.mouse.up()
    assert page.evaluate("plane.drawn.length") > 5
    page.click("#step")
    assert np.isfinite(number(page.locator("#plane-loss").inner_text()))
    page.select_option("#points", "moons")


# -------------------------------------------------------------------------------- the cards


def test_sliders_leaf_through_a_sprite_until_weights_are_there(visit, address):
    one = visit()
    held = []
    one.page.route(re.compile("/weights/compact"), lambda route: held.append(route))
    page = one.open(f"{address}/play/", wait="sprite.width && !dirty.size")
    page.wait_for_function("document.fonts.ready && digits()")
    before = canvas(page, "digit")
    assert before.max() > 100  # z = 0, no black box
    for value, column in (("6", 8), ("-6", 0)):
        page.locator("#wide input").first.fill(value)
        settle(page)
        frame = np.array(page.evaluate("""column => {
            const c = document.createElement("canvas");
            [c.width, c.height] = [28, 28];
            c.getContext("2d").drawImage(sprite, 28 * column, 0, 28, 28, 0, 0, 28, 28);
            const d = c.getContext("2d").getImageData(0, 0, 28, 28).data;
            return Array.from({length: 784}, (_, i) => d[4 * i]);
        }""", column))  # fmt: skip
        assert np.array_equal(canvas(page, "digit"), frame)
    for name in ("#new", "#T", "#ask-3", "#pair"):
        assert page.locator(name).is_disabled()
        assert page.locator(name).get_attribute("title").startswith("Waits for the")
    assert page.locator("#nocodes").is_hidden()
    expect(page.locator("#waiting")).to_contain_text("0 of 6 MB")
    held[0].continue_()
    page.wait_for_function("window.nice")
    settle(page)
    assert page.locator("#waiting").inner_text() == ""
    assert np.abs(canvas(page, "digit") - frame).mean() < 2  # the same picture, now decoded
    assert not page.locator("#new").is_disabled()


def test_sliders_move_the_picture(page):
    page.click("#zero")
    settle(page)
    before, terms = canvas(page, "digit"), page.locator("#terms").inner_text()
    wide = page.locator("#wide input").first
    wide.fill("6")
    settle(page)
    assert np.abs(canvas(page, "digit") - before).max() > 60
    assert page.locator("#terms").inner_text() != terms
    moved = canvas(page, "digit")
    page.locator("#narrow input").fill("3")
    settle(page)
    assert np.abs(canvas(page, "digit") - moved).mean() < 1
    wide.focus()
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert page.evaluate("moves().get(+document.activeElement.dataset.dimension)") == 5.9
    page.keyboard.press("Home")
    settle(page)
    assert np.abs(canvas(page, "digit") - moved).max() > 60
    page.click("#new")
    settle(page)
    assert not np.array_equal(canvas(page, "digit"), before)
    assert "z=s" in page.evaluate("new Promise(f => setTimeout(() => f(location.hash), 400))")


def test_a_tap_on_a_sigma_gives_its_slider(page, flow):
    order = np.argsort(-flow.sigma, kind="stable")
    page.locator("#spectrum").scroll_into_view_if_needed()
    box = page.locator("#spectrum").bounding_box()
    page.mouse.click(box["x"] + 100.5 / 784 * box["width"], box["y"] + 20)
    settle(page)
    assert int(page.locator("#narrow input").get_attribute("data-dimension")) in order[98:103]
    page.locator("#sigma-map").scroll_into_view_if_needed()
    box = page.locator("#sigma-map").bounding_box()  # (13): four reversals are none
    page.mouse.click(box["x"] + 10.5 / 28 * box["width"], box["y"] + 20.5 / 28 * box["height"])
    settle(page)
    assert page.locator("#narrow input").get_attribute("data-dimension") == str(20 * 28 + 10)
    page.locator("#dimension").fill("3")
    settle(page)
    assert page.locator("#narrow input").get_attribute("data-dimension") == str(order[3])
    words = page.locator("#sigmas").inner_text()
    assert words.startswith(f"{(flow.sigma > 0.1).sum()} of 784")
    page.locator("#dimension").fill("783")
    settle(page)


def test_terms_add_up(page, flow):
    page.click("#encode")
    settle(page)
    numbers = re.findall(r"^[=−]? ?(−?\d+\.\d)$", page.locator("#terms").inner_text(), re.M)
    total, *terms = (float(n.replace("−", "-")) for n in numbers)
    assert len(terms) == 3
    assert total == pytest.approx(terms[0] - sum(terms[1:]), abs=0.2)
    assert terms[0] == pytest.approx(
        float(flow.map(np.zeros((1, flow.dim), "float32"))[1][0]), abs=0.1
    )


def test_drawn_digit(page, flow, digits):
    page.click("#clear")
    drawn(page, SEVEN)
    look = np.array(page.evaluate("Array.from(look)"), "uint8")
    y, x = center_of_mass(look.reshape(28, 28))
    assert abs(x - 14) <= 1 and abs(y - 14) <= 1
    rows, columns = (np.flatnonzero(look.reshape(28, 28).any(axis=a)) for a in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    nats = flow.log_likelihood(flow.scale(look[None]))[0]
    assert number(page.locator("#nats").inner_text()) == pytest.approx(
        nats, abs=0.1 + 1e-5 * abs(nats)
    )
    assert number(page.locator("#trip").inner_text()) < 1e-5
    share = quality.read(quality.scaled(look[None]))[0][0, 7]
    expect(page.locator("#seen-read")).to_have_text(f"read as 7, {100 * share:.0f} %")
    expect(page.locator("#seen")).to_have_attribute("aria-label", re.compile("read as 7"))
    # Its neighbours are NumPy's, once they are asked for.
    assert page.locator("#neighbours figcaption").count() == 0
    page.click("#nearest")
    expect(page.locator("#neighbours figcaption")).to_have_count(8, timeout=20_000)
    distances = np.linalg.norm((digits.x_train.astype("float32") - look) / 255, axis=1)
    nearest = np.argsort(distances)[:8]
    shown = page.locator("#neighbours figcaption").all_inner_texts()
    assert shown == [f"{digits.y_train[i]} · {distances[i]:.1f}" for i in nearest]


def test_a_drawing_travels_in_the_link(page, visit, address):
    page.click("#clear")
    drawn(page, SEVEN)
    page.evaluate("history.replaceState(null, '', addressOf())")
    fragment = page.url.split("#")[1]
    assert "x=d" in fragment and len(fragment) < 300
    one = visit()
    one.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    again = one.open(f"{address}/play/", fragment, wait=READY)
    settle(again)
    assert again.evaluate("Array.from(look)") == page.evaluate("Array.from(look)")
    assert again.locator("#nats").inner_text() == page.locator("#nats").inner_text()
    again.click("#share")
    share = re.search(r"than (\d+)", again.locator("#rank").inner_text()).group(1)
    words = again.evaluate("navigator.clipboard.readText()")
    assert words.startswith("My 7 is likelier than ") and words.endswith("#" + fragment)
    assert abs(int(re.search(r"than (\d+)", words).group(1)) - int(share)) <= 1
    again.evaluate("location.hash = 'x=t3'")  # as when another link is followed
    again.wait_for_function("state.x === 't3' && look.some(Boolean) && !dirty.size")
    assert again.evaluate("Array.from(look)") == again.evaluate("Array.from(testDigit('t3'))")


def test_presets(page, flow, digits):
    def nats():
        settle(page)
        return number(page.locator("#nats").inner_text())

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
    assert "no difference" in page.locator("#surprise").inner_text()
    page.click("#clear")
    blank = nats()
    assert blank == expected(np.zeros(784, "uint8"))
    page.click("#corner")
    assert nats() < blank - 1000
    page.click("#corner")


def test_each_digit_asked_for_is_drawn(page):
    pictures = []
    asked = [2, 4, 7]
    for digit in asked:
        page.click(f"#ask-{digit}")
        settle(page)
        assert page.locator(f"#ask-{digit}").get_attribute("aria-pressed") == "true"
        pictures.append(canvas(page, "asked") / 255)
    read = quality.read(np.stack(pictures))[0].argmax(axis=1)
    assert (read == asked).sum() >= 2, read
    expect(page.locator("#asked-read")).to_have_text(re.compile(r"[6-9] of 9 read as 7"))
    page.evaluate("window.shown = panels.prior")
    page.locator("#spread").fill("0.5")
    settle(page)
    assert page.evaluate("shown === panels.prior")  # the other panel is not drawn anew


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


# --------------------------------------------------------------------------- as people use it


def test_what_is_fetched_unasked_is_small(visit, address):
    one = visit()
    one.open(f"{address}/play/", wait=READY)
    paths = {
        url.split("#")[0].removeprefix(address) for url in one.requests if url.startswith(address)
    }
    files = [
        os.path.join(ROOT, p.strip("/"), "index.html" if p.endswith("/") else "") for p in paths
    ]
    sizes = {os.path.basename(f.rstrip("/")): os.path.getsize(f.rstrip("/")) for f in files}
    assert "mnist.npz" not in sizes and sum(sizes.values()) < 9e6
    before = [n for n in sizes if n.endswith((".js", ".css", ".html", "sprite.png"))]
    assert sum(sizes[n] for n in before) < 150e3  # before the first touch
    shifts = one.page.evaluate("""new Promise(done => {
        const sum = list => list.getEntries().reduce((s, e) => s + e.value, 0);
        const observer = new PerformanceObserver(list => done(sum(list)));
        observer.observe({type: "layout-shift", buffered: true});
        setTimeout(() => done(0), 300);
    })""")  # fmt: skip
    assert shifts <= 0.02


def test_language_switches_every_word(page):
    page.evaluate("clear('')")
    english = page.locator("body").inner_text()
    page.click("#language")
    settle(page)
    page.wait_for_function("['asked', 'prior'].every(id => /张/.test($(`${id}-read`).textContent))")
    chinese = page.locator("body").inner_text()
    assert page.locator("html").get_attribute("lang") == "zh"
    for word in ("加性耦合层", "尺度变换层", "交错", "采样", "温度"):
        assert word in chinese and word not in english
    lines = set(english.splitlines()) & set(chinese.splitlines())
    assert [line for line in lines if re.search(r"[A-Za-z]{4,} [a-z]{3,}", line)] == []
    page.click("#language")
    settle(page)
    assert page.locator("html").get_attribute("lang") == "en"
    latin = "Object.keys(WORDS).filter(key => !/[\\u4e00-\\u9fff]/.test(WORDS[key][1]))"
    assert page.evaluate(latin) == ["language", "nats", "t", "loading"]


def test_controls_have_names(page):
    unnamed, names, live = page.evaluate("""() => {
        const text = (e) => e?.textContent.trim();
        const name = (e) => e.ariaLabel || (e.matches("button") && text(e)) || text(e.labels?.[0]);
        const shown = (e) => !e.ariaHidden;
        const find = (selector) => [...document.querySelectorAll(selector)].filter(shown);
        const controls = find("button, input, select, canvas");
        return [controls.filter(e => !name(e)).map(e => e.outerHTML),
                find("canvas[id]").map(name),
                find("output, [aria-live=polite], [role=status], [role=alert]").length];
    }""")  # fmt: skip
    assert unnamed == []
    assert len(set(names)) == len(names)
    assert live <= 4  # the message, what is loading, what was copied, the Jacobian under the keys
    slider = page.locator("#wide input").first
    assert re.fullmatch(r"z \d+, σ 0\.\d+", slider.get_attribute("aria-label"))
    assert page.locator("#draw").get_attribute("role") != "img"


def drop(page, name, content):
    page.evaluate(
        f"""([name, b]) => {{
            const transfer = new DataTransfer();
            transfer.items.add(new File([({BYTES})(b)], name));
            const init = {{dataTransfer: transfer, bubbles: true, cancelable: true}};
            document.body.dispatchEvent(new DragEvent("drop", init));
        }}""",
        [name, base64.b64encode(content).decode()],
    )


def bad_files(path):
    content, _ = weights(path)
    convolved, _ = weights(path, network="conv", channels=2, kernel=3)

    def with_header(old, new, content=content):
        length = int.from_bytes(content[:8], "little")
        header, body = content[8 : 8 + length], content[8 + length :]
        changed = header.replace(old, new)
        assert changed != header
        return len(changed).to_bytes(8, "little") + changed + body

    empty = b'{"__metadata__": {"configuration": "{}"}}'
    return {
        "cut.safetensors": content[:-40],
        "header.safetensors": content[:30],
        "empty.safetensors": b"",
        "foreign.safetensors": len(empty).to_bytes(8, "little") + empty,
        "text.safetensors": b"no weights at all, but some text",
        "nan.safetensors": content[:-16] + b"\xff" * 16,
        "half.safetensors": with_header(b'\\"couplings\\": 4', b'\\"couplings\\": 1.5'),
        "levels.safetensors": with_header(b'\\"levels\\": 255', b'\\"levels\\": 1e300'),
        "wide.safetensors": with_header(b'\\"dim\\": 12', b'\\"dim\\": 100000000')
        .replace(b'\\"picture\\": [3, 4]', b'\\"picture\\": [10000, 10000]'),
        "network.safetensors": with_header(b'{\\"dim', b'{\\"network\\": \\"wave\\", \\"dim'),
        "torn.safetensors": with_header(b'\\"reverse', b'\\"random', convolved),
        "odd.safetensors": with_header(b"[3, 4]", b"[4, 3]", convolved),
        "packed.safetensors.gz": b"\x1f\x8b\x08" + bytes(40),
        "mine.npz": b"PK\x03\x04" + bytes(100),
    }  # fmt: skip


def test_bad_file_gets_one_message_and_changes_nothing(page, tmp_path):
    z = np.linspace(-1, 1, 784)[None]
    before = map_rows(page, "nice.decode", z)
    for name, content in bad_files(str(tmp_path / "w.safetensors")).items():
        drop(page, name, content)
        expect(page.locator("#message")).to_contain_text(name, timeout=2000)
        expect(page.locator("#message")).to_contain_text("damaged")
        assert np.array_equal(map_rows(page, "nice.decode", z), before), name
        page.click("#close")
        expect(page.locator("#message")).to_be_hidden()
    page.evaluate("openFiles([{name: 'huge.safetensors', size: 3e9}])")
    expect(page.locator("#message")).to_contain_text("huge.safetensors is damaged, too large")
    page.click("#close")
    page.click("#new")
    settle(page)
    assert canvas(page, "digit").max() > 0


def test_own_file_of_other_pictures(visit, address, tmp_path):
    first, _ = weights(str(tmp_path / "a.safetensors"), picture=(28, 28), dim=784, couplings=1)
    path = str(tmp_path / "mine.safetensors")
    weights(path, prior="logistic", picture=(2, 6), couplings=9)
    one = visit(first)
    page = one.open(f"{address}/play/", "w=paper")
    page.set_input_files("#file", path)
    page.wait_for_function("nice.name === 'mine.safetensors'")
    settle(page)
    assert page.evaluate("[$('digit').width, $('digit').height]") == [6, 2]
    assert page.locator("#stages figure").count() == 8  # of eleven
    assert page.locator("#weights").input_value() == "mine.safetensors"
    assert "logistic" in page.locator("#facts").inner_text()
    assert "softplus" in page.locator("#terms").inner_text()
    page.wait_for_function("data && !dirty.size")
    expect(page.locator("#rank")).to_contain_text("2 × 6")
    page.wait_for_timeout(300)
    assert "w=" not in page.url  # which no longer names what is shown
    page.select_option("#weights", "paper")
    page.wait_for_function("nice.name === 'paper'")


def test_own_weights_get_likelihoods_of_their_own(visit, address, tmp_path, digits):
    path = str(tmp_path / "mine.safetensors")
    first, mine = weights(path, picture=(28, 28), dim=784, couplings=2)
    page = visit(first).open(f"{address}/play/", wait="window.nice && digits() && shippedNats")
    page.set_input_files("#file", path)
    own = "nats.flow === flow && nice.name === 'mine.safetensors' && nats.known.length >= 50"
    page.wait_for_function(own)
    x = mine.scale(digits.x_test[:50])
    np.testing.assert_allclose(page.evaluate("nats.known")[:50], mine.log_likelihood(x), rtol=1e-4)


def test_nothing_else_is_fetched_for_a_file_that_is_cut(visit, address):
    one = visit()
    with open(compact.path_of("deep"), "rb") as file:
        part = file.read(3_000_000)
    one.page.route("**/weights/deep*", lambda route: route.fulfill(body=part))
    page = one.open(f"{address}/play/", "w=deep", wait="told")
    expect(page.locator("#message")).to_contain_text("deep.safetensors is damaged")
    assert [
        u for u in one.requests if "/weights/" in u and "deep" not in u and "classifier" not in u
    ] == []
    one.page.unroute("**/weights/deep*")
    page.click("#again")
    page.wait_for_function("window.nice?.name === 'deep'")
    expect(page.locator("#message")).to_be_hidden()


@pytest.mark.parametrize("beside", ["missing", "damaged", "old", "sound"])
def test_weights_open_whatever_the_codes_beside_them(visit, address, tmp_path, rng, beside):
    content, _ = weights(str(tmp_path / "a.safetensors"), picture=(28, 28), dim=784, couplings=1)
    held = codes_of(rng, 784)
    if beside == "old":
        held = {"codes/low": held.pop("codes/centre"), "codes/means": np.zeros((3, 784), "float16")}
    sound = safetensors.numpy.save(held, {"configuration": "{}"})
    answer = {"missing": {"status": 404}, "damaged": {"body": b"no codes"}}
    one = visit(content)
    one.page.route("**/deep.codes.*", lambda r: r.fulfill(**answer.get(beside, {"body": sound})))
    page = one.open(f"{address}/play/", "w=deep&ask=1", wait="window.nice && !dirty.size")
    assert page.evaluate("nice.name") == "deep"
    assert page.locator("#nocodes").is_hidden() == (beside == "sound")
    assert page.locator("#message").is_hidden()
    one.forgive("404")


def test_lost_network_is_told_and_tried_again(visit, address):
    one = visit()
    one.page.route("**/mnist.npz", lambda route: route.abort())
    one.page.route("**/digits.gz", lambda route: route.abort())
    page = one.open(f"{address}/play/", wait="window.nice && told")
    expect(page.locator("#message")).to_contain_text("digits.gz could not be fetched")
    assert page.locator("#some").is_disabled()
    one.page.unroute("**/digits.gz")
    page.click("#again")
    page.wait_for_function("digits()")
    page.click("#nearest")
    expect(page.locator("#message")).to_contain_text("mnist.npz could not be fetched")
    one.page.unroute("**/mnist.npz")
    page.click("#again")
    expect(page.locator("#neighbours figcaption")).to_have_count(8, timeout=20_000)
    expect(page.locator("#message")).to_be_hidden()
    one.forgive("ERR_FAILED")


def test_missing_files_are_told(visit, address):
    one = visit()
    one.page.route("**/weights/compact*", lambda route: route.fulfill(status=404))
    page = one.open(f"{address}/play/", wait="told")
    expect(page.locator("#message")).to_contain_text("compact.safetensors.gz could not be fetched")
    page.select_option("#weights", "deep")
    page.wait_for_function("window.nice?.name === 'deep'")
    one.forgive("404")


def test_a_policy_without_workers_leaves_the_rest(visit, address):
    def forbid(route):
        headers = {"content-type": "text/html", "content-security-policy": "worker-src 'none'"}
        with open(os.path.join(PLAY, "index.html"), "rb") as file:
            route.fulfill(body=file.read(), headers=headers)

    one = visit()
    one.page.route(re.compile("/play/$"), forbid)
    page = one.open(f"{address}/play/", wait=READY)
    page.click("#some")
    expect(page.locator("#rank")).to_contain_text("of 1000 test digits")
    page.click("#nearest")
    expect(page.locator("#message")).to_contain_text("No worker is allowed here")
    one.forgive("Content Security Policy")


def test_older_browsers_do(visit, address):
    one = visit()
    one.page.add_init_script("""
        for (const kind of [Array, Object.getPrototypeOf(Float32Array)])
            for (const name of ["toSorted", "toReversed", "with", "at", "findLast"])
                delete kind.prototype[name];
        delete Object.hasOwn;
        delete Object.groupBy;
    """)
    page = one.open(f"{address}/play/", wait=READY)
    for button in ("encode", "some", "ask-4", "pair", "step"):
        page.click(f"#{button}")
    settle(page)
    assert page.locator("#message").is_hidden()


@pytest.mark.parametrize(
    "fragment",
    [
        "lang=constructor",
        "couplings=1e9&speed=-3&T=x",
        "moved=a:b,5:,7&x=d!&z=&w=../x",
        "points=toString&encodes=1",
    ],
)
def test_any_address_opens(visit, address, tmp_path, fragment):
    content, _ = weights(str(tmp_path / "a.safetensors"), picture=(28, 28), dim=784, couplings=1)
    page = visit(content).open(f"{address}/play/", fragment)
    settle(page)
    assert "Train a flow" in page.locator("body").inner_text()
    page.click("#step")
    settle(page)
    assert page.evaluate("plane.flow.steps") == 1
    assert page.locator("#message").is_hidden()


def test_address_holds_the_state(visit, address, tmp_path):
    content, _ = weights(str(tmp_path / "a.safetensors"))
    first = visit(content).open(f"{address}/play/")
    first.click("#new")
    first.locator("#T").fill("0.6")
    first.locator("#wide input").nth(1).fill("3")
    first.locator("#crossing").uncheck()
    first.click("#theme")
    first.click("#language")
    first.wait_for_function("location.hash.includes('zh') && location.hash.includes('moved')")
    again = visit(content).open(*first.url.split("#"))
    settle(first), settle(again)
    assert np.array_equal(canvas(first, "digit"), canvas(again, "digit"))
    assert not again.locator("#crossing").is_checked()
    for page in (first, again):
        assert page.locator("html").get_attribute("lang") == "zh"
        assert page.locator("html").get_attribute("data-theme") == "dark"


def test_reader_s_language_and_theme_come_first(visit, address, tmp_path):
    content, _ = weights(str(tmp_path / "a.safetensors"))
    page = visit(content, locale="zh-CN", color_scheme="dark").open(f"{address}/play/")
    assert page.locator("html").get_attribute("lang") == "zh"
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_without_javascript_the_page_says_what_it_is(visit, address):
    page = visit(java_script_enabled=False).page
    page.goto(f"{address}/play/")
    assert page.locator("noscript").inner_text().count("JavaScript") == 2
    with open(os.path.join(PLAY, "index.html"), encoding="utf-8") as file:
        source = file.read()
    for found in ("<title>NICE", 'name="description"', 'property="og:image"', 'href="../"'):
        assert found in source
    image = re.search(r'og:image" content="([^"]+)"', source).group(1)
    assert os.path.exists(os.path.join(PLAY, image))


# ------------------------------------------------------------------------------- the layout

OVERFLOW = """() => {
    const wide = document.documentElement.clientWidth, found = [];
    for (const e of document.querySelectorAll("body *")) {
        const box = e.getBoundingClientRect(), card = e.closest("section")?.getBoundingClientRect();
        const most = Math.min(wide, card?.right ?? wide) + 0.5;
        if (box.width && !e.closest("[hidden], svg") && box.right > most)
            found.push(`${e.tagName}#${e.id}.${e.className} ${box.right}`);
    }
    return [document.documentElement.scrollWidth - wide, found];
}"""


@pytest.mark.parametrize("width", [360, 701, 768, 1280])
def test_nothing_is_wider_than_the_page(visit, address, width):
    page = visit(viewport={"width": width, "height": 800}).open(f"{address}/play/", wait=READY)
    page.click("#encode")
    for size in ("100%", "200%"):
        page.evaluate("size => { document.documentElement.style.fontSize = size }", size)
        for _ in range(2):
            settle(page)
            assert page.evaluate(OVERFLOW) == [0, []], size
            page.click("#language")
    small = (
        page.evaluate("""() => [...document.querySelectorAll("body *")].filter(e => e.offsetWidth
        && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())
        && !e.matches("sup, sub, i")
        && parseFloat(getComputedStyle(e).fontSize) < 24).map(e => e.outerHTML)""")
    )  # 12 px at 100 %
    assert small == []


def test_phone(visit, address):
    size = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    page = visit(**size).open(f"{address}/play/", wait=READY)
    page.locator("#wide input").last.scroll_into_view_if_needed()
    picture, slider = (
        page.locator(name).bounding_box() for name in ("#digit", "#wide label:last-child")
    )
    assert picture["y"] >= 0 and picture["y"] + picture["height"] <= slider["y"] + 1  # both in view
    page.locator("#draw").scroll_into_view_if_needed()
    box = page.locator("#draw").bounding_box()
    page.touchscreen.tap(box["x"] + 50, box["y"] + 90)
    settle(page)
    assert page.evaluate("look.some(Boolean)")


def test_only_the_main_button_and_the_first_finger_draw(page):
    page.click("#clear")
    settle(page)
    page.evaluate("""() => {
        const box = pad.getBoundingClientRect();
        const send = (kind, id, x, more) => pad.dispatchEvent(new PointerEvent(kind, {
            pointerId: id, clientX: box.x + x, clientY: box.y + 40, isPrimary: true, bubbles: true,
            ...more}));
        pad.setPointerCapture = () => {};
        send("pointerdown", 1, 30, {button: 2});
        send("pointermove", 1, 90);
        send("pointerup", 1, 90, {button: 2});
    }""")  # fmt: skip
    settle(page)
    assert not page.evaluate("look.some(Boolean)")
    page.evaluate("""() => {
        const box = pad.getBoundingClientRect();
        const send = (kind, id, x, y) => pad.dispatchEvent(new PointerEvent(kind, {
            pointerId: id, clientX: box.x + x, clientY: box.y + y, isPrimary: id === 1,
            bubbles: true}));
        send("pointerdown", 1, 30, 30);
        send("pointerdown", 2, 200, 200);
        send("pointermove", 2, 220, 200);
        send("pointermove", 1, 40, 30);
        send("pointerup", 2, 220, 200);
        send("pointerup", 1, 40, 30);
        delete pad.setPointerCapture;
    }""")  # fmt: skip
    settle(page)
    rows = canvas(page, "draw").reshape(280, 280)
    assert rows[:90, :90].any() and not rows[120:].any() and not rows[:, 120:].any()
    page.click("#clear")


def test_keyboard_draws(page):
    page.click("#clear")
    page.focus("#draw")
    for key in (" ", *["ArrowDown"] * 8, " ", *["ArrowRight"] * 5):
        page.keyboard.press(key)
    settle(page)
    look = np.array(page.evaluate("Array.from(look)")).reshape(28, 28)
    assert look.any(axis=1).sum() == 20 and look.any(axis=0).sum() < 12
    page.click("#clear")


CONTRAST = """() => {
    const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (text) => rgb(text).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ratio = (...pair) => (Math.max(...pair.map(light)) + 0.05)
        / (Math.min(...pair.map(light)) + 0.05);
    const behind = (e) => {
        for (; e; e = e.parentElement) {
            const colour = getComputedStyle(e).backgroundColor;
            if (rgb(colour)[3] !== 0) return colour;
        }
    };
    const found = [];
    for (const e of document.querySelectorAll("body *")) {
        const style = getComputedStyle(e), shown = e.offsetWidth || e.closest("svg");
        if (!shown || e.disabled) continue;
        const text = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
        const colour = e.tagName === "text" ? style.fill : style.color;
        if (text && e.id !== "hint" && ratio(colour, behind(e)) < 4.5)
            found.push(e.outerHTML.slice(0, 90));
        const edged = e.matches("button:not(.quiet), .button, select, canvas");
        const seen = ["borderColor", "backgroundColor"].map(
            name => ratio(style[name], behind(e.parentElement)));
        if (edged && Math.max(...seen) < 3) found.push(e.id);
        if (e.matches(".bars") && ratio(style.fill, behind(e)) < 3) found.push("bars");
    }
    return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_enough(page, theme):
    if page.locator("html").get_attribute("data-theme") != theme:
        page.click("#theme")
    page.hover("#plane", position={"x": 60, "y": 90})
    settle(page)
    assert page.evaluate(CONTRAST) == []


def test_forced_colours_leave_everything_to_see(visit, address):
    page = visit(forced_colors="active").open(f"{address}/play/", wait=READY)
    page.click("#ask-4")
    settle(page)
    style = """e => {
        const s = getComputedStyle(e);
        return [s.borderTopWidth, s.borderTopColor, s.backgroundColor];
    }"""
    for name in ("#draw", "#digit", "#plane"):
        width, edge, ground = page.locator(name).evaluate(style)
        assert width != "0px" and edge != page.locator("section").first.evaluate(style)[2]
    assert page.locator("#ask-4").evaluate(style)[2] != page.locator("#ask-5").evaluate(style)[2]


def test_opened_as_a_file(visit, tmp_path):
    path = str(tmp_path / "a.safetensors")
    weights(path, picture=(28, 28), dim=784, couplings=2)
    page = visit().open(f"file://{PLAY}/index.html", wait="told")
    expect(page.locator("#message")).to_contain_text("make play")
    page.click("#close")
    page.select_option("#weights", "paper")
    expect(page.locator("#message")).to_contain_text(
        "make play"
    )  # and not that the file is damaged
    page.set_input_files("#file", [path, options.MNIST])
    page.wait_for_function("window.nice && digits()")
    page.click("#encode")
    settle(page)
    assert canvas(page, "digit").max() > 100


def test_page_is_small_and_alone():
    written = [
        p for kind in ("js", "html", "css") for p in glob.glob(os.path.join(PLAY, "*." + kind))
    ]
    assert sum(map(os.path.getsize, written)) <= 90 * 1024
    for path in written:
        with open(path, encoding="utf-8") as file:
            source = file.read()
        assert source.count("\n") <= 250, path
        found = re.findall(r"https?://[\w./-]+", source)
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
