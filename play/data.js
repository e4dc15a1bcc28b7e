"use strict";
/* What is fetched, and what runs beside the page. */

let flow = null;
let data = null; // test digits; `known` where likelihoods are shipped
let shippedNats = null; // their log p, a row a model of SHIPPED
let trained = false; // has the worker the training digits?

const digits = () => (data && (!flow || (data.height === flow.height && data.width === flow.width)) ? data.count : 0);
const random = (n) => Math.floor(Math.random() * n);
const anyDigit = () => `t${random(digits())}`;
const scaled = (bytes) => Float32Array.from(bytes, (k) => k / (flow?.levels ?? 255));

function testDigit(name) {
	const size = data.height * data.width, at = (+name.slice(1) % digits() || 0) * size;
	return data.pixels.subarray(at, at + size);
}

/** A file's bytes; throws "network", or "opened" where the page is a file. */
async function fetched(url, signal, progress) {
	if (offline) throw "opened";
	try {
		const response = await fetch(url, { signal }), parts = [];
		if (!response.ok) throw "status";
		const reader = response.body.getReader();
		for (let got, part = 0; !(got = await reader.read()).done; parts.push(got.value)) progress?.(part += got.value.length);
		return await new Blob(parts).arrayBuffer();
	} catch {
		throw "network";
	}
}

/** Do what a file may make fail; say so, and let it be tried again. */
async function attempt(name, work) {
	try {
		await work();
		settled(name);
	} catch (error) {
		complain(error, name, () => attempt(name, work));
	}
}

const loadOne = (name, use, folder = "") => attempt(name, async () => use(await fetched(folder + name)));

function loadSmall() {
	loadOne("digits.gz", async (buffer) => {
		const bytes = new Uint8Array(await unpacked(buffer)), count = bytes.length / 785;
		data ??= { pixels: bytes.subarray(0, 784 * count), labels: bytes.subarray(784 * count), count, height: 28, width: 28, known: true };
		enable();
		refresh();
	});
	loadOne("likelihoods.bin", (buffer) => {
		shippedNats = new Float32Array(buffer);
		refresh("look");
	});
	loadOne("classifier.safetensors", (buffer) => {
		reader = classifierOf(buffer);
		refresh();
	}, "../weights/");
}

let worker = null, asking = Promise.resolve();

/** What the worker finds, a question at a time; throws "noworker" where none is allowed. */
function askWorker(question, ...owned) {
	return asking = asking.catch(() => {}).then(() => new Promise((done, fail) => {
		const forbidden = (event) => {
			event.preventDefault?.();
			worker = null;
			fail("noworker");
		};
		try {
			worker ??= new Worker(URL.createObjectURL(new Blob([`(${workerMain})()`], { type: "text/javascript" })));
		} catch (error) {
			return forbidden(error);
		}
		worker.onmessage = ({ data: { found, failed } }) => (failed ? fail("damaged") : done(found));
		worker.onerror = forbidden;
		worker.postMessage(question, owned);
	}));
}

/** The training digits, 11.5 MB: only when asked for. */
const askTraining = () => attempt("mnist.npz", async () => {
	await askWorker({ x: [] });
	$("nearest").disabled = true;
	try {
		const buffer = await fetched("../data/mnist.npz", undefined, (part) => showProgress("mnist.npz", part, 11490519));
		await askWorker({ buffer }, buffer);
		trained = true;
	} finally {
		$("nearest").disabled = false;
		endLoading();
		refresh("look");
	}
});
