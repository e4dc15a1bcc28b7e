"use strict";
/* The card "Ask for a digit": fitted codes beside the prior's. */

const panels = {};

/** Nine pictures of codes, a frame each. */
function nine(id, key, code, contrast = 1) {
	const { ask: digit, draw: seed } = state, canvas = $(id), random = randomOf(10 * seed + digit), pictures = [];
	if (panels[id]?.flow === flow && panels[id].key === key) return;
	const panel = panels[id] = { flow, key };
	const next = () => {
		if (panels[id] !== panel || panel.flow !== flow) return;
		const count = pictures.push(seen(flow.decode(code(random))).map((v) => 0.5 + contrast * (v - 0.5)));
		if (count === 1) paint(canvas, pictures[0]);
		if (count < 9) return requestAnimationFrame(next);
		paintAll(canvas.nextElementSibling, pictures.slice(1), 4);
		later(id, () => {
			const read = pictures.map(readAs), of = (test) => read.filter(test).length;
			caption(id, read[0] ? plain(`read-${id}`, { ask: digit, right: of((found) => found.digit === digit), sure: of((found) => found.share > 0.9) }) : "");
		});
	};
	next();
}

CARDS.ask = () => {
	const { ask: digit, draw: seed, spread, lang } = state, has = flow?.codes?.labels.includes(digit);
	for (const button of $("digits").children) press(button, button.id === `ask-${digit}`);
	showSlider($("spread"), spread);
	$("nocodes").hidden = !flow || has;
	if (!flow) return;
	$("asked").parentElement.style.visibility = has ? "" : "hidden";
	if (has) nine("asked", [digit, seed, spread, lang].join(), (random) => drawCode(flow.codes, digit, random, spread), flow.codes.contrast);
	nine("prior", lang, (random) => flow.draw(random).map((v) => v * ANNEAL));
};
