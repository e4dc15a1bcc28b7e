"use strict";
/* The page: a function a card, and what they share. */

const $ = (id) => document.getElementById(id);
const all = (selector) => document.querySelectorAll(selector);
const SHIPPED = ["deep", "pretrained", "paper", "noise-free"]; // the first that is there opens
const ANNEAL = 0.75;
const offline = location.protocol === "file:";

// --- state

const DEFAULTS = {
	lang: navigator.language.startsWith("zh") ? "zh" : "en",
	theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
	w: "", // weights, a name of SHIPPED
	z: "s12", // s<seed>: from the prior; t<index>: a test digit's; else 0
	T: ANNEAL,
	moved: "", // dimension:by,dimension:by
	x: "", // t<index>: a test digit; else the drawing
	shift: 0,
	corner: 0,
	ask: 3,
	draw: 1, // seed
	spread: 1.5,
	a: 7, // test digits
	b: 2,
	t: 0.5,
};
const state = {};

function readState() {
	const held = new URLSearchParams(location.hash.slice(1));
	for (const [key, value] of Object.entries(DEFAULTS)) {
		const text = held.get(key);
		state[key] = text === null ? value : typeof value === "string" ? text : Math.abs(text) || 0;
	}
	if (!WORDS[state.lang]) state.lang = DEFAULTS.lang;
}

let timer = 0;

function set(changes, ...cards) {
	Object.assign(state, changes);
	refresh(...cards);
	clearTimeout(timer); // browsers refuse many changes a second
	timer = setTimeout(() => {
		const changed = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]);
		history.replaceState(null, "", "#" + changed.map((pair) => pair.join("=")).join("&"));
	}, 250);
}

// --- what is there

let flow = null, data = null; // data: {test, mean}, from the worker
let dataProblem = offline ? "opened" : "";
const worker = startWorker();

const digits = () =>
	flow && data?.test.height === flow.height && data.test.width === flow.width ? data.test.count : 0;
const random = (n) => Math.floor(Math.random() * n);
const anyDigit = () => `t${random(digits())}`;

/** t<index>, in bytes. */
function testDigit(name) {
	const at = (+name.slice(1) % digits() || 0) * flow.dim;
	return data.test.pixels.subarray(at, at + flow.dim);
}

const scaled = (bytes) => Float32Array.from(bytes, (k) => k / flow.levels);
const seen = (x) => x.map((v) => v * flow.levels / 255);
const show = (id, x, options) => paint($(id), seen(x), flow.width, options);
const minus = (v, places = 0) => v.toFixed(places).replace("-", "−");

const dirty = new Set(); // cards
const CARDS = { drawCode, drawLook, drawAsked, drawBetween, drawFill };

/** Draw cards, all unless named, one a frame. */
function refresh(...names) {
	if (!dirty.size) requestAnimationFrame(draw);
	for (const name of names.length ? names : Object.keys(CARDS)) dirty.add(name);
}

function draw() {
	const [name] = dirty;
	dirty.delete(name);
	if (dirty.size) requestAnimationFrame(draw);
	if (flow && name) CARDS[name]();
}

function showSlider(input, value, places = 2) {
	input.value = value;
	input.parentElement.lastChild.textContent = minus(value, places);
}

const row = (name, low, high, step, attribute) => `<span>${name}</span><small>${`${low}`.replace("-", "−")}</small><input `
	+ `type="range" min="${low}" max="${high}" step="${step}" ${attribute}><small>${high}</small><output></output>`;

// --- 1: the code

let base = {}; // the code before temperature and sliders

function currentCode() {
	const { z: name, T } = state, key = name + digits();
	if (base.key !== key || base.flow !== flow) {
		const z = name[0] === "s" ? flow.draw(kit.randomOf(name.slice(1)))
			: name[0] !== "t" || !digits() ? new Float32Array(flow.dim) : flow.encode(scaled(testDigit(name)));
		base = { key, flow, z };
	}
	const z = base.z.map((v) => v * T);
	for (const [i, by] of moves()) if (i in z) z[i] += by;
	return z;
}

const moves = () => new Map(state.moved.split(",").filter(Boolean).map((pair) => pair.split(":").map(Number)));

function drawCode() {
	const z = currentCode(), n = flow.couplings.length, canvases = all("#stages canvas");
	const stage = (h, c) => paint(canvases[n - c + 1], flow.upright(h, c), flow.width, { signed: true });
	paint(canvases[0], flow.upright(z, n).map((v) => v / 3), flow.width, { signed: true });
	show("digit", flow.decode(z, stage));
	for (const input of all("[data-dimension]")) showSlider(input, z[input.dataset.dimension]);
	showSlider($("T"), state.T);
	const { energy, constant, total } = flow.terms(z);
	const term = (sign, formula, value) => `<span><b>${math(formula)}</b>${sign} ${minus(value, 1)}</span>`;
	$("terms").innerHTML = term("", "log p(x)", total) + term("=", "∑ log s", flow.determinant)
		+ (flow.gaussian ? term("−", "½‖z‖^2", energy) + term("−", `${flow.dim / 2} ln 2π`, constant)
			: term("−", "∑ softplus(±z)", energy)) + `<small>${say("nats")}</small><a>(15)</a>`;
}

/** Sliders and stages. */
function buildCode() {
	const { sigma, couplings, sign } = flow;
	const order = [...sigma.keys()].sort((i, j) => sigma[j] - sigma[i]);
	const slider = (i) => `<label class="slider">${row(`${math(`z_{${i}}`)} <em>σ = ${
		sigma[i].toPrecision(2)}</em>`, -8, 8, 0.01, `data-dimension="${i}"`)}</label>`;
	$("wide").innerHTML = order.slice(0, 6).map(slider).join("");
	$("narrow").innerHTML = slider(order.at(-1));
	const names = couplings.map((_, c) => `h^(${c + 1})`).reverse();
	$("stages").classList.toggle("few", couplings.length < 7);
	$("stages").innerHTML = ["z", ...names, "x"].map((name) =>
		`<figure><canvas></canvas><figcaption>${math(name)}</figcaption></figure>`).join("");
	$("generates").innerHTML = sign < 0 ? `${math("h_1 = x_1,  h_2 = x_2 + m(x_1)")}<a>(7)</a>`
		: `${math("x_1 = h_1,  x_2 = h_2 − m(h_1)")}<a>(9)</a>`;
}

function move(input) {
	const i = +input.dataset.dimension, by = moves();
	by.set(i, +((by.get(i) ?? 0) + +input.value - currentCode()[i]).toFixed(3));
	set({ moved: [...by].map((pair) => pair.join(":")).join() }, "drawCode");
}

// --- 2: a drawing

const pad = $("draw"), ink = pad.getContext("2d", { willReadFrequently: true });
const nats = {}; // of test digits; `shift`: moved `by` pixels
let look = null; // what is looked at, in bytes
let total = 0; // its log p
let question = 0; // to the worker
let padHolds = ""; // the test digit on the pad

function drawLook() {
	const { x: name, shift, corner } = state, digit = name && digits() && testDigit(name);
	const bytes = digit || normalise(pad, flow.height, flow.width), blank = !bytes.some(Boolean);
	look = bytes.map((_, i) => (i % flow.width >= shift ? bytes[i - shift] : 0));
	if (corner) look[0] = 255;
	const x = scaled(look), z = flow.encode(x), back = flow.decode(z);
	total = flow.terms(z).total;
	show("seen", x);
	if (digit && padHolds !== name) ink.drawImage($("seen"), 0, 0, pad.width, pad.height);
	padHolds = digit && name;
	$("nats").textContent = `${total.toFixed(1)} ${say("nats")}`;
	$("trip").textContent = x.reduce((most, v, i) => Math.max(most, Math.abs(back[i] - v)), 0).toExponential(1);
	$("hint").hidden = !blank;
	$("corner").setAttribute("aria-pressed", corner > 0);
	showSlider($("shift"), shift, 0);
	if (nats.by !== shift) {
		Object.assign(nats, { shift: [], by: shift });
		worker.postMessage({ shift });
	}
	worker.postMessage({ nearest: look, wanted: 11, id: ++question });
	nats.note = corner ? "cornered" : blank ? "blanked" : shift && "shifted";
	drawHistogram();
}

const median = (values) => minus(values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN);

function drawHistogram() {
	const { histogram: known, shift: moved, note } = nats, count = known.length;
	const share = known.filter((v) => v < total).length * 100 / count;
	$("rank").innerHTML = !data ? say(dataProblem, { name: "mnist.npz" }) : !digits() ? say("unfit", flow)
		: count ? say("rank", { share: share.toFixed(1), median: median(known), count }) : "…";
	$("histogram").innerHTML = count ? histogram(known, total) : "";
	$("surprise").innerHTML = !note || (note === "shifted" && !(count && moved.length)) ? ""
		: say(note, { ...state, from: median(known), to: median(moved) });
}

function drawNeighbours(found) {
	$("neighbours").innerHTML = found.map(({ label, distance }) =>
		`<figure><canvas></canvas><figcaption>${label} · ${distance.toFixed(1)}</figcaption></figure>`).join("");
	all("#neighbours canvas").forEach((canvas, i) =>
		paint(canvas, Float32Array.from(found[i].pixels, (k) => k / 255), flow.width));
}

function stroke(...ends) {
	Object.assign(ink, { lineWidth: 22, lineCap: "round", strokeStyle: "#fff" });
	ink.beginPath();
	ink.moveTo(...ends);
	ink.lineTo(ends[2] + 0.01, ends[3]); // a point is a line too
	ink.stroke();
	set({ x: "", shift: 0, corner: 0 }, "drawLook");
}

function clear(x) {
	ink.clearRect(0, 0, pad.width, pad.height);
	set({ x, shift: 0, corner: 0 }, "drawLook");
}

// --- 3: a digit asked for

function drawAsked() {
	const { codes } = flow, { ask, draw, spread } = state, has = codes?.labels.includes(ask);
	for (const button of $("digits").children) button.setAttribute("aria-pressed", button.id === `ask-${ask}`);
	showSlider($("spread"), spread);
	$("nocodes").hidden = has;
	$("fitted").style.visibility = has ? "" : "hidden";
	const nine = (id, code) => {
		const random = kit.randomOf(10 * draw + ask);
		const x = Array.from({ length: 9 }, () => seen(flow.decode(code(random))));
		paint($(id), x[0], flow.width);
		paintAll($(id).nextElementSibling, x.slice(1), flow.width, 4);
	};
	if (has) nine("asked", (random) => kit.drawCode(codes, ask, random, spread));
	nine("prior", (random) => flow.draw(random).map((v) => v * ANNEAL));
}

// --- 4: between two digits

let ends = {};

function drawBetween() {
	const { a: first, b: second, t } = state, key = `${first} ${second}`;
	showSlider($("t"), t);
	if (!digits()) return;
	const mix = (p, q, t) => p.map((v, i) => (1 - t) * v + t * q[i]);
	if (ends.key !== key || ends.flow !== flow) {
		const [a, b] = [first, second].map((n) => scaled(testDigit(`t${n}`)));
		ends = { key, flow, a, b, za: flow.encode(a), zb: flow.encode(b) };
		const steps = Array.from({ length: 11 }, (_, i) => i / 10);
		const line = steps.map((t) => flow.decode(mix(ends.za, ends.zb, t)));
		paintAll($("strip"), [...line, ...steps.map((t) => mix(a, b, t))].map(seen), flow.width, 11, 2);
	}
	const z = mix(ends.za, ends.zb, t), blend = mix(ends.a, ends.b, t);
	show("line", flow.decode(z));
	show("blend", blend);
	$("line-nats").textContent = minus(flow.terms(z).total);
	$("blend-nats").textContent = minus(flow.logLikelihood(blend));
}

// --- 5: the gradient

let fill = null; // {flow, x, mask, from: nats, values: nats after each step, climbing}

function beginFill(x) {
	stopClimb();
	fill = { flow, x, mask: null, values: [] };
	refresh("drawFill");
}

/** Hide pixels; they start from the mean training digit. */
function erase(hidden) {
	stopClimb();
	const mask = fill.x.map((_, i) => hidden(i % flow.width, Math.floor(i / flow.width)));
	const x = fill.x.map((v, i) => (mask[i] ? (digits() ? data.mean[i] : 0) : v));
	const before = fill.values.length ? null : fill.mask;
	Object.assign(fill, { x, from: null, mask: mask.map((v, i) => v || before?.[i]), values: [] });
	refresh("drawFill");
}

function drawFill() {
	if (fill?.flow !== flow)
		return beginFill(digits() ? scaled(testDigit("t18")) : flow.decode(base.z).map((v) => clamp(v)));
	const { x, mask, values, climbing } = fill, from = fill.from ??= flow.logLikelihood(x);
	show("fill", x, { mask: !values.length && mask });
	const now = values.at(-1) ?? from;
	$("climbed").innerHTML = say("climbed", { from: minus(from), to: minus(now), step: values.length });
	$("climb").textContent = say(climbing ? "stop" : "climb");
}

function climb() {
	if (fill.climbing) return stopClimb();
	const { x, mask } = fill;
	fill.climbing = true;
	worker.postMessage({ climb: x, mask: mask ?? x.map(() => 1), steps: 300 });
	refresh("drawFill");
}

function stopClimb() {
	if (!fill?.climbing) return;
	fill.climbing = false;
	worker.postMessage({ climb: null });
	refresh("drawFill");
}

// --- 6: weights and data

let loading = null; // AbortController
let told = null; // the message

function complain(reason, name) {
	told = [reason, { name }];
	$("message").hidden = false;
	tell();
}

function tell() {
	if (told) $("message").firstChild.innerHTML = say(...told);
}

async function download(url, signal) {
	const response = await fetch(url, { signal });
	if (!response.ok) throw "missing";
	const whole = +response.headers.get("content-length"), reader = response.body.getReader(), parts = [];
	let part = 0;
	for (let got; !(got = await reader.read()).done; parts.push(got.value)) {
		part += got.value.length;
		$("progress").value = part / (whole || 4e7);
	}
	return new Blob(parts).arrayBuffer();
}

/** Load weights of the list; at first, the next that is there. */
async function loadShipped(wanted) {
	loading?.abort();
	const { signal } = (loading = new AbortController());
	let problem = null;
	$("progress").hidden = false;
	for (const name of flow ? [wanted] : new Set([wanted || SHIPPED[0], ...SHIPPED]))
		try {
			use(await download(`../weights/${name}.safetensors`, signal), name);
			set({ w: wanted && name });
			if (!wanted) problem = null;
			break;
		} catch (error) {
			if (signal.aborted) return;
			problem ??= [error === "missing" ? error : "damaged", `${name}.safetensors`];
		}
	endLoading();
	if (problem) complain(...problem);
}

function endLoading() {
	$("progress").hidden = true;
	showWeights();
}

/** Take a weights file, or throw and change nothing. */
function use(buffer, name) {
	flow = new kit.Flow(buffer);
	Object.assign(nats, { histogram: [], shift: [], by: 0 });
	stopClimb();
	worker.postMessage({ weights: buffer }, [buffer]);
	// for programs and tests, on Float32Array
	window.nice = { name, configuration: flow.configuration };
	for (const method of ["encode", "decode", "logLikelihood", "gradient"])
		nice[method] = flow[method].bind(flow);
	buildCode();
	refresh();
	enable();
	if (dataProblem) return;
	dataProblem = "reading";
	const data = new URL("../data/mnist.npz", location).href;
	setTimeout(() => worker.postMessage({ data }), 50); // after the first picture
}

const enable = () => all("[data-needs]").forEach((button) => { button.disabled = !digits(); });

async function openFiles(files) {
	for (const file of files) {
		const buffer = await file.arrayBuffer();
		if (file.name.endsWith("npz")) {
			worker.postMessage({ data: buffer }, [buffer]);
			continue;
		}
		loading?.abort();
		try {
			use(buffer, file.name);
			$("message").hidden = true;
		} catch {
			complain("damaged", file.name);
		}
		endLoading();
	}
}

function showWeights() {
	const names = new Set(flow ? [...SHIPPED, nice.name] : SHIPPED);
	$("weights").replaceChildren(...[...names].map((name) => new Option(WORDS[state.lang][name] ?? name, name)));
	if (!flow) return;
	$("weights").value = nice.name;
	const { model, prior } = flow.configuration, sigma = flow.sigma.toSorted();
	$("facts").innerHTML = say("facts", {
		...model,
		parameters: flow.parameters.toLocaleString("en"),
		prior: say(prior),
		narrow: sigma[0].toPrecision(2),
		wide: sigma.at(-1).toPrecision(2),
	});
}

const HEARD = {
	data(message) {
		data = message;
		enable();
		if (!fill?.mask && !fill?.values.length) fill = null;
		nats.by = 0;
		refresh("drawLook", "drawBetween", "drawFill", "drawCode");
	},
	nearest({ id, found }) {
		if (id === question && digits()) drawNeighbours(found);
	},
	climb({ x, nats, done }) {
		if (!fill?.climbing) return;
		Object.assign(fill, { x, climbing: !done });
		if (!done) fill.values.push(nats);
		refresh("drawFill");
	},
	problem({ reason }) {
		if (!data) dataProblem = reason;
		complain(reason, "mnist.npz");
		refresh("drawLook");
	},
	histogram(message) {
		nats.histogram = message.nats;
		drawHistogram();
	},
	shift(message) {
		if (message.shift === state.shift) nats.shift = message.nats;
		drawHistogram();
	},
};
worker.onmessage = ({ data: message }) => HEARD[message.kind](message);

// --- words, theme, events

function speak() {
	const { documentElement: root } = document;
	[root.lang, root.dataset.theme, document.title] = [state.lang, state.theme, `NICE: ${say("title")}`];
	for (const element of all("[data-t]")) element.innerHTML = say(element.dataset.t || element.id);
	for (const element of all("[data-label]")) {
		element.ariaLabel = WORDS[state.lang][element.dataset.label || element.id].replaceAll("$", "");
		if (element.matches("canvas")) element.role = "img";
	}
	tell();
	showWeights();
}

function listen() {
	const turn = (changes) => {
		set(changes);
		speak();
	};
	const always = {
		language: () => turn({ lang: state.lang === "zh" ? "en" : "zh" }),
		theme: () => turn({ theme: state.theme === "dark" ? "light" : "dark" }),
		message: () => { $("message").hidden = true; },
	};
	const buttons = {
		new: () => set({ z: `s${random(1e4)}`, T: ANNEAL, moved: "" }, "drawCode"),
		zero: () => set({ z: "0", moved: "" }, "drawCode"),
		encode: () => set({ z: anyDigit(), T: 1, moved: "" }, "drawCode"),
		clear: () => clear(""),
		some: () => clear(anyDigit()),
		corner: () => set({ corner: 1 - state.corner }, "drawLook"),
		pair: () => set({ a: random(digits()), b: random(digits()), t: 0.5 }, "drawBetween"),
		take: () => beginFill(scaled(look)),
		other: () => beginFill(scaled(testDigit(anyDigit()))),
		right: () => erase((u) => u >= flow.width / 2),
		lower: () => erase((_, v) => v >= flow.height / 2),
		climb,
	};
	$("digits").innerHTML = [..."0123456789"].map((d) => `<button id="ask-${d}">${d}</button>`).join("");
	for (let d = 0; d < 10; d++) buttons[`ask-${d}`] = () => set({ ask: d, draw: random(1e4) }, "drawAsked");
	for (const id in buttons) $(id).onclick = () => flow && buttons[id]();
	for (const id in always) $(id).onclick = always[id];
	pen(pad, stroke);
	pen($("fill"), (x0, y0, x1, y1) => flow && erase((u, v) => {
		const [dx, dy] = [x1 - x0, y1 - y0], [a, b] = [u + 0.5 - x0, v + 0.5 - y0];
		const t = clamp((a * dx + b * dy) / (dx * dx + dy * dy || 1)); // the nearest point of the stroke
		return Math.hypot(a - t * dx, b - t * dy) < 2.2;
	}));
	const sliders = { T: "drawCode", shift: "drawLook", spread: "drawAsked", t: "drawBetween" };
	addEventListener("input", ({ target }) => {
		if (target.dataset.dimension) move(target);
		else if (sliders[target.id]) set({ [target.id]: +target.value }, sliders[target.id]);
	});
	$("weights").onchange = ({ target }) => SHIPPED.includes(target.value) && loadShipped(target.value);
	$("file").onchange = ({ target }) => openFiles(target.files);
	for (const type of ["dragover", "dragleave", "drop"])
		addEventListener(type, (event) => {
			event.preventDefault();
			document.body.classList.toggle("dropping", type === "dragover");
			if (type === "drop") openFiles(event.dataTransfer.files);
		});
	addEventListener("hashchange", () => {
		const { w } = state;
		readState();
		speak();
		if (state.w !== w) loadShipped(state.w || SHIPPED[0]);
		refresh();
	});
}

for (const label of all("[data-slider]")) {
	const [id, low, high, step] = label.dataset.slider.split(" ");
	label.innerHTML = row(`<span data-t="${id}"></span>`, low, high, step, `id="${id}"`);
}
for (const element of all("[data-m]")) {
	const [formula, number] = element.dataset.m.split(" @ ");
	element.innerHTML = math(formula) + (number ? `<a>${number}</a>` : "");
}
readState();
speak();
listen();
if (offline) complain("opened");
else loadShipped(state.w);
