"use strict";
/* The card "Train a flow". */

const REACH = 2.3; // of both pictures, from their middles
const SHOWN = 500; // points drawn, held out from training; the loss shown is theirs
const BATCH = 128;
const SEED = 1;
const plane = {
	drawn: [], // by the visitor, [x, y]
	runs: [], // { steps, losses }, the last one growing
	at: null, // the pointer, [x, y]
	playing: false,
};
/** The grid of z: [points of a line, whether it is an axis]. */
const GRID = [0, 1].flatMap((axis) => times(17, (n) => [times(81, (i) => {
	const [t, along] = [(n - 8) / 2, (i - 40) / 10];
	return axis ? [along, t] : [t, along];
}), n === 8]));
CHOICES.points = [...Object.keys(PLANES), "own"];

const learns = () => state.points !== "own" || plane.drawn.length;

function batchOf(count) {
	const { random, drawn } = plane, points = new Float64Array(2 * count);
	for (let k = 0; learns() && k < points.length; k += 2)
		points.set(state.points !== "own" ? PLANES[state.points](random)
			: drawn[Math.floor(random.uniform() * drawn.length)].map((v) => v + 0.03 * random.normal()), k);
	return points;
}

/** A new flow; the last curves stay. */
function resetPlane() {
	const { normal } = plane.random = randomOf(SEED);
	plane.points = batchOf(SHOWN); // the same for all flows
	plane.codes = times(150, () => [normal(), normal()]);
	plane.flow = new PlaneFlow(state, plane.random);
	plane.runs = [...plane.runs.filter((run) => run.steps.length > 1).slice(-3), { steps: [], losses: [] }];
	$("plane").classList.toggle("own", state.points === "own");
	record();
}

function record() {
	const run = last(plane.runs);
	if (run.steps.length > 400)
		for (const name in run) run[name] = run[name].filter((_, i) => i % 2 === 0);
	run.steps.push(plane.flow.steps);
	run.losses.push(plane.flow.loss(plane.points));
	refresh("plane");
}

function learn(steps) {
	const until = performance.now() + 25;
	for (let n = 0; learns() && n < steps && performance.now() < until; n++) plane.flow.step(batchOf(BATCH));
	record();
}

function play(on) {
	plane.playing = on;
	$("play").textContent = plain(on ? "pause" : "play");
	const next = () => {
		const { top, bottom } = $("plane").getBoundingClientRect();
		if (!plane.playing) return;
		if (bottom > 0 && top < innerHeight) learn(state.speed); // else spare the cards
		requestAnimationFrame(next);
	};
	next();
}

function polyline(context, points) {
	context.beginPath();
	for (const point of points) context.lineTo(...point);
	context.stroke();
}

function pensOf(canvas) {
	const context = canvas.getContext("2d"), { width } = canvas;
	const place = ([x, y]) => [(x / REACH + 1) * width / 2, (1 - y / REACH) * width / 2];
	context.clearRect(0, 0, width, width);
	return {
		line(points, strokeStyle, lineWidth) {
			Object.assign(context, { strokeStyle, lineWidth });
			polyline(context, points.map(place));
		},
		dots(points, fillStyle, radius) {
			context.fillStyle = fillStyle;
			for (const point of points) {
				context.beginPath();
				context.arc(...place(point), radius, 0, 7);
				context.fill();
			}
		},
	};
}

CARDS.plane = () => {
	const { flow, points, codes, at, runs } = plane, [x, z] = ["plane", "plane-code"].map((id) => pensOf($(id)));
	const [soft, bar, accent, sample, ink] = ["--soft", "--bar", "--accent", "--sample", "--ink"].map(colourOf);
	const decoded = (list) => list.map((code) => flow.decode([...code])), encoded = (list) => list.map((point) => flow.encode([...point]));
	for (const [line, axis] of GRID) {
		const style = axis ? [soft, 3] : [bar, 1.4];
		x.line(decoded(line), ...style);
		z.line(line, ...style);
	}
	const known = times(learns() ? SHOWN : 0, (k) => points.subarray(2 * k, 2 * k + 2));
	x.dots(known, accent, 3.4);
	z.dots(encoded(known), accent, 3.4);
	x.dots(decoded(codes), sample, 4.2);
	z.dots(codes, sample, 4.2);
	if (at) { // a square at the pointer and what becomes of it: the determinant as an area
		const square = times(33, (i) => {
			const t = (i + 4) * Math.PI / 16, [c, s] = [Math.cos(t), Math.sin(t)], side = 0.12 / Math.max(Math.abs(c), Math.abs(s));
			return [at[0] + side * c, at[1] + side * s];
		});
		x.line(square, ink, 4);
		z.line(encoded(square), ink, 4);
	}
	showJacobian();
	$("plane-loss").innerHTML = `${minus(last(last(runs).losses), 3)} <small>${say("after", flow)}</small>`;
	drawCurves();
};

function drawCurves() {
	const canvas = $("plane-curve"), context = canvas.getContext("2d"), { width, height } = canvas, { runs } = plane;
	const losses = runs.flatMap((run) => run.losses), end = Math.max(500, ...runs.map((run) => last(run.steps)));
	const low = Math.min(...losses) - 0.1, span = Math.min(Math.max(...losses) - low, 4) + 0.1;
	const place = (step, loss) => [step / end * (width - 90), clamp((1 - (loss - low) / span) * height, 22, height - 4)];
	context.clearRect(0, 0, width, height);
	for (const { steps, losses } of runs) {
		const colour = colourOf(steps === last(runs).steps ? "--accent" : "--soft"), [u, v] = place(last(steps), last(losses));
		Object.assign(context, { strokeStyle: colour, fillStyle: colour, lineWidth: 3, font: "24px system-ui" });
		polyline(context, steps.map((step, k) => place(step, losses[k])));
		if (steps.length > 1) context.fillText(minus(last(losses), 3), u + 8, v + 8);
	}
}

const matrix = (cells) => `<span class="matrix">${cells.map((v) => `<span>${v}</span>`).join("")}</span>`;

function showJacobian() {
	const { flow, at } = plane, box = $("jacobian"), { style } = box;
	box.hidden = !at;
	if (!at) return;
	const { whole, slopes } = flow.jacobian(at), [[a, b], [c, d]] = whole, [u, v] = [50 + 50 * at[0] / REACH, 50 - 50 * at[1] / REACH]; // %
	box.innerHTML = `${say("jacobian-one")} ${matrix([1, 0, minus(last(slopes), 2), 1])} det = 1 (8)<br>`
		+ `${math("∂z/∂x")} = ${matrix(whole.flat().map((v) => minus(v, 2)))} det = ${minus(a * d - b * c, 3)}<br>${say("jacobian-all")}`;
	[style.left, style.right] = u < 50 ? [`${u + 5}%`, "auto"] : ["auto", `${105 - u}%`];
	[style.top, style.bottom] = v < 50 ? [`${v + 2}%`, "auto"] : ["auto", `${102 - v}%`];
}

const inPlane = ([u, v]) => [(2 * u - 1) * REACH, (1 - 2 * v) * REACH];

function pointAt(at, keys) {
	plane.at = at && inPlane(at);
	$("jacobian").ariaLive = keys ? "polite" : "off";
	refresh("plane");
}

function sprinkle(x0, y0, x1, y1) {
	const count = Math.ceil(Math.hypot(x1 - x0, y1 - y0) * 40) || 1;
	for (let k = 1; k <= count; k++)
		plane.drawn.push(inPlane([x0 + (x1 - x0) * k / count, y0 + (y1 - y0) * k / count]).map((v) => v + 0.06 * plane.random.normal()));
	plane.points = batchOf(SHOWN);
	refresh("plane");
}
