"use strict";
/* The small classifier of support/quality.py. */

let reader = null; // of a picture: ten probabilities

function classifierOf(buffer) {
	const file = openWeights(buffer);
	const layers = [[28, 1, 16], [14, 16, 32], [7, 32, 64]].map(([side, ...shape], i) => layerOf(file, `conv_${i + 1}`, [3, 3, ...shape], true, [side, side]));
	const features = layerOf(file, "features", [576, 64], true), classes = layerOf(file, "classes", [64, 10]);

	/** A convolution, and of every 2 × 2 the largest: (side, side, inputs) to half a side. */
	function pooled(x, layer) {
		const all = convolve(x, layer), [side] = layer.size, half = side >> 1, outputs = layer.out.length;
		return new Float32Array(half * half * outputs).map((_, n) => {
			const pixel = Math.floor(n / outputs), at = (2 * Math.floor(pixel / half) * side + 2 * (pixel % half)) * outputs + n % outputs;
			return Math.max(all[at], all[at + outputs], all[at + side * outputs], all[at + (side + 1) * outputs]);
		});
	}

	return (x) => {
		const logits = dense(dense(layers.reduce(pooled, x), features), classes), most = Math.max(...logits);
		const shares = Array.from(logits, (v) => Math.exp(v - most)), sum = shares.reduce((a, b) => a + b);
		return shares.map((share) => share / sum);
	};
}

/** What a picture is read as: { digit, share }; undefined where nothing can, or is there. */
function readAs(x) {
	if (!reader || x.length !== 784 || !x.some((v) => v > 0.1)) return;
	const shares = reader(x.map((v) => clamp(v))), share = Math.max(...shares);
	return { digit: shares.indexOf(share), share };
}

const nameOf = (id) => plain(id).replace(/[:：]$/, "");

function caption(id, words) {
	$(`${id}-read`).textContent = words;
	$(id).ariaLabel = [nameOf(id), words].filter(Boolean).join(": ");
}

/** A picture in its place, and after it "read as 5, 97 %". */
function show(id, x) {
	paint($(id), x);
	later(id, () => {
		const { digit, share } = readAs(x) ?? {};
		caption(id, share ? plain("read", { digit, share: (100 * share).toFixed(0) }) : "");
	});
}
