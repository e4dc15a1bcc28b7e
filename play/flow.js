"use strict";
/* The flow in plain JavaScript: layers.py once more, for the browser.

   Formula numbers are those of the article, kexue.fm/archives/5776. Classic scripts and one
   function a file: modules and workers' files may not be read from file://, functions may.
   `kit = flowKit()` in the page; the worker is given the function's own text. */

function flowKit() {
  /** What is wrong with a file: `reason` is a key of words.js. */
  class Problem extends Error {
    constructor(reason, detail = "") {
      super(`${reason} ${detail}`);
      this.reason = reason;
      this.detail = detail;
    }
  }

  // ---------------------------------------------------------------- the file

  let halves = null; // float16 bits -> number

  function halfTable() {
    const table = new Float32Array(65536);
    for (let bits = 0; bits < 32768; bits++) {
      const exponent = bits >> 10, fraction = bits & 1023;
      table[bits] = exponent === 0 ? fraction * 2 ** -24
        : exponent === 31 ? (fraction ? NaN : Infinity)
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
      table[bits | 32768] = -table[bits];
    }
    return table;
  }

  function float32(type, bytes) {
    if (type === "F32") return new Float32Array(bytes);
    halves ??= halfTable();
    const bits = new Uint16Array(bytes), values = new Float32Array(bits.length);
    for (let i = 0; i < bits.length; i++) values[i] = halves[bits[i]];
    return values;
  }

  const SIZES = { F16: 2, F32: 4, I32: 4 };

  /** A safetensors file -> {configuration, tensor(name, shape)}; throws `Problem`. */
  function open(buffer) {
    const length = buffer.byteLength > 8 ? Number(new DataView(buffer).getBigUint64(0, true)) : 0;
    let header, configuration;
    if (length < 2 || length > buffer.byteLength - 8) throw new Problem("foreign");
    try {
      const text = new TextDecoder("utf-8", { fatal: true });
      header = JSON.parse(text.decode(new Uint8Array(buffer, 8, length)));
      configuration = JSON.parse(header.__metadata__.configuration);
    } catch {
      throw new Problem("foreign");
    }
    function tensor(name, shape) {
      const entry = header[name], size = SIZES[entry?.dtype];
      const expected = entry?.shape?.reduce((a, b) => a * b, size);
      const [from, to] = entry?.data_offsets ?? [];
      const fits = entry && size && shape.length === entry.shape.length
        && shape.every((n, i) => n === null || n === entry.shape[i]);
      if (!fits || to - from !== expected || from < 0 || to > buffer.byteLength - 8 - length)
        throw new Problem("damaged", name);
      const bytes = buffer.slice(8 + length + from, 8 + length + to);
      const values = entry.dtype === "I32" ? new Int32Array(bytes) : float32(entry.dtype, bytes);
      let sum = 0;
      for (let i = 0; i < values.length; i++) sum += values[i];
      if (!Number.isFinite(sum)) throw new Problem("damaged", name); // NaN or infinite numbers
      return Object.assign(values, { shape: entry.shape });
    }
    return { configuration, tensor, has: (name) => Object.hasOwn(header, name) };
  }

  /** What the page needs of a configuration; throws `Problem` where it is another kind of model. */
  function check(configuration) {
    const model = configuration?.model ?? {}, [height, width] = configuration?.picture ?? [];
    const whole = (n, least) => Number.isInteger(n) && n >= least;
    if (!whole(model.dim, 2) || model.dim % 2 || height * width !== model.dim
        || !whole(model.couplings, 1) || !whole(model.units, 1) || !whole(model.depth, 0)
        || !["relu", "linear"].includes(model.output_activation)
        || !["article", "paper"].includes(model.convention)
        || !["gaussian", "logistic"].includes(configuration.prior)
        || !(configuration.levels >= 2))
      throw new Problem("foreign");
    if (model.shuffle !== "reverse") throw new Problem("random");
    return model;
  }

  // ---------------------------------------------------------------- the network m

  let rows = new Int32Array(4096);

  /** out = x @ kernel + bias. Behind a relu two of three x are 0: their rows are skipped. */
  function dense(x, { kernel, bias }, out, relu) {
    const width = out.length;
    if (rows.length < x.length) rows = new Int32Array(x.length);
    let count = 0;
    for (let i = 0; i < x.length; i++) if (x[i] !== 0) rows[count++] = i;
    out.set(bias);
    let k = 0;
    for (; k + 4 <= count; k += 4) { // four rows at a time: out is read and written less
      const a = x[rows[k]], b = x[rows[k + 1]], c = x[rows[k + 2]], d = x[rows[k + 3]];
      const p = rows[k] * width, q = rows[k + 1] * width;
      const r = rows[k + 2] * width, s = rows[k + 3] * width;
      for (let j = 0; j < width; j++)
        out[j] += a * kernel[p + j] + b * kernel[q + j] + c * kernel[r + j] + d * kernel[s + j];
    }
    for (; k < count; k++) {
      const a = x[rows[k]], p = rows[k] * width;
      for (let j = 0; j < width; j++) out[j] += a * kernel[p + j];
    }
    if (relu) for (let j = 0; j < width; j++) if (out[j] < 0) out[j] = 0;
  }

  /** kernel @ dy where the unit x was on (everywhere unless `relu`): the gradient by x. */
  function transposed(dy, { kernel }, x, relu) {
    const width = dy.length, dx = new Float32Array(x.length);
    for (let i = 0; i < x.length; i++) {
      if (relu && x[i] <= 0) continue;
      let sum = 0;
      for (let j = 0, p = i * width; j < width; j++, p++) sum += kernel[p] * dy[j];
      dx[i] = sum;
    }
    return dx;
  }

  // ---------------------------------------------------------------- the flow

  class Flow {
    /** Reads a weights file whole (an ArrayBuffer), or throws `Problem`. */
    constructor(buffer) {
      const file = open(buffer);
      this.configuration = file.configuration;
      const model = check(this.configuration), half = model.dim / 2;
      this.dim = model.dim;
      [this.height, this.width] = this.configuration.picture;
      this.levels = this.configuration.levels;
      this.gaussian = this.configuration.prior === "gaussian";
      this.relu = model.output_activation === "relu";
      this.sign = model.convention === "paper" ? 1 : -1; // (7) or (9) is the encoder's direction
      this.couplings = [];
      this.parameters = this.dim;
      for (let c = 1; c <= model.couplings; c++) {
        const layers = [];
        for (let l = 1; l <= model.depth + 1; l++) {
          const inputs = l === 1 ? half : model.units;
          const outputs = l === model.depth + 1 ? half : model.units;
          const name = `encoder/coupling_${c}/m/dense_${l}/`;
          const kernel = file.tensor(name + "kernel", [inputs, outputs]);
          const bias = file.tensor(name + "bias", [outputs]);
          layers.push({ kernel, bias, out: new Float32Array(outputs) });
          this.parameters += kernel.length + bias.length;
        }
        this.couplings.push({ layers, input: new Float32Array(half) });
      }
      const logScale = file.tensor("encoder/scale/log_scale", [1, this.dim]);
      this.scale = Float64Array.from(logScale, Math.exp); // s of (14)
      this.sigma = Float64Array.from(logScale, (v) => Math.exp(-v)); // (16): σ = 1/s
      this.logDeterminant = logScale.reduce((a, b) => a + b, 0);
      this.codes = file.has("codes/means") ? readCodes(file, this.dim) : null;
    }

    /** m(x1) of one coupling, x1 the even places of h; the layers keep their outputs. */
    m({ layers, input }, h) {
      for (let i = 0; i < input.length; i++) input[i] = h[2 * i];
      let x = input;
      layers.forEach((layer, l) => {
        dense(x, layer, layer.out, l < layers.length - 1 || this.relu);
        x = layer.out;
      });
      return x;
    }

    /** Picture (D,) -> code (D,): (10) from x to z. */
    encode(x) {
      const h = Float64Array.from(x);
      for (const coupling of this.couplings) {
        h.reverse(); // (13): even places become odd ones
        const m = this.m(coupling, h);
        for (let i = 0; i < m.length; i++) h[2 * i + 1] += this.sign * m[i];
      }
      return Float32Array.from(h, (v, i) => v * this.scale[i]);
    }

    /** Code (D,) -> picture (D,), not clipped; `watch(h, i)` sees h⁽ⁿ⁾, …, h⁽⁰⁾ on the way. */
    decode(z, watch) {
      const h = Float64Array.from(z, (v, i) => v * this.sigma[i]);
      for (let c = this.couplings.length; c > 0; c--) {
        watch?.(h, c);
        const m = this.m(this.couplings[c - 1], h);
        for (let i = 0; i < m.length; i++) h[2 * i + 1] -= this.sign * m[i];
        h.reverse();
      }
      watch?.(h, 0);
      return Float32Array.from(h);
    }

    /** h⁽ᶜ⁾ with every dimension at its pixel: each shuffle has turned the picture round. */
    upright(h, c) {
      return c % 2 ? h.slice().reverse() : h.slice();
    }

    /** The terms of (15) at a code, nats: log p(x) = determinant - energy - constant. */
    terms(z) {
      let energy = 0;
      for (const v of z)
        energy += this.gaussian ? v * v / 2 : Math.abs(v) + 2 * Math.log1p(Math.exp(-Math.abs(v)));
      const constant = this.gaussian ? this.dim / 2 * Math.log(2 * Math.PI) : 0;
      const determinant = this.logDeterminant;
      return { determinant, energy, constant, total: determinant - energy - constant };
    }

    /** Exact log p(x) in nats. */
    logLikelihood(x) {
      return this.terms(this.encode(x)).total;
    }

    /** ∂ log p(x)/∂x, (D,); Σ log s does not depend on x. */
    gradient(x) {
      const z = this.encode(x); // every layer keeps what it put out
      const g = Float64Array.from(z, (v, i) =>
        -this.scale[i] * (this.gaussian ? v : Math.tanh(v / 2)));
      for (let c = this.couplings.length - 1; c >= 0; c--) {
        const { layers, input } = this.couplings[c];
        let dy = Float32Array.from(layers.at(-1).out, (out, i) =>
          this.relu && out <= 0 ? 0 : this.sign * g[2 * i + 1]);
        for (let l = layers.length - 1; l >= 0; l--)
          dy = transposed(dy, layers[l], l ? layers[l - 1].out : input, l > 0);
        for (let i = 0; i < dy.length; i++) g[2 * i] += dy[i];
        g.reverse();
      }
      return Float32Array.from(g);
    }

    /** σ of each pixel: where the shuffles take its dimension. */
    pixelSigma() {
      return this.upright(this.sigma, this.couplings.length);
    }

    /** A code of the prior at temperature T. */
    draw(random, T) {
      return Float32Array.from({ length: this.dim }, () =>
        T * (this.gaussian ? random.normal() : random.logistic()));
    }
  }

  // ---------------------------------------------------------------- fitted codes

  function readCodes(file, dim) {
    const codes = { means: file.tensor("codes/means", [null, dim]) };
    const [groups] = codes.means.shape;
    codes.labels = file.tensor("codes/labels", [groups]);
    codes.shares = file.tensor("codes/shares", [groups]);
    codes.directions = file.tensor("codes/directions", [groups, null, dim]);
    for (const bound of ["low", "high"])
      if (file.has(`codes/${bound}`)) codes[bound] = file.tensor(`codes/${bound}`, [groups, dim]);
    return codes;
  }

  /** A fitted code of a label: z = mean + T Σ e_r direction_r, within its group's bounds. */
  function drawCode(codes, label, random, T) {
    const dim = codes.means.shape[1], rank = codes.directions.shape[1];
    const groups = [...codes.labels.keys()].filter((g) => codes.labels[g] === label);
    if (!groups.length) return null;
    let left = random.uniform() * groups.reduce((sum, g) => sum + codes.shares[g], 0);
    const group = groups.find((g) => (left -= codes.shares[g]) < 0) ?? groups.at(-1);
    const z = codes.means.slice(group * dim, (group + 1) * dim);
    for (let r = 0; r < rank; r++) {
      const e = T * random.normal(), from = (group * rank + r) * dim;
      for (let i = 0; i < dim; i++) z[i] += e * codes.directions[from + i];
    }
    const { low, high } = codes, from = group * dim;
    if (low && high)
      for (let i = 0; i < dim; i++)
        z[i] = Math.min(Math.max(z[i], low[from + i]), high[from + i]);
    return z;
  }

  /** Random numbers of a seed, the same in every browser (mulberry32). */
  function randomOf(seed) {
    let state = (seed * 2654435761) >>> 0;
    const uniform = () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296; // never 0 or 1
    };
    return {
      uniform,
      normal: () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
      logistic: () => { const u = uniform(); return Math.log(u / (1 - u)); },
    };
  }

  return { Problem, Flow, drawCode, randomOf };
}

const kit = flowKit();
