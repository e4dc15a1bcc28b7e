"""Take docs/play.png, the README's picture of the page in play/: `make play` must be running.

python tools/screenshot.py --output docs/play.png
"""

import argparse
import shutil

from PIL import Image
from playwright.sync_api import sync_playwright

# Without the change of places and with it, so that both losses are to be seen.
TRAIN = """() => {
    for (const crossing of [0, 1]) {
        set({crossing}, "plane");
        resetPlane();
        for (let n = 0; n < 3000; n++) {
            plane.flow.step(batchOf(BATCH));
            if (n % 25 === 24) record();
        }
    }
    showControls();
}"""

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--address", default="http://127.0.0.1:8000/play/")
parser.add_argument("--state", default="lang=en&theme=light", help="the address's hash")
parser.add_argument("--output", default="docs/play.png")
args = parser.parse_args()

with sync_playwright() as playwright:
    chromium = shutil.which("chromium")
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 880, "height": 1110}, device_scale_factor=1.2)
    page.goto(f"{args.address}#{args.state}")
    page.wait_for_function("window.nice && digits() && reader !== null", timeout=0)
    page.evaluate(TRAIN)
    page.wait_for_function("!dirty.size")
    page.wait_for_timeout(200)
    page.screenshot(path=args.output)
    browser.close()
with Image.open(args.output) as image:  # flat colours: a third of the bytes
    image.convert("RGB").quantize(64, dither=0).save(args.output, optimize=True)
