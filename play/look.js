"use strict";
/* The card "Draw a digit". */

const pad = $("draw"), ink = pad.getContext("2d", { willReadFrequently: true });
let nats = { known: [] }; // of test digits
const unit = (bytes) => Float32Array.from(bytes, (k) => k / 255);
let look = null; // in bytes
let total = 0; // its log p
let padHolds = ""; // the state's x that was put on the pad, not drawn there

/** What the state's x names, in bytes. */
const named = (x) => (x[0] === "t" && digits() ? testDigit(x) : x[0] === "d" && (flow?.dim ?? 784) === 784 ? readDrawing(x) : null);

CARDS.look = () => {
	const { x: name, shift, corner } = state, [height, width] = flow ? [flow.height, flow.width] : [28, 28];
	const found = name === padHolds || pad.matches(".blank") ? named(name) : null;
	const bytes = found ?? normalise(pad, height, width), blank = !bytes.some(Boolean);
	if (!found && bytes.length === 784 && !pad.matches(".blank")) state.x = written(bytes);
	look = bytes.map((_, i) => (i % width >= shift ? bytes[i - shift] : 0));
	if (corner) look[0] = 255;
	show("seen", unit(look));
	if (found && padHolds !== name) {
		ink.imageSmoothingEnabled = false;
		ink.drawImage($("seen"), 0, 0, pad.width, pad.height);
		padHolds = name;
	}
	pad.classList.toggle("blank", blank);
	$("hint").hidden = !blank;
	press($("corner"), corner);
	showSlider($("shift"), shift);
	$("nats").textContent = $("trip").textContent = "…";
	if (flow) {
		const x = scaled(look), z = flow.encode(x), back = flow.decode(z);
		total = flow.terms(z).total;
		$("nats").textContent = `${minus(total, 1)} ${plain("nats")}`;
		$("trip").textContent = Math.max(...x.map((v, i) => Math.abs(back[i] - v))).toExponential(1).replace("-", "−");
	}
	$("surprise").innerHTML = say(corner ? "cornered" : blank ? "blanked" : shift ? "shifted" : "typical");
	askNats();
	showRank();
	$("nearest").hidden = trained;
	if (trained) findNearest();
};

/** Likelihoods of test digits: those shipped, else measured here. */
function askNats() {
	if (!flow || !digits()) return;
	const row = data.known && shippedNats ? NAMES.indexOf(nice.name) : -1;
	if (nats.flow === flow && nats.data === data && nats.row === row) return;
	nats = { flow, data, row, known: row < 0 ? [] : [...shippedNats.subarray(1000 * row, 1000 * row + 1000)] };
	if (row < 0 && (!data.known || shippedNats)) measure(nats.known);
}

/** One test digit after the other. */
function measure(known) {
	if (nats.known !== known || known.length >= Math.min(1000, digits())) return;
	known.push(flow.logLikelihood(scaled(testDigit(`t${known.length}`))));
	if (known.length % 50 === 0) showRank();
	setTimeout(measure, 0, known);
}

const shareBelow = () => nats.known.filter((v) => v < total).length * 100 / nats.known.length;

function showRank() {
	const { known } = nats, count = flow && digits() ? known.length : 0, median = [...known].sort((a, b) => a - b)[count >> 1];
	$("rank").innerHTML = count ? say("rank", { share: shareBelow().toFixed(1), median: minus(median), count })
		: !digits() ? say(data ? "unfit" : "needs-digits", flow) : flow ? "…" : say("needs-flow");
	$("histogram").innerHTML = count >= 50 ? histogram(known, total) : "";
}

/** One picture is asked for at a time, the last one last. */
async function findNearest() {
	if (findNearest.busy) return;
	const x = findNearest.busy = look, found = await askWorker({ x, wanted: 8 }).catch(() => []);
	findNearest.busy = null;
	if (look !== x) return findNearest();
	$("neighbours").innerHTML = found.map(({ label, distance }) => figureOf(label, `${label} · ${distance.toFixed(1)}`)).join("");
	all("#neighbours canvas").forEach((canvas, i) => paint(canvas, unit(found[i].pixels)));
}

function hold(x, blank) {
	pad.classList.toggle("blank", blank);
	padHolds = null;
	set({ x, shift: 0, corner: 0 }, "look");
}

function stroke(...ends) {
	const [x0, y0, x1, y1] = ends.map((v) => v * pad.width);
	Object.assign(ink, { lineWidth: 22, lineCap: "round", strokeStyle: "#fff" });
	ink.beginPath();
	ink.moveTo(x0, y0);
	ink.lineTo(x1 + 0.01, y1);
	ink.stroke();
	hold("", false);
}

function clear(x) {
	ink.clearRect(0, 0, pad.width, pad.height);
	hold(x, true);
}

async function share() {
	history.replaceState(null, "", addressOf());
	const { digit = "?" } = readAs(unit(look)) ?? {}, url = location.href;
	const text = nats.known.length ? plain("boast", { digit, share: shareBelow().toFixed(0) }) : document.title;
	try {
		await navigator.clipboard.writeText(`${text} ${url}`);
		$("shared").textContent = plain("shared", { text });
	} catch {
		$("shared").textContent = url;
	}
}
