"use strict";
/* The page: state in the URL's hash, a function a card, and what they share. */

const $ = (id) => document.getElementById(id);
const SHIPPED = ["deep", "pretrained", "paper", "noise-free"]; // the first that is there opens
const WIDEST = 6; // sliders
const REACH = 8; // of a slider, in units of the prior
const ANNEAL = 0.75; // the article's temperature

// ---------------------------------------------------------------- state, in the URL's hash

const DEFAULTS = {
  lang: navigator.language.startsWith("zh") ? "zh" : "en",
  theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
  w: "",          // weights, a name of SHIPPED
  z: "s1",        // the code: s<seed> of the prior, 0, or t<index> of a test digit
  T: ANNEAL,
  moved: "",      // dimension:by,dimension:by
  x: "",          // card 2: t<index> of a test digit, blank; "" is the drawing
  shift: 0,
  corner: 0,
  ask: 3,
  draw: 1,        // seed of card 3
  spread: 1.5,
  a: 7, b: 2,     // test digits of card 4
  t: 0.5,
};
const state = {};

function readState() {
  const held = new URLSearchParams(location.hash.slice(1));
  for (const [key, value] of Object.entries(DEFAULTS)) {
    const text = held.get(key), number = typeof value === "number";
    state[key] = text === null || (number && !Number.isFinite(+text)) ? value : number ? +text : text;
  }
  if (!WORDS[state.lang]) state.lang = DEFAULTS.lang;
  state.a = Math.abs(Math.trunc(state.a));
  state.b = Math.abs(Math.trunc(state.b));
}

let timer = 0;

function set(changes, ...cards) {
  Object.assign(state, changes);
  refresh(...cards);
  clearTimeout(timer); // browsers refuse many changes of the address a second
  timer = setTimeout(() => {
    const changed = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]);
    history.replaceState(null, "", "#" + new URLSearchParams(changed).toString().replaceAll("%3A", ":").replaceAll("%2C", ","));
  }, 250);
}

const moved = () => new Map(state.moved.split(",").filter(Boolean).map((pair) => pair.split(":").map(Number)));

// ---------------------------------------------------------------- what is there

let flow = null, data = null; // data: {test, mean, count}, from the worker
let ownName = ""; // the reader's own file
const worker = startWorker();

const fits = () => flow && data && data.test.height === flow.height && data.test.width === flow.width;
const digits = () => (fits() ? data.test.count : 0);
const whole = (n) => Math.round(n) || 0;

/** Test digit n in bytes. */
function testBytes(n) {
  const at = (n % data.test.count) * flow.dim;
  return data.test.pixels.subarray(at, at + flow.dim);
}

const scaled = (bytes) => Float32Array.from(bytes, (k) => k / flow.levels);
/** A picture of the flow as it is seen: level k of `levels` back to k/255. */
const seen = (x) => x.map((v) => v * flow.levels / 255);
const show = (id, x, options) => paint($(id), seen(x), flow.width, options);
const pick = (random) => Math.floor(random * digits());

// ---------------------------------------------------------------- drawing what changed

const dirty = new Set();
const CARDS = { code: drawCode, look: drawLook, asked: drawAsked, between: drawBetween, fill: drawFill };

/** Draw cards before the next frame; without names all of them, the first one first. */
function refresh(...names) {
  if (!dirty.size) requestAnimationFrame(draw);
  for (const name of names.length ? names : Object.keys(CARDS)) dirty.add(name);
}

function draw() {
  if (!flow) dirty.clear();
  const [name] = dirty;
  if (!name) return;
  dirty.delete(name);
  CARDS[name]();
  if (dirty.size) requestAnimationFrame(draw);
}

// ---------------------------------------------------------------- 1: the code

/** The code without the sliders' moves. */
function baseCode() {
  const kind = state.z[0], n = whole(+state.z.slice(1));
  if (kind === "t") return digits() ? flow.encode(scaled(testBytes(n))) : null;
  return kind === "s" ? flow.draw(kit.randomOf(n), 1) : new Float32Array(flow.dim);
}

let base = { key: "" };

function currentCode() {
  const key = `${state.z} ${digits()}`;
  if (base.key !== key || base.flow !== flow) base = { key, flow, z: baseCode() };
  if (!base.z) return null;
  const z = base.z.map((v) => v * state.T);
  for (const [i, by] of moved()) if (i < z.length) z[i] += by;
  return z;
}

function drawCode() {
  const z = currentCode();
  if (!z) return;
  const n = flow.couplings.length, canvases = $("stages").querySelectorAll("canvas");
  paint(canvases[0], flow.upright(z, n).map((v) => v / 3), flow.width, { signed: true });
  const x = flow.decode(z, (h, c) => {
    if (c) paint(canvases[1 + n - c], flow.upright(h, c), flow.width, { signed: true });
  });
  show("digit", x);
  paint(canvases[n + 1], seen(x), flow.width);
  for (const input of document.querySelectorAll("[data-dimension]")) {
    const value = z[input.dataset.dimension], reach = Math.max(REACH, Math.ceil(Math.abs(value)));
    if (+input.max !== reach) {
      [input.min, input.max] = [-reach, reach];
      const [low, high] = input.parentElement.querySelectorAll("small");
      [low.textContent, high.textContent] = [`−${reach}`, `+${reach}`];
    }
    showSlider(input, value, value.toFixed(2));
  }
  showSlider($("temperature"), state.T, state.T.toFixed(2));
  const { determinant, energy, constant, total } = flow.terms(z);
  const term = (formula, value) => `<span><b>${formula}</b>${value}</span>`;
  const plain = (v) => v.toFixed(1).replace("-", "−");
  $("terms").innerHTML = term("log <i>p</i>(<i>x</i>)", plain(total)) + "="
    + term("∑ log <i>s</i>", plain(determinant)) + "−"
    + term(flow.gaussian ? "½‖<i>z</i>‖<sup>2</sup>" : say("logistic"), plain(energy))
    + (flow.gaussian ? "−" + term(`<sup>${flow.dim}</sup>⁄<sub>2</sub> ln 2π`, plain(constant)) : "")
    + `<small>${say("nats")}</small><a>(15)</a>`;
}

function showSlider(input, value, text) {
  if (document.activeElement !== input || +input.value !== value) input.value = value;
  input.setAttribute("aria-valuetext", text);
  const output = input.parentElement.querySelector("output");
  output.textContent = text.replace("-", "−");
}

/** The sliders and the stages of a flow that has just been loaded. */
function buildCode() {
  const order = [...flow.sigma.keys()].sort((i, j) => flow.sigma[j] - flow.sigma[i]);
  const slider = (i) => `<label class="slider"><span><span class="math"><i>z</i><sub>${i}</sub></span> `
    + `<em>σ = ${flow.sigma[i].toPrecision(2)}</em></span><small>−${REACH}</small>`
    + `<input type="range" min="-${REACH}" max="${REACH}" step="0.01" data-dimension="${i}">`
    + `<small>+${REACH}</small><output></output></label>`;
  $("wide").innerHTML = order.slice(0, WIDEST).map(slider).join("");
  $("narrow").innerHTML = slider(order.at(-1));
  const n = flow.couplings.length;
  const names = ["z", ...Array.from({ length: n + 1 }, (_, i) => n - i)];
  $("stages").className = n < 7 ? "few" : "";
  $("stages").innerHTML = names.map((name) => `<figure><canvas></canvas><figcaption><i>${
    name === "z" ? "z" : name ? `h</i><sup>(${name})</sup><i>` : "x"}</i></figcaption></figure>`).join("");
  const adds = flow.sign < 0; // in the decoder's direction
  $("coupling").innerHTML = adds
    ? "<i>h</i><sub>1</sub> = <i>x</i><sub>1</sub>, <i>h</i><sub>2</sub> = <i>x</i><sub>2</sub> + <i>m</i>(<i>x</i><sub>1</sub>)"
    : "<i>x</i><sub>1</sub> = <i>h</i><sub>1</sub>, <i>x</i><sub>2</sub> = <i>h</i><sub>2</sub> − <i>m</i>(<i>h</i><sub>1</sub>)";
  $("coupling-number").textContent = adds ? "(7)" : "(9)";
}

function moveDimension(input) {
  const i = +input.dataset.dimension, z = currentCode(), by = moved();
  if (!z) return;
  by.set(i, +((by.get(i) ?? 0) + +input.value - z[i]).toFixed(3));
  set({ moved: [...by].map((pair) => pair.join(":")).join(",") }, "code");
}

// ---------------------------------------------------------------- 2: a drawing

const pad = $("draw");
const nats = { histogram: [], shift: [] }; // of test digits, from the worker
let asking = 0; // the number of the last question to the worker

/** What card 2 shows, in bytes; nothing drawn is a blank page. */
function lookBytes() {
  const { width } = flow;
  let bytes = state.x === "" ? normalise(pad, flow.height, width) : null;
  if (state.x[0] === "t" && digits()) bytes = testBytes(whole(+state.x.slice(1)));
  const moved = new Uint8Array(flow.dim);
  if (bytes)
    for (let i = 0; i < flow.dim; i++) if (i % width >= state.shift) moved[i] = bytes[i - state.shift];
  if (state.corner) moved[0] = 255;
  return moved;
}

let look = null;

function drawLook() {
  look = lookBytes();
  const x = scaled(look), z = flow.encode(x), back = flow.decode(z);
  const { total } = flow.terms(z);
  let error = 0;
  for (let i = 0; i < x.length; i++) error = Math.max(error, Math.abs(back[i] - x[i]));
  show("seen", x);
  $("nats").textContent = `${total.toFixed(1)} ${say("nats")}`;
  $("nats").dataset.nats = total;
  $("trip").textContent = error.toExponential(1).replace("-", "−");
  $("trip").dataset.error = error;
  $("hint").hidden = Boolean(state.x) || inked;
  $("corner").setAttribute("aria-pressed", Boolean(state.corner));
  showSlider($("shift"), state.shift, String(state.shift));
  if (state.x) copyToPad();
  drawHistogram();
  askWorker();
}

/** A preset lies on the pad too, so that one can draw on. */
function copyToPad() {
  const context = pad.getContext("2d");
  context.clearRect(0, 0, pad.width, pad.height);
  if (state.x[0] !== "t" || !digits()) return;
  const bytes = testBytes(whole(+state.x.slice(1))), ink = new ImageData(flow.width, flow.height);
  bytes.forEach((k, i) => ink.data.set([255, 255, 255, k], 4 * i));
  const small = new OffscreenCanvas(flow.width, flow.height);
  small.getContext("2d").putImageData(ink, 0, 0);
  context.drawImage(small, 0, 0, pad.width, pad.height);
}

const median = (values) => Float64Array.from(values).sort()[values.length >> 1];

function drawHistogram() {
  const total = +$("nats").dataset.nats, known = nats.histogram;
  const note = !digits() ? waiting() : known.length < 50 ? say("counting") : "";
  $("rank").textContent = note;
  $("histogram").innerHTML = "";
  if (!note) {
    const below = known.filter((v) => v < total).length;
    const share = (100 * below / known.length).toFixed(below && below < known.length ? 1 : 0);
    $("rank").textContent = say("rank", { share, median: median(known).toFixed(0) });
    $("histogram").innerHTML = `<p class="note">${say("distribution", { count: known.length })}</p>`
      + histogram(known, total, total.toFixed(0));
  }
  const { shift } = state, done = nats.shift.length > 49 && nats.shiftBy === shift && known.length > 49;
  $("shifted").textContent = state.corner ? say("cornered")
    : state.x === "blank" ? say("blanked")
    : shift && done ? say("shifted", { shift, count: nats.shift.length,
      from: median(known).toFixed(0), to: median(nats.shift).toFixed(0) }) : "";
}

/** Neighbours, and the likelihoods of test digits moved likewise; one question at a time. */
function askWorker() {
  if (!digits()) return;
  if (nats.shiftBy !== state.shift) {
    Object.assign(nats, { shift: [], shiftBy: state.shift });
    worker.postMessage({ shift: state.shift });
  }
  worker.postMessage({ nearest: look, wanted: 10, id: ++asking });
}

function drawNeighbours(found) {
  $("neighbours").replaceChildren(...found.map(({ pixels, label, distance }) => {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    paint(canvas, Float32Array.from(pixels, (k) => k / 255), flow.width);
    const caption = document.createElement("figcaption");
    caption.innerHTML = `${label} · ${distance.toFixed(1)}`;
    figure.append(canvas, caption);
    return figure;
  }));
}

let inked = false;

function stroke([x0, y0], [x1, y1]) {
  const context = pad.getContext("2d");
  if (state.x === "blank") context.clearRect(0, 0, pad.width, pad.height);
  inked = true;
  Object.assign(context, { lineWidth: 22, lineCap: "round", strokeStyle: "#fff" });
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1 + 0.01, y1);
  context.stroke();
  set({ x: "", shift: 0, corner: 0 }, "look");
}

function clear(x) {
  pad.getContext("2d").clearRect(0, 0, pad.width, pad.height);
  inked = false;
  set({ x, shift: 0, corner: 0 }, "look");
}

// ---------------------------------------------------------------- 3: a digit asked for

function drawAsked() {
  const random = kit.randomOf(state.draw * 10 + state.ask), { codes } = flow;
  for (const button of $("digits").children)
    button.setAttribute("aria-pressed", +button.textContent === state.ask);
  showSlider($("spread"), state.spread, state.spread.toFixed(2));
  $("nocodes").textContent = codes ? "" : say("nocodes");
  const eight = (id, draw) => {
    const x = Array.from({ length: 9 }, () => flow.decode(draw()));
    show(id, x[0]);
    const { values, width } = tile(x.slice(1).map(seen), flow.width, 4);
    paint($(id + "-more"), values, width);
  };
  const has = codes && [...codes.labels].includes(state.ask);
  for (const id of ["asked", "asked-more"]) $(id).style.visibility = has ? "" : "hidden";
  if (has) eight("asked", () => kit.drawCode(codes, state.ask, random, state.spread));
  const apart = kit.randomOf(state.draw + 0.5);
  eight("prior", () => flow.draw(apart, ANNEAL));
}

// ---------------------------------------------------------------- 4: between two digits

let ends = {};

function drawBetween() {
  showSlider($("t"), state.t, state.t.toFixed(2));
  if (!digits()) return;
  const key = `${state.a} ${state.b}`;
  const mix = (p, q, t) => p.map((v, i) => (1 - t) * v + t * q[i]);
  if (ends.key !== key || ends.flow !== flow) {
    const [a, b] = [state.a, state.b].map((n) => scaled(testBytes(n)));
    ends = { key, flow, a, b, za: flow.encode(a), zb: flow.encode(b) };
    const steps = Array.from({ length: 11 }, (_, i) => i / 10);
    const line = steps.map((t) => flow.decode(mix(ends.za, ends.zb, t)));
    const blend = steps.map((t) => mix(a, b, t));
    const { values, width } = tile([...line, ...blend].map(seen), flow.width, 11, 2);
    paint($("strip"), values, width);
  }
  const z = mix(ends.za, ends.zb, state.t), blend = mix(ends.a, ends.b, state.t);
  show("line", flow.decode(z));
  show("blend", blend);
  const nats = (v) => `${v.toFixed(0).replace("-", "−")} ${say("nats")}`;
  $("line-nats").textContent = nats(flow.terms(z).total);
  $("blend-nats").textContent = nats(flow.logLikelihood(blend));
}

// ---------------------------------------------------------------- 5: the gradient

let fill = null; // {original, x, mask, erased, from, step, values, climbing}

function beginFill(x) {
  stopClimb();
  fill = { original: x, x, mask: new Uint8Array(flow.dim), erased: false, step: 0, values: [] };
  refresh("fill");
}

/** Hide pixels; what is hidden starts from the mean training digit. */
function erase(hidden) {
  stopClimb();
  if (fill.step) fill = { ...fill, original: fill.x, mask: new Uint8Array(flow.dim), erased: false, step: 0, values: [] };
  const mean = fits() ? data.mean : fill.x.map(() => 0);
  fill.x = fill.x.map((v, i) => (hidden(i % flow.width, Math.floor(i / flow.width)) ? mean[i] : v));
  fill.mask = fill.mask.map((v, i) => v || +hidden(i % flow.width, Math.floor(i / flow.width)));
  fill.erased = true;
  refresh("fill");
}

function drawFill() {
  if (!fill || fill.x.length !== flow.dim || fill.flow !== flow) {
    const x = digits() ? scaled(testBytes(18)) : flow.decode(flow.draw(kit.randomOf(1), ANNEAL)).map((v) => Math.min(Math.max(v, 0), 1));
    beginFill(x);
    fill.flow = flow;
  }
  const { x, mask, step, values, erased } = fill;
  show("fill", x, { mask: erased && !step ? mask : null });
  const now = (values.at(-1) ?? flow.logLikelihood(x)).toFixed(0).replace("-", "−");
  const from = values.length ? values[0].toFixed(0).replace("-", "−") : now;
  $("climbed").innerHTML = values.length ? say("climbed", { from, to: now, step }) : say("climbfrom", { from });
  $("ascent").innerHTML = curve(values);
  $("climb").textContent = say(fill.climbing ? "stop" : "climb");
}

function climb() {
  if (fill.climbing) return stopClimb();
  const mask = fill.erased ? fill.mask : fill.mask.map(() => 1);
  Object.assign(fill, { climbing: true, values: fill.values.length ? fill.values : [flow.logLikelihood(fill.x)] });
  fill.before = fill.step;
  worker.postMessage({ climb: fill.x, mask, steps: 300 });
  refresh("fill");
}

function stopClimb() {
  if (!fill?.climbing) return;
  fill.climbing = false;
  worker.postMessage({ stop: true });
  refresh("fill");
}

function climbed({ x, nats, step, done }) {
  if (!fill?.climbing || x.length !== fill.x.length) return;
  Object.assign(fill, { x, step: fill.before + step, climbing: !done });
  fill.values.push(nats);
  refresh("fill");
}

// ---------------------------------------------------------------- 6: weights and data

let loading = null; // AbortController of the download that is wanted

async function download(url, signal) {
  const response = await fetch(url, { signal });
  if (!response.ok) throw new kit.Problem("missing");
  const all = +response.headers.get("content-length"), reader = response.body.getReader();
  const parts = [];
  let part = 0;
  for (let got; !(got = await reader.read()).done;) {
    parts.push(got.value);
    part += got.value.length;
    $("progress").value = all ? part / all : 0;
    const mega = (n) => (n / 1e6).toFixed(1);
    $("status").textContent = say("loaded", { part: mega(part), all: mega(all || part) });
  }
  return new Blob(parts).arrayBuffer();
}

/** Load shipped weights; the first time, the first of the list that is there. */
async function loadShipped(name) {
  loading?.abort();
  const mine = (loading = new AbortController());
  const names = SHIPPED.includes(name) ? [name] : [];
  if (!flow) names.push(...SHIPPED.filter((other) => other !== name));
  $("loading").hidden = false;
  let problem = new kit.Problem("missing"), found = "";
  for (const other of names) {
    try {
      use(await download(`../weights/${other}.safetensors`, mine.signal), other);
      found = other;
      break;
    } catch (error) {
      if (mine.signal.aborted) return;
      problem = error;
    }
  }
  $("loading").hidden = true;
  $("status").textContent = "";
  if (found && (found === name || !name)) {
    ownName = "";
    set({ w: found === firstShipped ? "" : found });
  }
  if (!found || (name && found !== name)) complain(problem, `${name || SHIPPED[0]}.safetensors`);
  showWeights();
}

let firstShipped = SHIPPED[0];

/** Take a weights file, or throw and leave everything as it was. */
function use(buffer, name) {
  const read = new kit.Flow(buffer);
  flow = read;
  Object.assign(nats, { histogram: [], shift: [], shiftBy: 0 });
  stopClimb();
  worker.postMessage({ weights: buffer }, [buffer]);
  buildCode();
  showFacts();
  // For programs and tests: Float32Array in, Float32Array or a number out.
  window.nice = {
    name,
    configuration: flow.configuration,
    encode: (x) => flow.encode(x),
    decode: (z) => flow.decode(z),
    logLikelihood: (x) => flow.logLikelihood(x),
    gradient: (x) => flow.gradient(x),
  };
  refresh();
  ready();
}

async function openFiles(files) {
  for (const file of files) {
    const buffer = await file.arrayBuffer();
    const zip = buffer.byteLength > 4 && new DataView(buffer).getUint32(0) === 0x504b0304;
    if (zip) {
      dataName = file.name;
      worker.postMessage({ data: buffer }, [buffer]);
      continue;
    }
    try {
      loading?.abort();
      $("loading").hidden = true;
      use(buffer, file.name);
      ownName = file.name;
      $("message").hidden = true;
    } catch (error) {
      complain(error, file.name);
    }
  }
  showWeights();
}

let told = null; // the message on the page, to say it again in the other language
let dataName = "mnist.npz";

function complain(error, name) {
  const reason = WORDS.en[error.reason] ? error.reason : "damaged";
  told = [reason, { name }];
  $("message").firstChild.textContent = say(...told);
  $("message").hidden = false;
}

function showWeights() {
  const option = (name) => `<option value="${name}">${say(name)}</option>`;
  $("weights").innerHTML = (ownName ? `<option value=""></option>` : "") + SHIPPED.map(option).join("");
  if (ownName) $("weights").firstChild.textContent = say("own", { name: ownName });
  $("weights").value = ownName ? "" : window.nice?.name ?? "";
}

function showFacts() {
  const { model, prior, best } = flow.configuration;
  const sigma = Float64Array.from(flow.sigma).sort();
  const [narrow, wide] = [sigma[0], sigma.at(-1)].map((v) => v.toPrecision(2));
  const facts = {
    "fact-flow": say("flow", { couplings: model.couplings, depth: model.depth, units: model.units,
      activation: model.output_activation, parameters: flow.parameters.toLocaleString("en") }),
    "fact-way": model.convention === "article" ? "x₁ = h₁, x₂ = h₂ − m(h₁)  (9)" : "h₁ = x₁, h₂ = x₂ + m(x₁)  (7)",
    "fact-prior": say(prior === "gaussian" ? "gaussian" : "logisticprior"),
    "fact-noise": model.noise ? say(`noise-${model.noise_kind}`, { noise: +(+model.noise).toFixed(5) }) : say("none"),
    "fact-collapsed": say("sigmas", { narrow, wide }),
  };
  if (Number.isFinite(best?.val_loss))
    facts["fact-loss"] = say("loss", { loss: best.val_loss.toFixed(1).replace("-", "−"), epoch: best.epoch });
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([key, text]) => {
    const [term, detail] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, detail.textContent] = [say(key), text];
    return [term, detail];
  }));
}

/** Why there are no test digits to show. */
function waiting() {
  if (!data) return say(offline ? "opened" : noData ? "nodata" : "waiting");
  return say("other28", flow);
}

const offline = location.protocol === "file:";
let noData = false, asked = false;

/** After the first picture: the data, and whatever waits for it. */
function ready() {
  if (!asked && !offline)
    setTimeout(() => worker.postMessage({ data: new URL("../data/mnist.npz", location.href).href }), 50);
  asked = true;
  for (const button of document.querySelectorAll("[data-needs]")) button.disabled = !digits();
}

worker.onmessage = ({ data: message }) => {
  const { kind } = message;
  if (kind === "data") {
    data = message;
    ready();
    fill = fill?.step || fill?.erased ? fill : null;
    refresh();
  } else if (kind === "nearest") {
    if (message.id === asking && flow) drawNeighbours(message.found);
  } else if (kind === "climb") climbed(message);
  else if (kind === "problem") {
    noData = !data;
    complain(message, dataName);
    refresh("look");
  } else if (kind === "histogram" || message.shift === state.shift) {
    nats[kind] = message.nats;
    nats[kind + "Done"] = message.done;
    if (flow) drawHistogram();
  }
};

// ---------------------------------------------------------------- words, theme, events

function speak() {
  document.documentElement.lang = state.lang === "zh" ? "zh-CN" : "en";
  document.documentElement.dataset.theme = state.theme;
  document.title = `NICE: ${say("title")}`;
  for (const element of document.querySelectorAll("[data-t]"))
    element.innerHTML = say(element.dataset.t);
  for (const element of document.querySelectorAll("[data-label]"))
    element.setAttribute("aria-label", say(element.dataset.label));
  $("language").textContent = say("other");
  $("language").lang = state.lang === "zh" ? "en" : "zh-CN";
  $("theme").textContent = state.theme === "dark" ? "☀" : "☾";
  if (told) $("message").firstChild.textContent = say(...told);
  showWeights();
  if (flow) showFacts();
}

function listen() {
  const on = (id, event, act) => $(id).addEventListener(event, act);
  const click = (id, act) => on(id, "click", act);
  const value = (id, card) => on(id, "input", () => set({ [id === "temperature" ? "T" : id]: +$(id).value }, card));
  const any = () => pick(Math.random());
  const seed = () => 1 + Math.floor(Math.random() * 9999);

  click("language", () => { set({ lang: state.lang === "zh" ? "en" : "zh" }); speak(); });
  click("theme", () => { set({ theme: state.theme === "dark" ? "light" : "dark" }); speak(); });
  $("message").lastChild.addEventListener("click", () => { $("message").hidden = true; });

  click("new", () => set({ z: `s${seed()}`, T: ANNEAL, moved: "" }, "code"));
  click("zero", () => set({ z: "0", moved: "" }, "code"));
  click("encode", () => set({ z: `t${any()}`, T: 1, moved: "" }, "code"));
  value("temperature", "code");
  $("main").addEventListener("input", ({ target }) => target.dataset.dimension && moveDimension(target));

  pen(pad, stroke, () => refresh("look"));
  click("clear", () => clear(""));
  click("blank", () => clear("blank"));
  click("some", () => clear(`t${any()}`));
  click("corner", () => set({ corner: +!state.corner }, "look"));
  value("shift", "look");

  $("digits").innerHTML = Array.from({ length: 10 }, (_, d) => `<button id="ask-${d}">${d}</button>`).join("");
  $("digits").addEventListener("click", ({ target }) =>
    target.id && target.id !== "digits" && set({ ask: +target.textContent, draw: seed() }, "asked"));
  value("spread", "asked");

  click("pair", () => set({ a: any(), b: any(), t: 0.5 }, "between"));
  value("t", "between");

  pen($("fill"), ([x0, y0], [x, y]) => {
    const near = (u, v) => {
      const t = Math.min(Math.max(((u - x0) * (x - x0) + (v - y0) * (y - y0)) / ((x - x0) ** 2 + (y - y0) ** 2 || 1), 0), 1);
      return Math.hypot(x0 + t * (x - x0) - u, y0 + t * (y - y0) - v) < 2.2;
    };
    if (flow) erase((u, v) => near(u + 0.5, v + 0.5));
  }, () => {});
  click("take", () => flow && beginFill(scaled(look)));
  click("other", () => beginFill(scaled(testBytes(any()))));
  click("right", () => erase((u) => u >= flow.width / 2));
  click("lower", () => erase((_, v) => v >= flow.height / 2));
  click("restore", () => beginFill(fill.original));
  click("climb", () => climb());

  on("weights", "change", () => $("weights").value && loadShipped($("weights").value));
  on("file", "change", () => openFiles($("file").files));
  for (const event of ["dragenter", "dragover", "dragleave", "drop"])
    addEventListener(event, (e) => {
      e.preventDefault();
      document.body.classList.toggle("dropping", event.startsWith("dragen") || event === "dragover");
      if (event === "drop") openFiles(e.dataTransfer.files);
    });
  for (const canvas of [pad, $("fill")])
    canvas.addEventListener("pen", ({ detail }) => {
      canvas.parentElement.classList.toggle("pen", Boolean(detail));
      canvas.parentElement.classList.toggle("down", Boolean(detail?.down));
      if (detail) detail.at.forEach((v, i) => canvas.parentElement.style.setProperty(i ? "--y" : "--x", v));
    });
  addEventListener("hashchange", () => {
    const before = state.w;
    readState();
    speak();
    if (state.w !== before) loadShipped(state.w);
    else refresh();
  });
}

[pad.width, pad.height] = [280, 280];
pad.getContext("2d", { willReadFrequently: true });
readState();
speak();
listen();
if (offline) complain({ reason: "opened" });
else loadShipped(state.w);
