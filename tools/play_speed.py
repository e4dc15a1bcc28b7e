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
PICTURE = "() => window.nice && $('digit').width > 1 && !dirty.has('drawCode')"
# Milliseconds from an input event to the frame after its picture, or to the neighbours.
MOVE = """() => new Promise(done => {
    const input = document.querySelector('[data-dimension]');
    input.value = 8 * Math.random() - 4;
    const start = performance.now();
    input.dispatchEvent(new Event('input', {bubbles: true}));
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""
STROKE = """() => new Promise(done => {
    const at = () => 60 + 160 * Math.random(), start = performance.now();
    let nats = 0;
    new MutationObserver((_, self) => {
        self.disconnect();
        done([nats, performance.now() - start]);
    }).observe($('neighbours'), {childList: true});
    stroke(at(), at(), at(), at());
    requestAnimationFrame(() => setTimeout(() => { nats = performance.now() - start; }));
})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def measure(browser, address, name):
    """Milliseconds: first picture, slider, stroke to nats, stroke to neighbours; medians."""
    page = browser.new_context().new_page()
    start = time.perf_counter()
    page.goto(f"{address}/play/#w={name}")
    page.wait_for_function(PICTURE)
    first = 1000 * (time.perf_counter() - start)
    page.wait_for_function("nats.histogram.length === 1000", timeout=600_000)
    sliders = [page.evaluate(MOVE) for _ in range(40)]
    strokes = []
    for _ in range(15):
        page.evaluate("clear('')")
        page.wait_for_timeout(300)
        strokes.append(page.evaluate(STROKE))
    page.context.close()
    return first, *map(statistics.median, (sliders, *zip(*strokes)))


def main():
    handler = functools.partial(Quiet, directory=ROOT)
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        sync_playwright() as playwright,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        print(f"{sum(map(os.path.getsize, glob.glob(f'{ROOT}/play/*'))):,} bytes in play/")
        print("ms         first picture   slider   stroke to nats   to its neighbours")
        for name in ("deep", "pretrained"):
            row = measure(browser, f"http://127.0.0.1:{server.server_port}", name)
            print("{:10} {:13.0f} {:8.1f} {:16.1f} {:19.1f}".format(name, *row))
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
