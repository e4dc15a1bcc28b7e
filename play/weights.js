"use strict";
/* The card "Weights", and what went wrong, in words. */

const NAMES = Object.keys(SHIPPED); // the first one opens

const titleOf = (name) => (NAMES.includes(name) ? plain(name) : name);
let loading = null; // AbortController
let told = null; // the message: { reason, name, again }

function complain(reason, name = "", again = null) {
	told = { reason: typeof reason === "string" ? reason : "damaged", name, again };
	tell();
}

function tell() {
	$("message").hidden = !told;
	$("told").innerHTML = told ? say(told.reason, told) : "";
	$("again").hidden = !told?.again;
}

/** What went wrong with a file, or any, no longer holds. */
function settled(name) {
	if (!name || told?.name === name) told = null;
	tell();
}

/** Fetch weights of the list, no others in their place. */
async function loadShipped(wanted) {
	const n = Math.max(NAMES.indexOf(wanted), 0), name = NAMES[n], file = `${name}.safetensors${n ? "" : ".gz"}`;
	loading?.abort();
	const { signal } = (loading = new AbortController()), progress = (part) => showProgress(name, part, SHIPPED[name]);
	progress(0);
	try {
		const made = new Flow(await unpacked(await fetched(`../weights/${file}`, signal, progress)));
		made.codes ??= await codesBeside(name, made, signal);
		if (signal.aborted) return;
		use(made, name);
		set({ w: n ? name : "" });
		settled(file);
	} catch (error) {
		if (signal.aborted) return;
		complain(error, file, () => loadShipped(name));
	}
	endLoading();
}

/** Codes in a file of their own; none where it is missing or damaged. */
const codesBeside = (name, { dim }, signal) => fetched(`../weights/${name}.codes.safetensors`, signal)
	.then((buffer) => readCodes(openWeights(buffer), dim)).catch(() => null);

/** "3 of 6 MB", in a corner. */
function showProgress(name, part, whole) {
	const words = plain("loading", { name: titleOf(name), part: Math.floor(part / 1e6), whole: Math.round(whole / 1e6) });
	Object.assign($("progress"), { hidden: false, value: part / whole });
	if ($("waiting").textContent !== words) $("waiting").textContent = words;
}

function endLoading() {
	$("progress").hidden = true;
	$("waiting").textContent = "";
	showWeights();
}

function use(made, name) {
	flow = made;
	window.nice = { name, configuration: flow.configuration }; // for programs and tests, on Float32Array
	for (const method of ["encode", "decode", "logLikelihood"]) nice[method] = flow[method].bind(flow);
	buildCode();
	enable();
	refresh();
}

async function openFiles(files) {
	for (const file of files) {
		const { name, size } = file;
		try {
			if (size > 1e9) throw "damaged"; // more than a page can hold
			const buffer = await file.arrayBuffer();
			if (name.endsWith("npz")) {
				data = await askWorker({ buffer, both: true }, buffer);
				trained = true;
				enable();
				refresh();
			} else {
				use(new Flow(await unpacked(buffer)), name);
				loading?.abort();
				set({ w: "" }); // the address cannot hold it
				endLoading();
			}
			settled();
		} catch (error) {
			complain(error, name);
		}
	}
}

function showWeights() {
	const option = (name) => new Option(titleOf(name), name, false, name === window.nice?.name);
	$("weights").replaceChildren(...[...new Set([...NAMES, ...flow ? [nice.name] : []])].map(option));
	if (!flow) return;
	const { model, configuration: { prior } } = flow;
	$("facts").innerHTML = say("facts", { ...model, prior, count: flow.parameters.toLocaleString("en") })
		+ (model.convolutions ? say("m-conv", model) : "") + (model.dense ? say("m-dense", model) : "") + (flow.compact ? say("rounded") : "");
}
