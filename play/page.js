"use strict";
/* What the cards share. */

const $ = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
const clamp = (v, low = 0, high = 1) => Math.min(Math.max(v, low), high);
const last = (list) => list[list.length - 1];
const times = (n, make) => Array.from({ length: n }, (_, i) => make(i));
const minus = (v, places = 0) => v.toFixed(places).replace("-", "−");
const offline = location.protocol === "file:";
const ANNEAL = 0.75; // the article's temperature

/** The state, as far as the address holds it. */
const DEFAULTS = {
	lang: navigator.language.startsWith("zh") ? "zh" : "en",
	theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
	points: "moons", // of PLANES, or "own"
	couplings: 4,
	crossing: 1,
	encodes: "9",
	scaling: 1,
	speed: 5,
	w: "", // weights, a name of SHIPPED; else the first
	z: "0", // s<seed>: from the prior; t<index>: a test digit's; else 0
	T: ANNEAL,
	moved: "", // dimension:by,dimension:by
	dimension: 783, // the one chosen, by the rank of its σ
	x: "", // t<index>: a test digit; d…: a drawing
	shift: 0,
	corner: 0,
	ask: 3,
	draw: 1,
	spread: 1,
	a: 7, // test digits
	b: 2,
	t: 0.5,
};
const CHOICES = { lang: ["en", "zh"], theme: ["light", "dark"], encodes: ["9", "7"] };
const state = {};

function readState() {
	const held = new URLSearchParams(location.hash.slice(1));
	for (const [key, value] of Object.entries(DEFAULTS)) {
		const text = held.get(key), number = clamp(+text || 0, 0, +$(key)?.max || 1e6);
		if (text === null || CHOICES[key]?.includes(text) === false) state[key] = value;
		else if (typeof value === "string") state[key] = text;
		else state[key] = ["T", "t", "spread"].includes(key) ? number : Math.floor(number);
	}
	for (const key of ["couplings", "speed"]) state[key] ||= 1;
}

const addressOf = () => "#" + Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key])
	.map((pair) => pair.join("=")).join("&");

/** Change the state, draw the cards named, or all, and keep the address. */
function set(changes, ...cards) {
	Object.assign(state, changes);
	refresh(...cards);
	later("address", () => history.replaceState(null, "", addressOf()), 250); // browsers refuse many a second
}

const timers = {};

/** Do something once nothing of its name has come for a while. */
function later(name, work, after = 60) {
	clearTimeout(timers[name]);
	timers[name] = setTimeout(work, after);
}

const CARDS = {}; // what draws each
const dirty = new Set();

function refresh(...names) {
	if (!dirty.size) requestAnimationFrame(drawNext);
	for (const name of names.length ? names : Object.keys(CARDS)) dirty.add(name);
}

function drawNext() {
	const [name] = dirty;
	dirty.delete(name);
	if (dirty.size) requestAnimationFrame(drawNext);
	if (name) CARDS[name]();
}

/** An event's place in parts of an element. */
function placeIn(element, { clientX, clientY }) {
	const { x, y, width, height } = element.getBoundingClientRect();
	return [(clientX - x) / width, (clientY - y) / height];
}

/** HTML of a formula; _ and ^ for indices. */
function math(text) {
	return text.replace(/[_^](\w|\(.+?\)|\{.+?\})|[a-zα-ω]+/gi, (found, index) => {
		if (!index) return found.length > 1 ? found : `<i>${found}</i>`;
		const tag = found[0] === "_" ? "sub" : "sup";
		return `<${tag}>${math(index.replace(/[{}]/g, ""))}</${tag}>`;
	});
}

/** Words as HTML; $…$ is mathematics. */
function say(key, values = {}) {
	const escaped = (name) => String(values[name]).replace(/[<&]/g, (c) => `&#${c.charCodeAt()};`);
	return WORDS[key][+(state.lang === "zh")].replace(/\{(\w+)\}/g, (_, name) => escaped(name))
		.replace(/\$(.+?)\$/g, (_, formula) => math(formula));
}

const plain = (key, values) => say(key, values).replace(/<.*?>/g, "");

const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

const figureOf = (label, words, attributes = "") =>
	`<figure><canvas role="img" aria-label="${label}" ${attributes}></canvas><figcaption>${words}</figcaption></figure>`;

const sliderOf = (name, low, high, step, attributes) => `<label class="slider"><span>${name}</span><small aria-hidden="true">${minus(low)}</small>`
	+ `<input type="range" min="${low}" max="${high}" step="${step}" ${attributes}>`
	+ `<small aria-hidden="true">${high}</small><span class="value" aria-hidden="true"></span></label>`;

function showSlider(input, value) {
	input.value = value;
	input.ariaValueText = input.parentElement.lastChild.textContent = minus(+value, input.step < 1 ? 2 : 0);
}

const press = (element, on) => { element.ariaPressed = Boolean(on); };

function enable() {
	const there = { flow, digits: digits() };
	for (const button of all("[data-needs]")) {
		const missing = button.dataset.needs.split(" ").find((name) => !there[name]);
		button.disabled = Boolean(missing);
		button.title = missing ? plain(`needs-${missing}`) : "";
	}
}
