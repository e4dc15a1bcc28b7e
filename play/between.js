"use strict";
/* The card "Between two digits". */

let ends = {}; // of the line: pictures and codes

const mix = (p, q, t) => p.map((v, i) => (1 - t) * v + t * q[i]);

CARDS.between = () => {
	showSlider($("t"), state.t);
	if (!flow || !digits()) return;
	const { a: first, b: second, t } = state, key = [first, second, data.known].join();
	if (ends.key !== key || ends.flow !== flow) {
		const [a, b] = [first, second].map((n) => scaled(testDigit(`t${n}`)));
		ends = { key, flow, a, b, za: flow.encode(a), zb: flow.encode(b) };
		later("strip", drawStrip);
	}
	const z = mix(ends.za, ends.zb, t), blend = mix(ends.a, ends.b, t), line = flow.decode(z);
	for (const [id, x, value] of [["line", line, flow.terms(z).total], ["blend", blend, flow.logLikelihood(blend)]]) {
		show(id, seen(x));
		$(`${id}-nats`).textContent = `${minus(value)} ${plain("nats")}`;
	}
};

function drawStrip() {
	if (ends.flow !== flow) return;
	const steps = times(9, (i) => i / 8);
	const line = steps.map((t) => flow.decode(mix(ends.za, ends.zb, t)));
	paintAll($("strip"), [...line, ...steps.map((t) => mix(ends.a, ends.b, t))].map(seen), 9, 2);
}
