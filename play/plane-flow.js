"use strict";
/* NICE in the plane, D = 2, with its own backpropagation. */

const WIDTH = 16; // of m's two hidden layers, relu: 1 -> 16 -> 16 -> 1
const SIZE = WIDTH * WIDTH + 4 * WIDTH + 1; // numbers of one m

/** The parts of one m: views into an array of all weights, or all gradients. */
function partsOf(array, from) {
	const take = (n) => array.subarray(from, from += n);
	return { w1: take(WIDTH), b1: take(WIDTH), w2: take(WIDTH * WIDTH), b2: take(WIDTH), w3: take(WIDTH), b3: take(1) };
}

class PlaneFlow {
	/** crossing: (13), without it (12); encodes: which of "9" and "7" leads from x to z; scaling: (14). */
	constructor({ couplings, crossing, encodes, scaling }, random) {
		Object.assign(this, { crossing, scaling, sign: encodes === "7" ? 1 : -1, steps: 0 });
		[this.weights, this.gradients, this.means, this.squares] = [0, 0, 0, 0].map(() => new Float64Array(couplings * SIZE + 2));
		this.logScale = this.weights.subarray(-2);
		this.layers = times(couplings, (c) => {
			const parts = partsOf(this.weights, c * SIZE);
			// nearly the identity; were w3 0, rings would hold it there
			for (const [name, width] of [["w1", 1.5], ["b1", 1.5], ["w2", (2 / WIDTH) ** 0.5], ["w3", 0.03]])
				parts[name].forEach((_, i) => { parts[name][i] = width * random.normal(); });
			return { ...parts, gradient: partsOf(this.gradients, c * SIZE), u: 0, h1: new Float64Array(WIDTH), h2: new Float64Array(WIDTH) };
		});
	}

	/** m(u) of a layer, whose hidden units keep what they put out. */
	m(layer, u) {
		const { w1, b1, w2, b2, w3, b3, h1, h2 } = layer;
		let m = b3[0];
		layer.u = u;
		for (let i = 0; i < WIDTH; i++) h1[i] = Math.max(w1[i] * u + b1[i], 0);
		for (let j = 0; j < WIDTH; j++) {
			let sum = b2[j];
			for (let i = 0, k = j * WIDTH; i < WIDTH; i++) sum += h1[i] * w2[k + i];
			h2[j] = Math.max(sum, 0);
			m += h2[j] * w3[j];
		}
		return m;
	}

	/** x to h⁽ⁿ⁾, in place as are the next three; `watch(layer)` after every coupling. */
	forward(h, watch) {
		for (const layer of this.layers) {
			if (this.crossing) [h[0], h[1]] = [h[1], h[0]];
			h[1] += this.sign * this.m(layer, h[0]);
			watch?.(layer);
		}
	}

	scale(h, sign) {
		for (const i of [0, 1]) h[i] *= Math.exp(sign * this.logScale[i]);
		return h;
	}

	encode(h) {
		this.forward(h);
		return this.scale(h, 1);
	}

	decode(h) {
		this.scale(h, -1);
		for (let c = this.layers.length - 1; c >= 0; c--) {
			h[1] -= this.sign * this.m(this.layers[c], h[0]);
			if (this.crossing) [h[0], h[1]] = [h[1], h[0]];
		}
		return h;
	}

	/** -log p(x), the loss (15) with its constant, mean over points [x, y, x, y, …]; nats. */
	loss(points) {
		let sum = 0;
		for (let k = 0; k < points.length; k += 2) {
			const [z1, z2] = this.encode([points[k], points[k + 1]]);
			sum += z1 * z1 + z2 * z2;
		}
		return sum / points.length - this.logScale[0] - this.logScale[1] + Math.log(2 * Math.PI);
	}

	/** ∂z/∂x at a point, and ±m′ of every coupling there; spoils the gradients, which `step` clears. */
	jacobian(x) {
		const slopes = [];
		let rows = [[1, 0], [0, 1]];
		this.forward([...x], (layer) => {
			const slope = this.sign * this.backwardOfM(layer, 1);
			const [kept, moved] = this.crossing ? [rows[1], rows[0]] : rows;
			rows = [kept, moved.map((v, i) => v + slope * kept[i])];
			slopes.push(slope);
		});
		return { slopes, whole: rows.map((row, i) => row.map((v) => v * Math.exp(this.logScale[i]))) };
	}

	/** The gradients of one point's loss, added up. */
	backward(h) {
		this.forward(h);
		let [g1, g2] = h.map((v, i) => {
			const s = Math.exp(this.logScale[i]), z = v * s;
			this.gradients[this.gradients.length - 2 + i] += z * z - 1; // -1 of -Σ log s
			return z * s;
		});
		for (let c = this.layers.length - 1; c >= 0; c--) {
			g1 += this.backwardOfM(this.layers[c], this.sign * g2);
			if (this.crossing) [g1, g2] = [g2, g1];
		}
	}

	/** From the gradient by m to those by its input and its weights. */
	backwardOfM({ w1, w2, w3, h1, h2, u, gradient }, dm) {
		const dh1 = this.dh1 ??= new Float64Array(WIDTH);
		let du = 0;
		dh1.fill(0);
		gradient.b3[0] += dm;
		for (let j = 0; j < WIDTH; j++) {
			if (h2[j] === 0) continue;
			const d = dm * w3[j];
			gradient.w3[j] += dm * h2[j];
			gradient.b2[j] += d;
			for (let i = 0, k = j * WIDTH; i < WIDTH; i++, k++) {
				gradient.w2[k] += d * h1[i];
				dh1[i] += d * w2[k];
			}
		}
		for (let i = 0; i < WIDTH; i++) {
			if (h1[i] === 0) continue;
			gradient.w1[i] += dh1[i] * u;
			gradient.b1[i] += dh1[i];
			du += dh1[i] * w1[i];
		}
		return du;
	}

	/** A step of Adam, smaller and smaller so that the loss settles. */
	step(points) {
		const { weights, gradients, means, squares } = this, t = ++this.steps;
		gradients.fill(0);
		for (let k = 0; k < points.length; k += 2) this.backward([points[k], points[k + 1]]);
		if (!this.scaling) gradients.fill(0, -2);
		const unbiased = 4e-3 / (1 + t / 500) * Math.sqrt(1 - 0.999 ** t) / (1 - 0.9 ** t);
		for (let i = 0; i < weights.length; i++) {
			const g = 2 * gradients[i] / points.length;
			means[i] += 0.1 * (g - means[i]);
			squares[i] += 0.001 * (g * g - squares[i]);
			weights[i] -= unbiased * means[i] / (Math.sqrt(squares[i]) + 1e-8);
		}
	}
}

const polar = (radius, t, width, r) => [radius * Math.cos(t), radius * Math.sin(t)].map((v) => v + width * r.normal());

/** Points to learn, [x, y], of a random generator. */
const PLANES = {
	moons(r) {
		const t = Math.PI * r.uniform(), [c, s] = [Math.cos(t), Math.sin(t)];
		return (r.uniform() < 0.5 ? [c - 0.5, s - 0.25] : [0.5 - c, 0.25 - s]).map((v) => 1.02 * v + 0.05 * r.normal());
	},
	rings(r) {
		const t = 2 * Math.PI * r.uniform(), radius = r.uniform() < 0.35 ? 0.6 : 1.4;
		return polar(radius, t, 0.07, r);
	},
	spirals(r) {
		const t = 0.5 + 4.5 * Math.sqrt(r.uniform()), turn = r.uniform() < 0.5 ? 0.33 * t : -0.33 * t;
		return polar(turn, t, 0.04, r);
	},
	gaussians(r) {
		return polar(1.4, Math.floor(8 * r.uniform()) * Math.PI / 4, 0.12, r);
	},
};
