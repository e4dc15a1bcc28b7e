"use strict";
/* Pictures in and out. */

const clamp = (v, low = 0, high = 1) => Math.min(Math.max(v, low), high);

/** Values onto a canvas, a pixel each; `signed`: negative ones in blue; `mask` is tinted. */
function paint(canvas, values, width, { signed, mask } = {}) {
	const picture = new ImageData(width, values.length / width);
	values.forEach((v, i) => {
		const k = 255 * clamp(v), b = signed && v < 0 ? 255 * clamp(-v) : k;
		const rgb = mask?.[i] ? [70 + k / 2, 44 + k / 2, 36 + k / 2] : [k || b / 4, k || b / 2, b];
		picture.data.set([...rgb, 255], 4 * i);
	});
	[canvas.width, canvas.height] = [width, picture.height];
	canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** Pictures side by side, `columns` a row, onto one canvas. */
function paintAll(canvas, pictures, width, columns, gap = 0) {
	const height = pictures[0].length / width, across = columns * (width + gap) - gap;
	const rows = Math.ceil(pictures.length / columns);
	const values = new Float32Array(across * (rows * (height + gap) - gap));
	pictures.forEach((x, n) => {
		const corner = Math.floor(n / columns) * (height + gap) * across + (n % columns) * (width + gap);
		x.forEach((v, i) => { values[corner + Math.floor(i / width) * across + (i % width)] = v; });
	});
	paint(canvas, values, across);
}

/** Calls `stroke(x0, y0, x1, y1)`, in the canvas's pixels. Arrows move a pen, Space lowers it. */
function pen(canvas, stroke) {
	let last = null, at = [0.5, 0.5], down = false;
	const line = (...ends) => stroke(...ends.flat().map((v, i) => v * [canvas.width, canvas.height][i % 2]));
	const place = (event) => {
		const box = canvas.getBoundingClientRect();
		return [(event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height];
	};
	const follow = (event) => {
		const to = place(event);
		line(last ?? to, to);
		last = to;
	};
	canvas.onpointerdown = (event) => {
		canvas.setPointerCapture(event.pointerId);
		follow(event);
	};
	canvas.onpointermove = (event) => {
		if (last) follow(event);
	};
	canvas.onpointerup = canvas.onpointercancel = () => { last = null; };
	const cursor = (shown) => {
		const { classList, style } = canvas.parentElement;
		classList.toggle("pen", shown);
		classList.toggle("down", down);
		style.setProperty("--x", at[0]);
		style.setProperty("--y", at[1]);
	};
	canvas.onkeydown = (event) => {
		const from = at, { key } = event;
		const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
		if (key === " ") down = !down;
		else if (by) at = at.map((v, i) => clamp(v + by[i] / 28, 0.02, 0.98));
		else return;
		if (down) line(from, at);
		event.preventDefault();
		cursor(true);
	};
	canvas.onblur = () => cursor((down = false));
}

/** A canvas's ink as MNIST has its digits: in a box of 20/28, grey by area, centred by mass; bytes. */
function normalise(canvas, height, width) {
	const W = canvas.width, { data } = canvas.getContext("2d").getImageData(0, 0, W, canvas.height);
	const inked = [];
	for (let i = 0; i < data.length / 4; i++)
		if (data[4 * i] > 25) inked.push([i % W, Math.floor(i / W), data[4 * i]]);
	const bytes = new Uint8Array(height * width);
	if (!inked.length) return bytes;
	const [[left, right], [top, bottom]] = [0, 1].map((axis) => inked.reduce(
		([low, high], p) => [Math.min(low, p[axis]), Math.max(high, p[axis])], [W, 0]));
	const box = Math.round(Math.min(height, width) * 20 / 28);
	const scale = box / (Math.max(right - left, bottom - top) + 1);
	const small = new Float32Array(box * box); // the ink in its corner
	let mass = 0, mx = 0, my = 0;
	for (const [x, y, k] of inked) {
		const u = (x - left) * scale, v = (y - top) * scale;
		small[Math.floor(v) * box + Math.floor(u)] += k * scale * scale;
		mass += k;
		mx += k * u;
		my += k * v;
	}
	const dx = Math.round(width / 2 - mx / mass), dy = Math.round(height / 2 - my / mass);
	small.forEach((k, i) => {
		const u = (i % box) + dx, v = Math.floor(i / box) + dy;
		if (u >= 0 && u < width && v >= 0 && v < height) bytes[v * width + u] = Math.round(clamp(k, 0, 255));
	});
	return bytes;
}

/** A histogram with a mark; a mark beyond an end is pinned there with an arrow. */
function histogram(values, mark) {
	const sorted = values.toSorted((a, b) => a - b), at = (q) => sorted[Math.floor(q * (values.length - 1))];
	const low = at(0.01) - 0.15 * (at(0.99) - at(0.01)), span = 1.08 * (at(1) - low), bins = 70;
	const place = (v) => (v - low) / span * 420, counts = new Array(bins).fill(0);
	for (const v of values) counts[clamp(Math.floor((v - low) / span * bins), 0, bins)]++;
	const most = Math.max(...counts);
	const bars = counts.map((n, i) => `M${6 * i} 78v${(-n / most * 56).toFixed(1)}h5V78z`).join("");
	const step = 10 ** Math.ceil(Math.log10(span / 6));
	let ticks = "";
	for (let v = Math.ceil(low / step) * step; v < low + span; v += step)
		if (Math.abs(place(v) - 210) < 190) ticks += `<text x="${place(v)}" y="93">${v}</text>`;
	const x = clamp(place(mark), 2, 418), anchor = x < 70 ? "start" : x > 350 ? "end" : "middle";
	const label = (place(mark) < 0 ? "◂ " : "") + mark.toFixed(0) + (place(mark) > 420 ? " ▸" : "");
	return `<svg viewBox="0 0 420 96" aria-hidden="true"><path class="bars" d="${bars}"/><path class="axis" d="M0 78.5H420"/>${ticks}`
		+ `<path class="mark" d="M${x} 16V78"/><text class="mark" x="${x}" y="11" style="text-anchor:${anchor}">${label}</text></svg>`;
}
