"""Take docs/play.png, the README's picture of the page in play/: `make play` must be running.

python tools/screenshot.py --output docs/play.png
"""

import argparse
import shutil

from playwright.sync_api import sync_playwright

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--address", default="http://127.0.0.1:8000/play/")
parser.add_argument("--state", default="lang=en&theme=light&z=t4&T=1", help="the address's hash")
parser.add_argument("--output", default="docs/play.png")
args = parser.parse_args()

with sync_playwright() as playwright:
    chromium = shutil.which("chromium")
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 880, "height": 900}, device_scale_factor=1.36)
    page.goto(f"{args.address}#{args.state}")
    page.wait_for_function("window.nice && digits() && nats.histogram.length === 1000", timeout=0)
    page.screenshot(path=args.output)
    browser.close()
