"use strict";
/* The card "Move the code". */

const SPAN = SPRITE.reach; // of the sliders of z
const sprite = new Image(); // what the sliders show until the weights are there
const seen = (x) => x.map((v) => v * flow.levels / 255);
let base = {}; // the code before T and sliders
let order = []; // of the dimensions, the widest first

const moves = () => new Map(state.moved.split(",").map((pair) => pair.split(":").map(Number)).filter(([i, by]) => i >= 0 && by));

function currentCode() {
	const { z: name, T } = state, key = name + digits();
	if (base.key !== key || base.flow !== flow) {
		const z = name[0] === "s" ? flow.draw(randomOf(name.slice(1)))
			: name[0] === "t" && digits() ? flow.encode(scaled(testDigit(name))) : new Float32Array(flow.dim);
		base = { key, flow, z };
	}
	const z = base.z.map((v) => v * T);
	for (const [i, by] of moves()) if (i in z) z[i] += by;
	return z;
}

function move({ dataset: { dimension: i }, value }) {
	const by = moves(), before = flow ? currentCode()[i] - (by.get(+i) ?? 0) : 0;
	by.delete(+i);
	by.set(+i, +(value - before).toFixed(3)); // the last one is what the sprite shows
	set({ moved: [...by].map((pair) => pair.join(":")).join() }, "code");
}

const showSliders = (i, value) => all(`[data-dimension="${i}"]`).forEach((input) => showSlider(input, value));

/** A frame of the sprite: z = 0 but for the dimension moved last. */
function leaf() {
	const moved = [...moves()], [i, by] = last(moved) ?? [SPRITE.sliders[0][0], 0], line = SPRITE.sliders.findIndex(([j]) => j === i);
	for (const pair of moved) showSliders(...pair);
	if (!sprite.width || line < 0 || state.z !== "0") return;
	const frame = clamp(Math.round((by / SPAN + 1) / 2 * (SPRITE.frames - 1)), 0, SPRITE.frames - 1);
	Object.assign($("digit"), { width: 28, height: 28 }).getContext("2d").drawImage(sprite, 28 * frame, 28 * line, 28, 28, 0, 0, 28, 28);
}

CARDS.code = () => {
	showSlider($("T"), state.T);
	if (!flow) return leaf();
	const z = currentCode(), stage = (c, h) => all(`[data-stage="${c}"]`).forEach((canvas) => paint(canvas, h, true));
	stage("z", flow.upright(z, flow.couplings.length).map((v) => v / 3));
	show("digit", seen(flow.decode(z, (h, c) => stage(c, flow.upright(h, c)))));
	for (const input of all("[data-dimension]")) showSlider(input, z[input.dataset.dimension]);
	const { energy, constant, total } = flow.terms(z);
	const term = (sign, formula, value) => `<span><b>${math(formula)}</b>${sign} ${minus(value, 1)}</span>`;
	$("terms").innerHTML = term("", "log p(x)", total) + term("=", "∑ log s", flow.determinant)
		+ (flow.gaussian ? term("−", "½‖z‖^2", energy) + term("−", `${flow.dim / 2} ln 2π`, constant)
			: term("−", "∑ softplus(±z)", energy)) + `<small>${say("nats")}</small><a>(15)</a>`;
};

const sliderOfZ = (i, sigma) => sliderOf(`${math(`z_{${i}}`)} <em>σ = ${sigma.toPrecision(2)}</em>`, -SPAN, SPAN, 0.1,
	`data-dimension="${i}" aria-label="z ${i}, σ ${sigma.toPrecision(2)}"`);

function buildSliders(sliders) {
	$("wide").innerHTML = sliders.map((pair) => sliderOfZ(...pair)).join("");
	for (const [i] of sliders) showSliders(i, 0);
}

function buildCode() {
	const { sigma, sign } = flow, n = flow.couplings.length, count = Math.min(7, n + 1);
	order = [...sigma.keys()].sort((i, j) => sigma[j] - sigma[i]);
	buildSliders(order.slice(0, 6).map((i) => [i, sigma[i]]));
	const chosen = times(count, (k) => Math.round(n * (1 - k / (count - 1))));
	$("stages").innerHTML = [["z", "z"], ...chosen.map((c) => [c ? `h^(${c})` : "x", c])]
		.map(([name, c]) => figureOf(name, math(name), `data-stage="${c}"`)).join("");
	const [to, from] = ["h^(k−1)", "h^(k)"];
	$("generates").innerHTML = `${math(`${to}_1 = ${from}_1,  ${to}_2 = ${from}_2 ${sign < 0 ? "+" : "−"} m(${from}_1)`)}<a>${sign < 0 ? "(7)" : "(9)"}, (10)</a>`;
	$("dimension").max = $("spectrum").width = order.length;
	$("dimension").max--;
}
