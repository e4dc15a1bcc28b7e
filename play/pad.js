"use strict";
/* Drawings: from a pen, as MNIST has its digits, in the address. */

/** Calls `stroke(x0, y0, x1, y1)`, in parts of the canvas, where `draws()`, and `point([x, y])`. One
    finger or the main button draws; arrows move the pen, Space lowers it. */
function pen(canvas, stroke, point = () => {}, draws = () => true) {
	let last = null, finger = null, at = [0.5, 0.5], down = false;
	const follow = (event) => {
		const to = placeIn(canvas, event);
		stroke(...(last ?? to), ...to);
		last = to;
	};
	canvas.onpointerdown = (event) => {
		if (event.button || finger !== null || !event.isPrimary) return;
		point(placeIn(canvas, event));
		if (!draws()) return;
		finger = event.pointerId;
		canvas.setPointerCapture(finger);
		follow(event);
	};
	canvas.onpointermove = (event) => {
		if (event.pointerId === finger) follow(event);
		else if (finger === null) point(placeIn(canvas, event));
	};
	canvas.onpointerup = canvas.onpointercancel = ({ pointerId }) => {
		if (pointerId === finger) last = finger = null;
	};
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
		if (key === " ") down = draws() && !down;
		else if (by) at = at.map((v, i) => clamp(v + by[i] / 28, 0.02, 0.98));
		else return;
		point(at, true);
		if (down) stroke(...from, ...at);
		event.preventDefault();
		cursor(true);
	};
	canvas.onblur = () => cursor((down = false));
}

/** A canvas's ink as MNIST has its digits: in a box of 20/28, grey by area, centred by mass; bytes,
    in the 16 greys that fit into an address. */
function normalise(canvas, height, width) {
	const W = canvas.width, { data } = canvas.getContext("2d").getImageData(0, 0, W, canvas.height), inked = [];
	for (let i = 0; i < data.length / 4; i++)
		if (data[4 * i] > 25) inked.push([i % W, Math.floor(i / W), data[4 * i]]);
	const bytes = new Uint8Array(height * width);
	if (!inked.length) return bytes;
	const columns = inked.map(([x]) => x).sort((a, b) => a - b), [left] = columns, right = last(columns);
	const [[, top]] = inked, [, bottom] = last(inked);
	const box = Math.round(Math.min(height, width) * 20 / 28), scale = box / (Math.max(right - left, bottom - top) + 1);
	const small = new Float32Array(box * box);
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
		if (u >= 0 && u < width && v >= 0 && v < height) bytes[v * width + u] = 17 * Math.round(clamp(k / 17, 0, 15));
	});
	return bytes;
}

// --- in the address: "d", the box around the ink, 4 bits a pixel; 6 bits a character

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const bitsOf = (n, count) => n.toString(2).padStart(count, "0");

/** The pixels of a box, row by row. */
const boxOf = (left, top, width, height) => times(width * height, (n) => (top + Math.floor(n / width)) * 28 + left + n % width);

/** Bytes of 28 × 28 in 16 greys as text. */
function written(bytes) {
	const inked = [...bytes.keys()].filter((i) => bytes[i]), columns = inked.map((i) => i % 28).sort((a, b) => a - b);
	if (!columns.length) return "";
	const [left] = columns, right = last(columns), [top, bottom] = [inked[0], last(inked)].map((i) => Math.floor(i / 28));
	const box = [left, top, right - left, bottom - top].map((n) => bitsOf(n, 6));
	const greys = boxOf(left, top, right - left + 1, bottom - top + 1).map((i) => bitsOf(bytes[i] / 17, 4));
	return "d" + [...box, ...greys].join("").replace(/.{1,6}/g, (bits) => LETTERS[parseInt(bits.padEnd(6, 0), 2)]);
}

/** The same back; null where the text is no drawing. */
function readDrawing(text) {
	const numbers = [...text.slice(1)].map((c) => LETTERS.indexOf(c)), [left, top, width, height] = numbers;
	if (numbers.length < 5 || numbers.includes(-1) || left + width > 27 || top + height > 27) return null;
	const bits = numbers.slice(4).map((n) => bitsOf(n, 6)).join(""), bytes = new Uint8Array(784);
	boxOf(left, top, width + 1, height + 1).forEach((i, n) => { bytes[i] = 17 * parseInt(bits.slice(4 * n, 4 * n + 4), 2); });
	return bytes;
}
