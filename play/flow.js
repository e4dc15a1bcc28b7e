"use strict";
/* layers.py and networks.py once more. */

const count = (n) => new Int32Array(n).map((_, i) => i);

const rows = [];

/** x @ kernel + bias. Behind a relu most x are 0: their rows are skipped. */
function dense(x, { kernel, bias, out, relu }) {
	const width = out.length;
	let n = 0, k = 0;
	for (let i = 0; i < x.length; i++) if (x[i] !== 0) rows[n++] = i;
	out.set(bias);
	for (; k + 4 <= n; k += 4) { // four rows at a time: out is read and written less
		const [i, j, l, m] = [rows[k], rows[k + 1], rows[k + 2], rows[k + 3]];
		const a = x[i], b = x[j], c = x[l], d = x[m];
		const p = i * width, q = j * width, r = l * width, s = m * width;
		for (let o = 0; o < width; o++)
			out[o] += a * kernel[p + o] + b * kernel[q + o] + c * kernel[r + o] + d * kernel[s + o];
	}
	for (; k < n; k++) {
		const a = x[rows[k]], p = rows[k] * width;
		for (let o = 0; o < width; o++) out[o] += a * kernel[p + o];
	}
	if (relu) for (let o = 0; o < width; o++) if (out[o] < 0) out[o] = 0;
	return out;
}

/** `dense` on every pixel's neighbourhood: (height, width, inputs) to (height, width, outputs). */
function convolve(x, layer) {
	const { kernel: { shape: [rows, columns, inputs] }, size: [height, width], out } = layer;
	const patch = new Float32Array(rows * columns * inputs), y = new Float32Array(height * width * out.length);
	for (let v = 0, n = 0; v < height; v++)
		for (let u = 0; u < width; u++, n += out.length) {
			const left = u - ((columns - 1) >> 1), from = Math.max(left, 0), to = Math.min(left + columns, width);
			patch.fill(0);
			for (let r = 0, row = v - ((rows - 1) >> 1); r < rows; r++, row++)
				if (row >= 0 && row < height) patch.set(x.subarray((row * width + from) * inputs, (row * width + to) * inputs), (r * columns + from - left) * inputs);
			y.set(dense(patch, layer), n);
		}
	return y;
}

/** A layer of a file: dense, or a convolution of pictures of a size [height, width]. */
function layerOf(file, name, wanted, relu, size) {
	const kernel = file.scaled(name + "/kernel", name + "/step", wanted), width = kernel.shape[wanted.length - 1];
	return { kernel, bias: file.tensor(name + "/bias", [width]), relu, size, out: new Float32Array(width), run: size ? convolve : dense };
}

const shuffled = (h, order) => h.map((_, i) => h[order[i]]);

function unshuffled(h, order) {
	const x = h.slice();
	order.forEach((from, i) => { x[from] = h[i]; });
	return x;
}

class Flow {
	constructor(buffer) {
		const file = openWeights(buffer), { configuration } = file, model = checkedModel(configuration);
		const { dim } = model, half = dim / 2, logScale = file.tensor("encoder/scale/log_scale", [1, dim]);
		[this.height, this.width] = configuration.picture;
		Object.assign(this, { configuration, model, dim, levels: configuration.levels });
		this.gaussian = configuration.prior === "gaussian";
		this.sign = model.convention === "paper" ? 1 : -1; // (7) or (9) is the encoder's direction
		this.couplings = [];
		this.places = [count(dim)]; // each dimension's pixel
		this.parameters = dim;
		for (let c = 1; c <= model.couplings; c++) {
			const { layers, outputs } = this.network(file, `encoder/coupling_${c}/`, c <= model.convolutions);
			const order = model.shuffle === "random" ? permutation((model.seed ?? 0) + c, dim) : count(dim).reverse();
			this.couplings.push({ layers, outputs, order, input: new Float32Array(half) });
			this.places.push(shuffled(this.places[c - 1], order));
		}
		this.scale = Float64Array.from(logScale, Math.exp); // s of (14)
		this.sigma = this.scale.map((s) => 1 / s); // (16)
		this.determinant = logScale.reduce((a, b) => a + b, 0);
		this.codes = file.has("codes/basis") ? readCodes(file, dim) : null;
	}

	/** m of one coupling; in the compact file without the units and outputs that never respond. */
	network(file, coupling, convolves) {
		const { dim, depth, units, channels, kernel: K, output_activation } = this.model, half = dim / 2, layers = [];
		const compact = this.compact = file.has(coupling + "outputs");
		const outputs = compact ? file.tensor(coupling + "outputs", [null]) : count(half);
		if (!outputs.every((o) => o >= 0 && o < half)) throw Error("damaged");
		const size = convolves && [this.height, this.width / 2];
		const plan = convolves ? [[K, K + 1, channels], [1, 1, channels], [K, K, 1]] // the last number: outputs
			: [...times(depth, () => [compact ? null : units]), [outputs.length]];
		let inputs = convolves ? 1 : half;
		plan.forEach((sides, l) => {
			const name = `${coupling}m/${convolves ? "conv" : "dense"}_${l + 1}`, wanted = [...sides.slice(0, -1), inputs, last(sides)];
			const layer = layerOf(file, name, wanted, plan[l + 1] || !convolves && output_activation === "relu", size);
			layers.push(layer);
			inputs = layer.out.length;
			this.parameters += layer.kernel.length + inputs;
		});
		return { layers, outputs };
	}

	/** h2 ± m(h1) in place: h1 at the even places of h, h2 at the odd ones, (7) or (9). */
	couple({ layers, outputs, input }, h, sign) {
		for (let i = 0; i < input.length; i++) input[i] = h[2 * i];
		const m = layers.reduce((x, layer) => layer.run(x, layer), input);
		for (let i = 0; i < m.length; i++) h[2 * outputs[i] + 1] += sign * m[i];
	}

	/** x -> z, (10). */
	encode(x) {
		let h = Float64Array.from(x);
		for (const coupling of this.couplings) {
			h = shuffled(h, coupling.order); // (13)
			this.couple(coupling, h, this.sign);
		}
		return Float32Array.from(h, (v, i) => v * this.scale[i]);
	}

	/** z -> x, not clipped; `watch(h, c)` sees h⁽ⁿ⁾, …, h⁽⁰⁾ on the way. */
	decode(z, watch) {
		let h = Float64Array.from(z, (v, i) => v * this.sigma[i]);
		for (let c = this.couplings.length; c > 0; c--) {
			watch?.(h, c);
			this.couple(this.couplings[c - 1], h, -this.sign);
			h = unshuffled(h, this.couplings[c - 1].order);
		}
		watch?.(h, 0);
		return Float32Array.from(h);
	}

	/** h⁽ᶜ⁾ with every dimension at its pixel. */
	upright(h, c) {
		return unshuffled(h, this.places[c]);
	}

	/** log p(x) = determinant - energy - constant, (15), at x's code. */
	terms(z) {
		let energy = 0;
		for (const v of z)
			energy += this.gaussian ? v * v / 2 : Math.abs(v) + 2 * Math.log1p(Math.exp(-Math.abs(v)));
		const constant = this.gaussian ? this.dim / 2 * Math.log(2 * Math.PI) : 0;
		return { energy, constant, total: this.determinant - energy - constant };
	}

	logLikelihood(x) {
		return this.terms(this.encode(x)).total;
	}

	draw(random) {
		return Float32Array.from(this.scale, this.gaussian ? random.normal : random.logistic);
	}
}

function readCodes(file, dim) {
	const read = (name, ...shape) => file.tensor("codes/" + name, shape);
	const basis = file.scaled("codes/basis", "codes/basis_step", [null, dim], true), [size] = basis.shape;
	const means = read("means", null, size), [groups] = means.shape;
	const directions = file.scaled("codes/directions", "codes/step", [groups, null, size], true);
	return { basis, means, directions, labels: read("labels", groups), shares: read("shares", groups), centre: read("centre", dim), contrast: read("contrast", 1)[0] };
}

/** z = centre + (mean + T Σ e_r direction_r) B of one of the label's groups: see codes.py. */
function drawCode({ basis, means, labels, shares, directions, centre }, label, random, T) {
	const [, rank, size] = directions.shape, of = [...labels.keys()].filter((g) => labels[g] === label);
	let left = random.uniform() * of.reduce((sum, g) => sum + shares[g], 0);
	const group = of.find((g) => (left -= shares[g]) < 0) ?? of[0], c = means.slice(group * size, (group + 1) * size), z = centre.slice();
	for (let r = 0; r < rank; r++) {
		const e = T * random.normal(), at = (group * rank + r) * size;
		for (let k = 0; k < size; k++) c[k] += e * directions[at + k];
	}
	for (let n = 0, k = 0; k < size; k++)
		for (let i = 0; i < z.length; i++) z[i] += c[k] * basis[n++];
	return z;
}
