"use strict";
/* Pictures onto canvases. */

/** Values onto a canvas; where `signed`, negative ones in blue. */
function paint(canvas, values, signed, width = flow?.width ?? 28) {
	const picture = new ImageData(width, values.length / width);
	values.forEach((v, i) => {
		const k = 255 * clamp(v), b = signed && v < 0 ? 255 * clamp(-v) : k;
		picture.data.set([k || b / 4, k || b / 2, b, 255], 4 * i);
	});
	Object.assign(canvas, { width, height: picture.height });
	canvas.getContext("2d").putImageData(picture, 0, 0);
	canvas.classList.add("painted");
}

/** Pictures side by side, `columns` a row. */
function paintAll(canvas, pictures, columns, gap = 0) {
	const { width, height } = flow, across = columns * (width + gap) - gap;
	const values = new Float32Array(across * (Math.ceil(pictures.length / columns) * (height + gap) - gap));
	pictures.forEach((x, n) => {
		const corner = Math.floor(n / columns) * (height + gap) * across + (n % columns) * (width + gap);
		x.forEach((v, i) => { values[corner + Math.floor(i / width) * across + (i % width)] = v; });
	});
	paint(canvas, values, false, across);
}

/** A histogram of where nearly all values lie; a mark beyond is pinned to its end. */
function histogram(values, mark) {
	const sorted = [...values].sort((a, b) => a - b), at = (q) => sorted[Math.floor(q * (sorted.length - 1))];
	const low = 2 * at(0.1) - at(0.9), span = 1.06 * (at(1) - low), place = (v) => (v - low) / span * 420;
	const counts = new Array(60).fill(0), text = (x, y, words, more) => `<text x="${x}" y="${y}" ${more}>${words}</text>`;
	for (const v of values) counts[clamp(Math.floor(place(v) / 7), 0, 59)]++;
	const bars = counts.map((n, i) => `M${7 * i} 100v${(-78 * n / Math.max(...counts)).toFixed(1)}h6V100z`).join("");
	const ticks = [0.15, 0.5, 0.85].map((q) => text(420 * q, 117, minus(low + q * span))).join("");
	const x = clamp(place(mark), 2, 418), label = (x === 2 ? "◂ " : "") + minus(mark) + (x === 418 ? " ▸" : "");
	return `<svg viewBox="0 0 420 122" aria-hidden="true"><path class="bars" d="${bars}"/><path d="M0 100.5H420"/>${ticks}`
		+ `<path class="mark" d="M${x} 18V100"/>${text(clamp(x, 40, 380), 13, label, 'class="mark"')}</svg>`;
}
