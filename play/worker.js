"use strict";
/* What takes long, beside the page. */

function workerMain(kit) {
	let flow = null, train = null, test = null; // {pixels, labels, count, height, width}
	let jobs = []; // generators
	let running = false;
	const { port1, port2 } = new MessageChannel();
	const pause = () => new Promise((done) => {
		port1.onmessage = done;
		port2.postMessage(0);
	});

	/** Run a generator, one of a kind, the last first; between its slices messages get in. */
	async function start(kind, job) {
		jobs = jobs.filter((other) => other.kind !== kind);
		if (job) jobs.push(Object.assign(job, { kind }));
		if (running) return;
		running = true;
		while (jobs.length) {
			const last = jobs.at(-1);
			if (last.next().done) jobs = jobs.filter((other) => other !== last);
			await pause();
		}
		running = false;
	}

	// --- the data, .npz

	/** The members of a zip by name, each a function that inflates it. */
	function unzip(buffer) {
		const view = new DataView(buffer), found = {};
		let end = buffer.byteLength - 22;
		while (view.getUint32(end, true) !== 0x06054b50) end--;
		let at = view.getUint32(end + 16, true);
		for (let left = view.getUint16(end + 10, true); left > 0; left--) {
			const [method, name, extra, comment] = [10, 28, 30, 32].map((i) => view.getUint16(at + i, true));
			const size = view.getUint32(at + 20, true), local = view.getUint32(at + 42, true);
			const from = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
			found[new TextDecoder().decode(new Uint8Array(buffer, at + 46, name))] = () => {
				let body = new Blob([new Uint8Array(buffer, from, size)]).stream();
				if (method) body = body.pipeThrough(new DecompressionStream("deflate-raw"));
				return new Response(body).arrayBuffer();
			};
			at += 46 + name + extra + comment;
		}
		return found;
	}

	/** A .npy file of bytes: {shape, values}. */
	function array(buffer) {
		const length = new DataView(buffer).getUint16(8, true);
		const header = new TextDecoder().decode(new Uint8Array(buffer, 10, length));
		const shape = /\|u1.*False.*\(([\d, ]+)\)/.exec(header)[1].split(",").map(Number);
		return { shape, values: new Uint8Array(buffer, 10 + length) };
	}

	async function load(source) {
		let buffer = source;
		if (typeof source === "string") {
			const response = await fetch(source);
			if (!response.ok) throw "missing";
			buffer = await response.arrayBuffer();
		}
		const members = unzip(buffer), digits = async (part) => {
			const [x, y] = await Promise.all(["x_", "y_"].map(async (name) => array(await members[`${name}${part}.npy`]())));
			const [count, height, width] = x.shape;
			if (x.values.length !== count * height * width || y.values.length !== count) throw "shape";
			return { pixels: x.values, labels: y.values, count, height, width };
		};
		[train, test] = [await digits("train"), await digits("test")];
		const mean = new Float32Array(train.height * train.width), unit = 1 / (255 * train.count);
		for (let n = 0, p = 0; n < train.count; n++)
			for (let i = 0; i < mean.length; i++) mean[i] += train.pixels[p++] * unit;
		postMessage({ kind: "data", test, mean });
		count();
	}

	// --- likelihoods of test digits

	const fits = () => flow && test?.height === flow.height && test.width === flow.width;

	function* likelihoods(kind, most, shift) {
		const nats = [], { dim, width, levels } = flow;
		for (let n = 0; n < Math.min(most, test.count); n++) {
			const x = new Float32Array(dim), at = n * dim - shift;
			for (let i = 0; i < dim; i++) if (i % width >= shift) x[i] = test.pixels[at + i] / levels;
			nats.push(flow.logLikelihood(x));
			if (n % 50 === 49) postMessage({ kind, nats, shift });
			if (n % 3 === 2) yield;
		}
		postMessage({ kind, nats, shift });
	}

	const count = () => start("histogram", fits() && likelihoods("histogram", 1000, 0));

	// --- the nearest training digits

	/** The `wanted` ones with the least ‖x - y‖, in bytes; too far is left early. */
	function nearest(x, wanted) {
		const best = [], dim = x.length, { pixels, labels, count, width } = train;
		let limit = Infinity;
		for (let n = 0; n < count; n++) {
			let sum = 0;
			for (let i = 0, p = n * dim; i < dim && sum < limit;)
				for (const end = i + width; i < end; i++, p++) sum += (x[i] - pixels[p]) ** 2;
			if (sum >= limit) continue;
			best.push({ n, sum });
			best.sort((a, b) => a.sum - b.sum);
			if (best.length > wanted) limit = best[best.length = wanted, wanted - 1].sum;
		}
		return best.map(({ n, sum }) =>
			({ pixels: pixels.slice(n * dim, (n + 1) * dim), label: labels[n], distance: Math.sqrt(sum) / 255 }));
	}

	// --- gradient ascent

	/** x <- x + α σ² ∂log p/∂x where `mask` is, in [0, 1]. σ², for ∂²log p/∂x² is near -1/σ². α grows
	    with every step that rises, and halves until one does. */
	function* climb(x, mask, steps) {
		const sigma = flow.upright(flow.sigma, flow.couplings.length);
		let nats = flow.logLikelihood(x), rate = 0.1;
		for (let step = 0; step < steps; step++) {
			const g = flow.gradient(x);
			let next, reached;
			do {
				next = x.map((v, i) => (mask[i] ? Math.min(Math.max(v + rate * sigma[i] ** 2 * g[i], 0), 1) : v));
				reached = flow.logLikelihood(next);
				yield;
				rate /= 2;
			} while (!(reached > nats) && rate > 1e-7);
			if (!(reached > nats)) break;
			[x, nats, rate] = [next, reached, Math.min(3 * rate, 1)];
			postMessage({ kind: "climb", x, nats });
		}
		postMessage({ kind: "climb", x, done: true });
	}

	onmessage = async ({ data: message }) => {
		if (message.weights) {
			jobs = [];
			flow = new kit.Flow(message.weights);
			count();
		}
		if (message.data)
			await load(message.data).catch((error) =>
				postMessage({ kind: "problem", reason: error === "missing" ? error : "damaged" }));
		if (message.nearest && fits())
			postMessage({ kind: "nearest", found: nearest(message.nearest, message.wanted), id: message.id });
		if ("shift" in message)
			start("shift", message.shift && fits() && likelihoods("shift", 200, message.shift));
		if ("climb" in message) start("climb", message.climb && climb(message.climb, message.mask, message.steps));
	};
}

function startWorker() {
	const text = `(${workerMain})((${flowKit})())`;
	return new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
}
