"use strict";
/* Words, events, the beginning. */

function speak() {
	const { documentElement: root } = document;
	[root.lang, root.dataset.theme, document.title] = [state.lang, state.theme, `NICE: ${plain("title")}`];
	for (const element of all("[data-t]")) element.innerHTML = say(element.dataset.t || element.id);
	for (const element of all("canvas[id], [data-label]")) {
		element.ariaLabel = nameOf(element.dataset.label || element.id);
		if (element.matches("canvas:not([role])")) element.role = "img";
	}
	for (const option of $("points").options) option.textContent = plain(option.value);
	$("play").textContent = plain(plane.playing ? "pause" : "play");
	enable();
	tell();
	if ($("progress").hidden) endLoading();
}

function turn(changes) {
	set(changes);
	speak();
}

const BUTTONS = {
	language: () => turn({ lang: state.lang === "zh" ? "en" : "zh" }),
	theme: () => turn({ theme: state.theme === "dark" ? "light" : "dark" }),
	close: () => settled(),
	again: () => told.again(),
	play: () => play(!plane.playing),
	step() {
		play(false);
		learn(1);
	},
	reset: resetPlane,
	new: () => set({ z: `s${random(1e4)}`, T: ANNEAL, moved: "" }, "code"),
	zero: () => set({ z: "0", moved: "" }, "code"),
	encode: () => set({ z: anyDigit(), T: 1, moved: "" }, "code"),
	clear: () => clear(""),
	some: () => clear(anyDigit()),
	corner: () => set({ corner: 1 - state.corner }, "look"),
	nearest: askTraining,
	share,
	pair: () => set({ a: random(digits()), b: random(digits()), t: 0.5 }, "between"),
};

/** Sliders and choices, and the card of each; "" begins a training anew. */
const CONTROLS = {
	T: "code", shift: "look", spread: "ask", t: "between", dimension: "sigma", speed: "plane",
	points: "", couplings: "", crossing: "", encodes: "", scaling: "",
};

function showControls() {
	for (const id in CONTROLS) {
		const input = $(id);
		if (input.type === "checkbox") input.checked = state[id];
		else if (input.type === "range") showSlider(input, state[id]);
		else input.value = state[id];
	}
}

function listen() {
	$("digits").innerHTML = times(10, (d) => `<button id="ask-${d}" data-needs="flow">${d}</button>`).join("");
	for (let d = 0; d < 10; d++) BUTTONS[`ask-${d}`] = () => set({ ask: d, draw: random(1e4) }, "ask");
	for (const id in BUTTONS) $(id).onclick = BUTTONS[id];
	for (const id of ["T", "spread", "t", "dimension"]) $(id).dataset.needs = "flow";
	pen(pad, stroke);
	pen($("plane"), sprinkle, pointAt, () => state.points === "own");
	$("plane").onpointerleave = () => pointAt(null);
	for (const id of ["spectrum", "sigma-map"]) $(id).onclick = choose;
	$("weights").onchange = ({ target }) => target.value in SHIPPED && loadShipped(target.value);
	$("file").onchange = ({ target }) => openFiles(target.files);
	addEventListener("input", ({ target }) => {
		const { id, type, value, dataset } = target, card = CONTROLS[id];
		if (dataset.dimension) return move(target);
		if (card === undefined) return;
		set({ [id]: type === "checkbox" ? +target.checked : type === "range" ? +value : value }, card || "plane");
		if (!card) resetPlane();
		showControls();
	});
	for (const type of ["dragover", "drop"])
		addEventListener(type, (event) => {
			event.preventDefault();
			if (type === "drop") openFiles(event.dataTransfer.files);
		});
	addEventListener("hashchange", () => {
		const { w, x } = state;
		readState();
		showControls();
		resetPlane();
		turn({});
		if (state.x !== x) clear(state.x);
		if (state.w !== w) loadShipped(state.w);
	});
	for (const type of ["error", "unhandledrejection"]) addEventListener(type, () => complain("broken"));
}

for (const place of all("[data-slider]")) {
	const [id, low, high, step] = place.dataset.slider.split(" ");
	place.outerHTML = sliderOf(`<span data-t="${id}"></span>`, +low, +high, step, `id="${id}"`);
}
for (const card of all("[data-h]")) card.insertAdjacentHTML("afterbegin", `<h2 data-t="h-${card.dataset.h}"></h2><p data-t="p-${card.dataset.h}"></p>`);
for (const element of all("[data-m]")) {
	const [formula, number] = element.dataset.m.split(" @ ");
	element.innerHTML = math(formula) + (number ? `<a>${number}</a>` : "");
}
for (const name of CHOICES.points) $("points").add(new Option(name, name));
readState(); // whose numbers the sliders bound
listen();
buildSliders(SPRITE.sliders);
sprite.onload = () => refresh("code");
sprite.src = "sprite.png";
speak();
showControls();
resetPlane();
document.querySelector("main").hidden = false; // whole at once: nothing moves
refresh();
if (offline) complain("opened");
else {
	loadShipped(state.w);
	loadSmall();
}
