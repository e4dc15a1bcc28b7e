"use strict";
/* Weights files: safetensors with their configuration. */

/** float16 to float32: bits moved, the exponents' bias put right. */
function widened(bytes) {
	const halves = new Uint16Array(bytes), values = new Float32Array(halves.length);
	const bits = new Uint32Array(values.buffer);
	for (let i = 0; i < halves.length; i++) {
		const h = halves[i];
		bits[i] = ((h & 0x8000) << 16) | ((h & 0x7fff) << 13);
		values[i] *= (h & 0x7c00) === 0x7c00 ? NaN : 2 ** 112;
	}
	return values;
}

const KINDS = { // of numbers: bytes, and how to read them
	F32: [4, (b) => new Float32Array(b)],
	F16: [2, widened],
	I32: [4, (b) => new Int32Array(b)],
	I8: [1, (b) => new Int8Array(b)],
};

/** A file: { configuration, tensor, scaled, has }; throws where it is none. */
function openWeights(buffer) {
	const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
	const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));

	/** Numbers and their `shape`; `wanted` has null where any length will do. */
	function tensor(name, wanted) {
		const { dtype, shape = [], data_offsets: [from, to] = [] } = header[name] ?? {}, [bytes, read] = KINDS[dtype] ?? [];
		const fits = read && shape.length === wanted.length && from >= 0 && shape.every((n, i) => n === (wanted[i] ?? n))
			&& to - from === shape.reduce((a, b) => a * b, bytes) && start + to <= buffer.byteLength;
		const values = fits && read(buffer.slice(start + from, start + to));
		let sum = 0;
		for (let i = 0; i < values.length; i++) sum += values[i];
		if (!fits || !Number.isFinite(sum)) throw Error("damaged");
		return Object.assign(values, { shape });
	}

	/** Whole numbers times their steps, one a column or a row; others as they are. */
	function scaled(name, steps, wanted, byRow) {
		const numbers = tensor(name, wanted), { shape } = numbers, width = last(shape);
		if (!(numbers instanceof Int8Array)) return numbers;
		const values = new Float32Array(numbers.length), step = tensor(steps, byRow ? shape.slice(0, -1) : [width]);
		for (let i = 0, n = 0; n < values.length; i++)
			for (let o = 0; o < width; o++, n++) values[n] = numbers[n] * step[byRow ? i : o];
		return Object.assign(values, { shape });
	}

	return { configuration: JSON.parse(header.__metadata__.configuration), tensor, scaled, has: (name) => name in header };
}

/** The model of a configuration; throws where it is none of nice.py's. */
function checkedModel({ model: given, prior, levels, picture: [height, width] }) {
	const model = { network: "dense", channels: 32, kernel: 3, ...given }; // of files from before
	const { dim, couplings, network, channels, kernel, depth, units, output_activation: end, convention, shuffle } = model;
	const whole = [height, width, couplings, channels, kernel, depth + 1, units].every((v) => Number.isInteger(v) && v > 0 && v <= 1e6);
	const torn = network !== "dense" && (width % 2 || kernel % 2 === 0 || shuffle !== "reverse"); // see networks.py
	if (!whole || torn || height * width !== dim || dim % 2 || ![255, 256].includes(levels)
		|| !/^(dense|conv|both) (relu|linear) (article|paper) (reverse|random) (gaussian|logistic)$/.test([network, end, convention, shuffle, prior].join(" ")))
		throw Error("foreign");
	const convolutions = { dense: 0, conv: couplings, both: couplings >> 1 }[network]; // the first of the couplings
	return { ...model, convolutions, dense: couplings - convolutions };
}

/** What gzip has packed; else as it is: a server may have unpacked it. */
async function unpacked(buffer) {
	const [a, b] = new Uint8Array(buffer.slice(0, 2));
	if (a !== 0x1f || b !== 0x8b) return buffer;
	return new Response(new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
