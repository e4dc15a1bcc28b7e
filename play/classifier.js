"use strict";
/* The small classifier of support/quality.py. */

let reader = null; // of a picture: ten probabilities

function classifierOf(buffer) {
	const { tensor } = openWeights(buffer);
	const layers = [[28, 1, 16], [14, 16, 32], [7, 32, 64]].map(([side, inputs, outputs], i) => ({
		side, inputs, outputs, kernel: tensor(`conv_${i + 1}/kernel`, [3, 3, inputs, outputs]), bias: tensor(`conv_${i + 1}/bias`, [outputs]),
	}));
	const [features, classes] = [["features", 576, 64], ["classes", 64, 10]].map(([name, ...shape]) =>
		({ kernel: tensor(`${name}/kernel`, shape), bias: tensor(`${name}/bias`, [shape[1]]), relu: shape[1] > 10, out: new Float32Array(shape[1]) }));

	/** relu of a 3 × 3 convolution, the largest of every 2 × 2: (side, side, inputs) to half a side. */
	function convolve(x, { side, inputs, outputs, kernel, bias }) {
		const half = side >> 1, pooled = new Float32Array(half * half * outputs), sum = new Float32Array(outputs);
		for (let v = 0; v < 2 * half; v++)
			for (let u = 0; u < 2 * half; u++) {
				sum.set(bias);
				for (let k = 0; k < 9; k++) {
					const row = v + Math.floor(k / 3) - 1, column = u + (k % 3) - 1;
					if (row < 0 || column < 0 || row >= side || column >= side) continue;
					for (let i = 0; i < inputs; i++) {
						const value = x[(row * side + column) * inputs + i];
						if (value) for (let o = 0, p = (k * inputs + i) * outputs; o < outputs; o++) sum[o] += value * kernel[p + o];
					}
				}
				const at = ((v >> 1) * half + (u >> 1)) * outputs;
				for (let o = 0; o < outputs; o++) if (sum[o] > pooled[at + o]) pooled[at + o] = sum[o];
			}
		return pooled;
	}

	return (x) => {
		const logits = dense(dense(layers.reduce(convolve, x), features), classes), most = Math.max(...logits);
		const shares = Array.from(logits, (v) => Math.exp(v - most)), sum = shares.reduce((a, b) => a + b);
		return shares.map((share) => share / sum);
	};
}

/** What a picture is read as: { digit, share }; undefined where nothing can read it. */
function readAs(x) {
	if (!reader || x.length !== 784 || !x.some(Boolean)) return;
	const shares = reader(x.map((v) => clamp(v))), share = Math.max(...shares);
	return { digit: shares.indexOf(share), share };
}

const nameOf = (id) => plain(id).replace(/[:：]$/, "");

function caption(id, words) {
	$(`${id}-read`).textContent = words;
	$(id).ariaLabel = [nameOf(id), words].filter(Boolean).join(": ");
}

/** "read as 5, 97 %", after the picture instead of before it. */
const describe = (id, x) => later(id, () => {
	const { digit, share } = readAs(x) ?? {};
	caption(id, share ? plain("read", { digit, share: (100 * share).toFixed(0) }) : "");
});
