"use strict";
/* Pictures in and out: canvases, a pen for finger, mouse and keyboard, MNIST's normalisation. */

/** Values (height × width) onto a canvas, a pixel each. `signed`: below 0 blue, |v| = 1 the most;
    else black to white; `mask` tints what is hidden. */
function paint(canvas, values, width, { signed = false, mask = null } = {}) {
  const height = values.length / width, picture = new ImageData(width, height);
  for (let i = 0, p = 0; i < values.length; i++, p += 4) {
    const v = values[i], k = 255 * Math.min(Math.abs(v), 1), on = v > 0;
    const rgb = mask?.[i] ? [70 + k * 0.5, 44 + k * 0.5, 36 + k * 0.5]
      : on ? [k, k, k] : signed ? [k * 0.25, k * 0.55, k] : [0, 0, 0];
    picture.data.set([...rgb, 255], p);
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** Pictures side by side, `columns` a row, as one array; `gap` dark pixels between. */
function tile(pictures, width, columns, gap = 0) {
  const height = pictures[0].length / width, rows = Math.ceil(pictures.length / columns);
  const across = columns * (width + gap) - gap;
  const values = new Float32Array(across * (rows * (height + gap) - gap));
  pictures.forEach((x, n) => {
    const left = (n % columns) * (width + gap), top = Math.floor(n / columns) * (height + gap);
    for (let i = 0; i < x.length; i++)
      values[(top + Math.floor(i / width)) * across + left + (i % width)] = x[i];
  });
  return { values, width: across };
}

/** Calls `stroke(from, to)` in the canvas's own units, and `end()`. By keyboard: the arrows move a
    pen, Space lowers and lifts it. */
function pen(canvas, stroke, end) {
  let last = null, at = [0.5, 0.5], down = false;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const draw = (from, to) => {
    const size = ([x, y]) => [x * canvas.width, y * canvas.height];
    stroke(size(from), size(to));
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    draw(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    for (const e of event.getCoalescedEvents?.() ?? [event]) {
      const to = place(e);
      draw(last, to);
      last = to;
    }
  });
  for (const name of ["pointerup", "pointercancel"])
    canvas.addEventListener(name, () => {
      if (last) end();
      last = null;
    });
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === " ") {
      down = !down;
      if (down) draw(at, at);
      else end();
    } else if (by[event.key]) {
      const to = at.map((v, i) => Math.min(Math.max(v + by[event.key][i] / 28, 0.02), 0.98));
      if (down) draw(at, to);
      at = to;
    } else return;
    event.preventDefault();
    canvas.dispatchEvent(new CustomEvent("pen", { detail: { at, down } }));
  });
  canvas.addEventListener("blur", () => {
    if (down) end();
    down = false;
    canvas.dispatchEvent(new CustomEvent("pen", { detail: null }));
  });
}

/** The ink of a canvas as MNIST has its digits: scaled into a box of 20/28 of the picture, grey by
    area, its centre of mass in the middle. Returns bytes (height × width), or null for no ink. */
function normalise(canvas, height, width) {
  const W = canvas.width, H = canvas.height;
  const rgba = canvas.getContext("2d").getImageData(0, 0, W, H).data;
  const ink = (x, y) => rgba[4 * (y * W + x) + 3] / 255;
  let [left, right, top, bottom] = [W, -1, H, -1];
  for (let y = 0; y < H; y++)
    for (let x = 0; x < W; x++)
      if (ink(x, y) > 0.1) {
        left = Math.min(left, x); right = Math.max(right, x);
        top = Math.min(top, y); bottom = Math.max(bottom, y);
      }
  if (right < 0) return null;
  const box = Math.round(Math.min(height, width) * 20 / 28);
  const scale = box / (Math.max(right - left, bottom - top) + 1);
  const small = new Float32Array(box * box); // (box, box), the ink in its corner
  let mass = 0, mx = 0, my = 0;
  for (let y = top; y <= bottom; y++)
    for (let x = left; x <= right; x++) {
      const u = (x - left) * scale, v = (y - top) * scale, a = ink(x, y) * scale * scale;
      small[Math.floor(v) * box + Math.floor(u)] += a;
      mass += a; mx += a * u; my += a * v;
    }
  const dx = Math.round(width / 2 - mx / mass), dy = Math.round(height / 2 - my / mass);
  const bytes = new Uint8Array(height * width);
  for (let y = 0; y < box; y++)
    for (let x = 0; x < box; x++) {
      const [u, v] = [x + dx, y + dy];
      if (u >= 0 && u < width && v >= 0 && v < height)
        bytes[v * width + u] = Math.round(255 * Math.min(small[y * box + x], 1));
    }
  return bytes;
}

/** A histogram as an SVG, with a mark; what lies beyond an end is pinned there with an arrow. */
function histogram(values, mark, label) {
  const sorted = Float64Array.from(values).sort(), at = (q) => sorted[Math.floor(q * (sorted.length - 1))];
  const W = 420, H = 96, base = 78, bins = 70;
  const low = at(0.01) - 0.15 * (at(0.99) - at(0.01)), high = at(1) + 0.08 * (at(1) - low);
  const counts = new Array(bins).fill(0);
  const bin = (v) => Math.floor((v - low) / (high - low) * bins);
  for (const v of sorted) counts[Math.max(bin(v), 0)]++;
  const most = Math.max(...counts), w = W / bins;
  const bars = counts.map((n, i) => n
    && `M${(i * w).toFixed(1)} ${base}v${(-n / most * 56).toFixed(1)}h${(w - 1).toFixed(1)}V${base}z`);
  const tick = (v) => `<text x="${(v - low) / (high - low) * W}" y="93">${v}</text>`;
  const step = [100, 200, 250, 500, 1000, 2000, 5000, 10000].find((s) => (high - low) / s < 6) ?? 1e5;
  let ticks = "";
  for (let v = Math.ceil(low / step) * step; v < high; v += step)
    if ((v - low) / (high - low) > 0.05 && (v - low) / (high - low) < 0.95) ticks += tick(v);
  let shown = "";
  if (Number.isFinite(mark)) {
    const raw = (mark - low) / (high - low), x = Math.min(Math.max(raw, 0.004), 0.996) * W;
    const text = (raw < 0 ? "◂ " : "") + label + (raw > 1 ? " ▸" : "");
    const anchor = x < 70 ? "start" : x > W - 70 ? "end" : "middle";
    shown = `<path class="mark" d="M${x} 16V${base}"/>`
      + `<text class="mark" x="${x}" y="11" style="text-anchor:${anchor}">${text}</text>`;
  }
  return `<svg viewBox="0 0 ${W} ${H}" aria-hidden="true"><path class="bars" d="${bars.filter(Boolean).join("")}"/>`
    + `<path class="axis" d="M0 ${base + 0.5}H${W}"/>${ticks}${shown}</svg>`;
}

/** A curve of numbers as an SVG. */
function curve(values) {
  if (values.length < 2) return "";
  const low = Math.min(...values), span = Math.max(...values) - low || 1;
  const points = values.map((v, i) =>
    `${(i / (values.length - 1) * 416 + 2).toFixed(1)} ${(68 - (v - low) / span * 62).toFixed(1)}`);
  return `<svg viewBox="0 0 420 72" aria-hidden="true"><path class="curve" d="M${points.join("L")}"/></svg>`;
}
