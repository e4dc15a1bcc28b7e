"use strict";
/* What takes long, beside the page: the data file, the nearest of its training digits, the
   likelihoods of its test digits, gradient ascent. Its text and flowKit's make the worker. */

function workerMain(kit) {
  let flow = null, train = null, test = null; // {pixels, labels, count, height, width}
  let jobs = []; // generators; the last begun goes first
  let running = false;
  const channel = new MessageChannel();
  const pause = () => new Promise((done) => {
    channel.port1.onmessage = done;
    channel.port2.postMessage(0);
  });

  /** Run a generator slice by slice, so that messages get in between; one of a kind at a time. */
  async function start(kind, job) {
    jobs = jobs.filter((other) => other.kind !== kind);
    if (job) jobs.push(Object.assign(job, { kind }));
    if (running) return;
    running = true;
    while (jobs.length) {
      const job = jobs.at(-1);
      if (job.next().done) jobs = jobs.filter((other) => other !== job);
      await pause();
    }
    running = false;
  }

  // ---------------------------------------------------------------- the data: .npz

  /** The members of a zip that are asked for, inflated. */
  async function unzip(buffer, names) {
    const view = new DataView(buffer);
    let end = buffer.byteLength - 22;
    while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
    if (end < 0) throw new kit.Problem("data");
    const found = {};
    let at = view.getUint32(end + 16, true);
    for (let left = view.getUint16(end + 10, true); left > 0; left--) {
      const method = view.getUint16(at + 10, true), size = view.getUint32(at + 20, true);
      const length = view.getUint16(at + 28, true);
      const name = new TextDecoder().decode(new Uint8Array(buffer, at + 46, length));
      if (names.includes(name)) {
        const local = view.getUint32(at + 42, true);
        const from = local + 30 + view.getUint16(local + 26, true)
          + view.getUint16(local + 28, true);
        let body = new Blob([new Uint8Array(buffer, from, size)]).stream();
        if (method === 8) body = body.pipeThrough(new DecompressionStream("deflate-raw"));
        else if (method) throw new kit.Problem("data");
        found[name] = await new Response(body).arrayBuffer();
      }
      at += 46 + length + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    }
    return found;
  }

  /** A .npy file of bytes -> {shape, values}. */
  function array(buffer) {
    const view = new DataView(buffer), long = view.getUint8(6) > 1;
    const length = long ? view.getUint32(8, true) : view.getUint16(8, true), from = long ? 12 : 10;
    const header = new TextDecoder().decode(new Uint8Array(buffer, from, length));
    const shape = /'shape': \(([\d, ]*)\)/.exec(header)[1].split(",").filter((n) => n.trim());
    if (!/'descr': '\|u1'/.test(header) || /'fortran_order': True/.test(header))
      throw new kit.Problem("data");
    return { shape: shape.map(Number), values: new Uint8Array(buffer, from + length) };
  }

  async function readData(buffer) {
    try {
      const names = ["x_train", "y_train", "x_test", "y_test"];
      const files = await unzip(buffer, names.map((name) => name + ".npy"));
      const [x, y, xTest, yTest] = names.map((name) => array(files[name + ".npy"]));
      const digits = (pixels, labels) => {
        const [count, height, width] = pixels.shape;
        if (pixels.values.length !== count * height * width || labels.values.length !== count)
          throw new kit.Problem("data");
        return { pixels: pixels.values, labels: labels.values, count, height, width };
      };
      return [digits(x, y), digits(xTest, yTest)];
    } catch {
      throw new kit.Problem("data");
    }
  }

  async function load(source) {
    let buffer = source;
    if (typeof source === "string") {
      const response = await fetch(source);
      if (!response.ok) throw new kit.Problem("nodata");
      buffer = await response.arrayBuffer();
    }
    [train, test] = await readData(buffer);
    const dim = train.height * train.width, sums = new Float64Array(dim);
    for (let n = 0, p = 0; n < train.count; n++)
      for (let i = 0; i < dim; i++) sums[i] += train.pixels[p++];
    const mean = Float32Array.from(sums, (v) => v / train.count / 255);
    postMessage({ kind: "data", test, mean, count: train.count });
    histogram();
  }

  // ---------------------------------------------------------------- likelihoods of test digits

  const fits = () => flow && test && test.height === flow.height && test.width === flow.width;

  /** Test digit n moved right by `shift` pixels, scaled as the flow was trained. */
  function digit(n, shift) {
    const x = new Float32Array(flow.dim), { width } = test;
    for (let i = 0; i < flow.dim; i++)
      if (i % width >= shift) x[i] = test.pixels[n * flow.dim + i - shift] / flow.levels;
    return x;
  }

  function* likelihoods(kind, count, shift) {
    const nats = [];
    for (let n = 0; n < Math.min(count, test.count); n++) {
      nats.push(flow.logLikelihood(digit(n, shift)));
      if (n % 50 === 49) postMessage({ kind, nats, shift });
      if (n % 3 === 2) yield;
    }
    postMessage({ kind, nats, shift, done: true });
  }

  const histogram = () => fits() && start("histogram", likelihoods("histogram", 1000, 0));

  // ---------------------------------------------------------------- the nearest training digits

  /** The `wanted` training digits with the least ‖x - y‖, x in bytes; a row that is already too
      far ends its digit. */
  function nearest(x, wanted) {
    const best = [], dim = x.length, { pixels, labels, count, width } = train;
    let limit = Infinity;
    for (let n = 0; n < count; n++) {
      let sum = 0;
      for (let i = 0, p = n * dim; i < dim && sum < limit;)
        for (const end = i + width; i < end; i++, p++) {
          const d = x[i] - pixels[p];
          sum += d * d;
        }
      if (sum >= limit) continue;
      best.push({ n, sum });
      best.sort((a, b) => a.sum - b.sum);
      if (best.length > wanted) best.pop();
      if (best.length === wanted) limit = best.at(-1).sum;
    }
    return best.map(({ n, sum }) => ({
      pixels: pixels.slice(n * dim, (n + 1) * dim),
      label: labels[n],
      distance: Math.sqrt(sum) / 255,
    }));
  }

  // ---------------------------------------------------------------- gradient ascent

  /** x <- x + α σ² ∂log p/∂x where `mask` is 1, kept in [0, 1]. Backtracking: α grows with every
      step that rises, and halves until one does. Each pixel's step is measured in its own σ, for
      ∂²log p/∂x² is near -1/σ²: enormous where a dimension has collapsed. */
  function* climb(x, mask, steps) {
    const sigma = flow.pixelSigma();
    let nats = flow.logLikelihood(x), rate = 0.1, step = 0;
    for (; step < steps && rate > 1e-7; step++) {
      const g = flow.gradient(x);
      for (; rate > 1e-7; rate /= 2) {
        const next = x.map((v, i) =>
          mask[i] ? Math.min(Math.max(v + rate * sigma[i] ** 2 * g[i], 0), 1) : v);
        const reached = flow.logLikelihood(next);
        yield;
        if (!(reached > nats)) continue;
        [x, nats, rate] = [next, reached, Math.min(rate * 1.5, 1)];
        break;
      }
      postMessage({ kind: "climb", x, nats, step: step + 1 });
    }
    postMessage({ kind: "climb", x, nats, step, done: true });
  }

  onmessage = async ({ data: message }) => {
    try {
      if (message.weights) {
        jobs = [];
        flow = new kit.Flow(message.weights);
        histogram();
      }
      if (message.data) await load(message.data);
      if (message.nearest) {
        const usable = train && message.nearest.length === train.height * train.width;
        const found = usable ? nearest(message.nearest, message.wanted) : [];
        postMessage({ kind: "nearest", found, id: message.id });
      }
      if ("shift" in message)
        start("shift", message.shift && fits() ? likelihoods("shift", 200, message.shift) : null);
      if (message.climb) start("climb", climb(message.climb, message.mask, message.steps));
      if (message.stop) start("climb", null);
    } catch (error) {
      postMessage({ kind: "problem", reason: error.reason ?? "nodata" });
    }
  };
}

function startWorker() {
  const text = `"use strict";(${workerMain})((${flowKit})())`;
  return new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
}
