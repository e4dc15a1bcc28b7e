"use strict";
/* Beside the page: .npz files, the nearest training digits. The worker is made of this function's text:
   file:// allows no other. */

function workerMain() {
	let train = null;

	function unzip(buffer) {
		const view = new DataView(buffer), found = {};
		let end = buffer.byteLength - 22;
		while (view.getUint32(end, true) !== 0x06054b50) end--;
		let at = view.getUint32(end + 16, true);
		for (let left = view.getUint16(end + 10, true); left > 0; left--) {
			const [method, name, extra, comment] = [10, 28, 30, 32].map((i) => view.getUint16(at + i, true));
			const [size, local] = [20, 42].map((i) => view.getUint32(at + i, true));
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

	function array(buffer) {
		const length = new DataView(buffer).getUint16(8, true);
		const header = new TextDecoder().decode(new Uint8Array(buffer, 10, length));
		const shape = /\|u1.*False.*\(([\d, ]+)\)/.exec(header)[1].split(",").map(Number);
		return { shape, values: new Uint8Array(buffer, 10 + length) };
	}

	async function load(buffer, both) {
		const members = unzip(buffer), part = async (kind) => {
			const [x, y] = await Promise.all(["x_", "y_"].map(async (of) => array(await members[`${of}${kind}.npy`]())));
			const [count, height, width] = x.shape;
			if (x.values.length !== count * height * width || y.values.length !== count) throw "damaged";
			return { pixels: x.values, labels: y.values, count, height, width };
		};
		const found = await part("train"), test = both && await part("test");
		train = found;
		return test;
	}

	/** The training digits y with the least ‖x - y‖. */
	function nearest(x, wanted) {
		const dim = x.length, { pixels, labels, count } = train ?? {};
		if (pixels?.length !== count * dim) return [];
		const sums = new Float64Array(count);
		for (let n = 0, p = 0; n < count; n++)
			for (let i = 0; i < dim; i++) sums[n] += (x[i] - pixels[p++]) ** 2;
		return [...sums.keys()].sort((a, b) => sums[a] - sums[b]).slice(0, wanted).map((n) =>
			({ pixels: pixels.slice(n * dim, (n + 1) * dim), label: labels[n], distance: Math.sqrt(sums[n]) / 255 }));
	}

	onmessage = async ({ data: { buffer, both, x, wanted } }) => {
		try {
			postMessage({ found: buffer ? await load(buffer, both) : nearest(x, wanted) });
		} catch {
			postMessage({ failed: true });
		}
	};
}
