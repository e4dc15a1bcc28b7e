"use strict";
/* layers.py once more; formula numbers are the article's. A classic script and one function: opened
   as file:// a page may load neither modules nor a worker, but make one of this function's text. */

function flowKit() {
	// --- the file

	/** float16 to float32: the bits moved into place, the exponents' bias put right. */
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

	const READ = { F16: widened, F32: (b) => new Float32Array(b), I32: (b) => new Int32Array(b) };

	/** A safetensors file: {configuration, tensor(name, shape), has(name)}. */
	function open(buffer) {
		const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
		const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));
		const configuration = JSON.parse(header.__metadata__.configuration);
		function tensor(name, wanted) {
			const { dtype, shape = [], data_offsets: [from, to] = [] } = header[name] ?? {};
			const read = READ[dtype], size = dtype === "F16" ? 2 : 4;
			const fits = read && shape.length === wanted.length && from >= 0
				&& shape.every((n, i) => n === (wanted[i] ?? n))
				&& to - from === shape.reduce((a, b) => a * b, size) && start + to <= buffer.byteLength;
			const values = fits && read(buffer.slice(start + from, start + to));
			let sum = 0;
			for (let i = 0; i < values.length; i++) sum += values[i];
			if (!fits || !Number.isFinite(sum)) throw Error("damaged");
			return Object.assign(values, { shape });
		}
		return { configuration, tensor, has: (name) => name in header };
	}

	/** The model of a configuration; throws where it is of another kind. */
	function check({ model = {}, prior, levels, picture = [] }) {
		const { dim, couplings, depth, units, output_activation, convention, shuffle } = model;
		const words = [output_activation, convention, shuffle, prior].join(" ");
		if (!(picture[0] * picture[1] === dim && dim % 2 === 0 && levels > 1 && couplings > 0 && depth >= 0
			&& units > 0 && /^(relu|linear) (article|paper) (reverse|random) (gaussian|logistic)$/.test(words)))
			throw Error("foreign");
		return model;
	}

	const count = (n) => Int32Array.from({ length: n }, (_, i) => i);

	/** The Mersenne Twister of a seed: a function that gives 32 random bits. */
	function twister(seed) {
		const mt = Uint32Array.of(seed, ...new Array(623));
		for (let i = 1; i < 624; i++) mt[i] = Math.imul(1812433253, mt[i - 1] ^ (mt[i - 1] >>> 30)) + i;
		let at = 624;
		return () => {
			if (at === 624)
				for (let i = at = 0; i < 624; i++) {
					const y = (mt[i] & 0x80000000) | (mt[(i + 1) % 624] & 0x7fffffff);
					mt[i] = mt[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 && 0x9908b0df);
				}
			let y = mt[at++];
			y ^= y >>> 11;
			y ^= (y << 7) & 0x9d2c5680;
			y ^= (y << 15) & 0xefc60000;
			return (y ^ (y >>> 18)) >>> 0;
		};
	}

	/** np.random.RandomState(seed).permutation(n). */
	function permutation(seed, n) {
		const order = count(n), next = twister(seed);
		for (let i = n - 1; i > 0; i--) {
			const mask = 2 ** (32 - Math.clz32(i)) - 1;
			let j;
			do j = next() & mask; while (j > i);
			[order[i], order[j]] = [order[j], order[i]];
		}
		return order;
	}

	// --- the network m

	const rows = []; // that a layer needs

	/** x @ kernel + bias. Behind a relu two of three x are 0: their rows are skipped. */
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

	/** kernel @ dy, the gradient by x; behind a relu only where it was on. */
	function transposed(dy, { kernel }, x, relu) {
		const width = dy.length, dx = new Float32Array(x.length);
		for (let i = 0; i < x.length; i++) {
			if (relu && x[i] === 0) continue;
			let sum = 0;
			for (let o = 0, p = i * width; o < width; o++, p++) sum += kernel[p] * dy[o];
			dx[i] = sum;
		}
		return dx;
	}

	// --- the flow

	const shuffled = (h, order) => h.map((_, i) => h[order[i]]);

	function unshuffled(h, order) {
		const x = h.slice();
		order.forEach((from, i) => { x[from] = h[i]; });
		return x;
	}

	class Flow {
		/** Reads a weights file whole, or throws. */
		constructor(buffer) {
			const file = open(buffer), { configuration } = file, model = check(configuration);
			const { dim } = model, half = dim / 2;
			[this.height, this.width] = configuration.picture;
			Object.assign(this, { configuration, dim, levels: configuration.levels });
			this.gaussian = configuration.prior === "gaussian";
			this.sign = model.convention === "paper" ? 1 : -1; // (7) or (9) is the encoder's direction
			this.couplings = [];
			this.places = [count(dim)]; // the pixel that each dimension comes from
			this.parameters = dim;
			for (let c = 1; c <= model.couplings; c++) {
				const layers = [];
				for (let l = 1; l <= model.depth + 1; l++) {
					const last = l > model.depth, name = `encoder/coupling_${c}/m/dense_${l}/`;
					const shape = [l > 1 ? model.units : half, last ? half : model.units];
					const kernel = file.tensor(name + "kernel", shape), bias = file.tensor(name + "bias", [shape[1]]);
					const relu = !last || model.output_activation === "relu";
					layers.push({ kernel, bias, relu, out: new Float32Array(shape[1]) });
					this.parameters += kernel.length + bias.length;
				}
				const order = model.shuffle === "random" ? permutation((model.seed ?? 0) + c, dim)
					: count(dim).reverse();
				this.couplings.push({ layers, order, input: new Float32Array(half) });
				this.places.push(shuffled(this.places[c - 1], order));
			}
			const logScale = file.tensor("encoder/scale/log_scale", [1, dim]);
			this.scale = Float64Array.from(logScale, Math.exp); // s of (14)
			this.sigma = this.scale.map((s) => 1 / s); // (16)
			this.determinant = logScale.reduce((a, b) => a + b, 0);
			this.codes = file.has("codes/means") ? readCodes(file, dim) : null;
		}

		/** h2 ± m(h1) in place: h1 at the even places of h, h2 at the odd ones, (7) or (9). */
		couple({ layers, input }, h, sign) {
			for (let i = 0; i < input.length; i++) input[i] = h[2 * i];
			const m = layers.reduce(dense, input); // every layer keeps what it put out
			for (let i = 0; i < m.length; i++) h[2 * i + 1] += sign * m[i];
		}

		/** Picture (D,) -> code (D,): (10) from x to z. */
		encode(x) {
			let h = Float64Array.from(x);
			for (const coupling of this.couplings) {
				h = shuffled(h, coupling.order); // (13)
				this.couple(coupling, h, this.sign);
			}
			return Float32Array.from(h, (v, i) => v * this.scale[i]);
		}

		/** Code (D,) -> picture (D,), not clipped; `watch(h, i)` sees h⁽ⁿ⁾, …, h⁽⁰⁾ on the way. */
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

		/** log p(x) = determinant - energy - constant (15), at x's code; nats. */
		terms(z) {
			let energy = 0;
			for (const v of z)
				energy += this.gaussian ? v * v / 2 : Math.abs(v) + 2 * Math.log1p(Math.exp(-Math.abs(v)));
			const constant = this.gaussian ? this.dim / 2 * Math.log(2 * Math.PI) : 0;
			return { energy, constant, total: this.determinant - energy - constant };
		}

		/** Exact log p(x) in nats. */
		logLikelihood(x) {
			return this.terms(this.encode(x)).total;
		}

		/** ∂ log p(x)/∂x, (D,); Σ log s does not depend on x. */
		gradient(x) {
			const prior = (v) => (this.gaussian ? -v : -Math.tanh(v / 2));
			let g = Float64Array.from(this.encode(x), (v, i) => this.scale[i] * prior(v));
			for (const { layers, input, order } of this.couplings.toReversed()) {
				let dy = layers.at(-1).out.map((out, i) =>
					layers.at(-1).relu && out === 0 ? 0 : this.sign * g[2 * i + 1]);
				for (let l = layers.length - 1; l >= 0; l--)
					dy = transposed(dy, layers[l], l ? layers[l - 1].out : input, l > 0);
				for (let i = 0; i < dy.length; i++) g[2 * i] += dy[i];
				g = unshuffled(g, order);
			}
			return Float32Array.from(g);
		}

		/** A code of the prior. */
		draw(random) {
			return Float32Array.from(this.scale, this.gaussian ? random.normal : random.logistic);
		}
	}

	// --- fitted codes

	function readCodes(file, dim) {
		const means = file.tensor("codes/means", [null, dim]), [groups] = means.shape, read = (name, ...shape) =>
			file.tensor(`codes/${name}`, [groups, ...shape]);
		return { means, labels: read("labels"), shares: read("shares"),
			directions: read("directions", null, dim), low: read("low", dim), high: read("high", dim) };
	}

	/** A fitted code: z = mean + T Σ e_r direction_r of one of the label's groups, clipped. */
	function drawCode({ labels, shares, means, directions, low, high }, label, random, T) {
		const [groups, rank, dim] = directions.shape, of = count(groups).filter((g) => labels[g] === label);
		let left = random.uniform() * of.reduce((sum, g) => sum + shares[g], 0);
		const group = of.find((g) => (left -= shares[g]) < 0) ?? of[0], from = group * dim;
		const z = means.slice(from, from + dim);
		for (let r = 0; r < rank; r++) {
			const e = T * random.normal(), at = (group * rank + r) * dim;
			for (let i = 0; i < dim; i++) z[i] += e * directions[at + i];
		}
		return z.map((v, i) => Math.min(Math.max(v, low[from + i]), high[from + i]));
	}

	/** Random numbers of a seed, the same in every browser. */
	function randomOf(seed) {
		const next = twister(seed), uniform = () => (next() + 0.5) / 2 ** 32; // never 0 or 1
		return {
			uniform,
			normal: () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
			logistic: () => -Math.log(1 / uniform() - 1),
		};
	}

	return { Flow, drawCode, randomOf };
}

const kit = flowKit();
