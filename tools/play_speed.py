"""How fast is the page in play/? Needs Chromium and requirements-test.txt; prints one table.

python tools/play_speed.py
"""

import functools
import glob
import http.server
import os
import shutil
import statistics
import threading
import time

from playwright.sync_api import sync_playwright

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip
NETWORK = {
    "offline": False,
    "latency": 40,
    "downloadThroughput": 9e6 / 8,
    "uploadThroughput": 9e6 / 8,
}
TOUCH = (
    "() => typeof sprite === 'object' && sprite.width && typeof dirty === 'object' && !dirty.size"
)
PICTURE = "() => window.nice && $('digit').width > 1 && !dirty.has('code')"
EVERYTHING = "() => window.nice && digits() && reader !== null && nats.known.length === 1000"
# Milliseconds from an input event to the frame after its picture, or to the nats.
MOVE = """() => new Promise(done => {
    const input = document.querySelector('[data-dimension]');
    input.value = 8 * Math.random() - 4;
    const start = performance.now();
    input.dispatchEvent(new Event('input', {bubbles: true}));
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""
STROKE = """() => new Promise(done => {
    const at = () => 0.2 + 0.6 * Math.random(), start = performance.now();
    stroke(at(), at(), at(), at());
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""
# Steps and pictures in two seconds of play, at `speed` steps a picture.
PLAY = """speed => new Promise(done => {
    set({speed}, "plane");
    resetPlane();
    let pictures = 0;
    const draw = CARDS.plane, start = performance.now();
    CARDS.plane = () => { pictures++; draw(); };
    play(true);
    setTimeout(() => {
        play(false);
        CARDS.plane = draw;
        const seconds = (performance.now() - start) / 1000;
        done([plane.flow.steps / seconds, pictures / seconds]);
    }, 2000);
})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def open_page(browser, address, name, slow=False):
    """A page, the seconds to its first touch and to its first decoded picture, and its bytes."""
    page, received = browser.new_context().new_page(), []
    page.on("requestfinished", lambda r: received.append(r.sizes()["responseBodySize"]))
    if slow:
        page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", NETWORK)
    start = time.perf_counter()
    page.goto(f"{address}/play/#w={name}", wait_until="commit")
    times = []
    for state in (TOUCH, PICTURE):
        page.wait_for_function(state, timeout=120_000)
        times.append(time.perf_counter() - start)
    page.wait_for_function(EVERYTHING, timeout=120_000)
    page.wait_for_timeout(500)
    return page, *times, sum(received)


def main():
    handler = functools.partial(Quiet, directory=ROOT)
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        sync_playwright() as playwright,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        kinds = ("js", "css", "html")
        sizes = [os.path.getsize(p) for k in kinds for p in glob.glob(f"{ROOT}/play/*.{k}")]
        print(f"{sum(sizes):,} bytes of JavaScript, HTML and CSS")
        page, touch, picture, received = open_page(browser, address, "", slow=True)
        print(f"at 9 Mbit/s and 40 ms: first touch {touch:.2f} s, first picture {picture:.2f} s")
        print(f"fetched unasked: {received:,} bytes")
        for speed in (1, 5, 20):
            steps, pictures = page.evaluate(PLAY, speed)
            print(
                f"plane, {speed} a picture: {steps:.0f} steps and {pictures:.0f} pictures a second"
            )
        page.context.close()
        print("ms         slider   stroke to nats   (medians)")
        for name in ("compact", "pretrained", "deep", "conv"):
            page, *_ = open_page(browser, address, name)
            page.evaluate("clear('t0')")
            moves = [page.evaluate(MOVE) for _ in range(40)]
            strokes = [page.evaluate(STROKE) for _ in range(15)]
            medians = map(statistics.median, (moves, strokes))
            print("{:10} {:6.1f} {:16.1f}".format(name, *medians))
            page.context.close()
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
