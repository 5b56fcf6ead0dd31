// The circuit's forward pass.  The same steps as model/transformer.py with removed nodes held at their means, in
// double precision; what removed nodes add is in the constants that live.py summed up.

const RMS_EPS = 2 ** -23, LAYER_NORM_EPS = 1e-5;

/** Unpacks what live.py embedded.  `nodes` are the circuit's: [[site, index, ...], ...]. */
function makeNetwork(data, nodes) {
  const { config } = data;
  const places = groupBy(nodes.map(([site, index], place) => ({ site, index, place })), (node) => node.site);
  const site = (packed, name) => ({ held: unpack(packed), nodes: places.get(name) ?? [] });
  const norm = (packed) => packed && { scale: unpack(packed.scale), bias: packed.bias && unpack(packed.bias) };
  const linear = (packed) => ({
    kept: packed.kept, rows: unpackRows(packed.rows), constant: unpack(packed.constant),
    heads: packed.heads && unpackRows(packed.heads),
  });
  const layers = data.layers.map(({ attn, mlp }, i) => ({
    attn: {
      norm: norm(attn.norm), positions: norm(attn.positions), sink: attn.sink && unpack(attn.sink),
      qkv: linear(attn.qkv), out: linear(attn.out),
      ...Object.fromEntries(["act_in", "q", "k", "v", "resid_delta"].map((n) => [n, site(attn[n], `${i}.attn.${n}`)])),
    },
    mlp: {
      norm: norm(mlp.norm), positions: norm(mlp.positions), up: linear(mlp.up), down: linear(mlp.down),
      ...Object.fromEntries(["act_in", "post_act", "resid_delta"].map((n) => [n, site(mlp[n], `${i}.mlp.${n}`)])),
    },
  }));
  const answers = data.answers.map((answer) => ({
    ...answer, weights: unpack(answer.weights), bigram: answer.bigram && unpack(answer.bigram),
  }));
  return {
    config, layers, answers, nodes: nodes.length, embedding: unpackRows(data.embedding),
    positions: data.positions && unpack(data.positions), final: norm(data.final), end: data.end && site(data.end, FINAL),
  };
}

/**
 * Runs the circuit on token ids.
 *
 * `overrides` is a Map of node place to {value, at}: the node is held at `value`, at position `at` or (null)
 * everywhere.  Returns {logits: Map of answer token to its logit at the last position, values: one Float64Array
 * [nodes] a position, attention: [layer][head][position] weights on the keys up to it, then on the sink,
 * scores: [layer] queries and keys, margin: how close AbsTopK came to choosing otherwise, of its threshold}.
 */
function runNetwork(network, tokens, overrides = new Map()) {
  const { config } = network;
  const run = {
    config, overrides, margin: Infinity, attention: [], scores: [],
    values: tokens.map(() => new Float64Array(network.nodes)),
  };
  const stream = tokens.map((token, t) => {
    const x = new Float64Array(config.width);
    addRow(x, network.embedding, token, 1);
    if (config.position === "add") for (let i = 0; i < x.length; i++) x[i] += network.positions[t * x.length + i];
    return x;
  });
  for (const layer of network.layers) {
    write(run, stream, attentionHalf(run, network, layer.attn, stream), "resid_post_attn");
    write(run, stream, mlpHalf(run, network, layer.mlp, stream), "resid_post_mlp");
  }
  if (network.end) stream.forEach((x, t) => settleSite(run, network.end, x, t));
  return { ...run, logits: readAnswers(network, stream.at(-1), tokens.at(-1)) };
}

function attentionHalf(run, network, half, stream) {
  const { config } = run, width = config.heads * config.head;
  const channels = { q: [], k: [], v: [] };
  stream.forEach((x, t) => {
    const joined = linearOf(half.qkv, readHalf(run, network, half, x, t, "attn_in"));
    ["q", "k", "v"].forEach((name, i) => {
      const part = joined.slice(i * width, (i + 1) * width);
      channels[name].push(settleSite(run, half[name], keepLargest(run, part, "attn_" + name), t));
    });
  });
  const weights = attentionWeights(config, channels, half.sink);
  run.attention.push(weights);
  run.scores.push(channels);
  return stream.map((_, t) => {
    const delta = Float64Array.from(half.out.constant);
    half.out.kept.forEach((channel, row) => {
      const pattern = weights[Math.floor(channel / config.head)][t];
      let y = 0;
      for (let key = 0; key <= t; key++) y += pattern[key] * channels.v[key][channel];
      addRow(delta, half.out.rows, row, y);
    });
    for (let head = 0; head < config.heads; head++) addRow(delta, half.out.heads, head, 1 - weights[head][t][t + 1]);
    return settleSite(run, half.resid_delta, keepLargest(run, delta, "attn_out"), t);
  });
}

/** Causal softmax by head and query; the last entry is what the sink takes (0 without one). */
function attentionWeights({ heads, head: size }, { q, k }, sink) {
  return Array.from({ length: heads }, (_, head) => q.map((query, t) => {
    const pattern = new Float64Array(t + 2);
    for (let key = 0; key <= t; key++) {
      let score = 0;
      for (let i = head * size; i < (head + 1) * size; i++) score += query[i] * k[key][i];
      pattern[key] = score / Math.sqrt(size);
    }
    pattern[t + 1] = sink ? sink[head] : -Infinity;
    const top = pattern.reduce((a, b) => Math.max(a, b));
    let total = 0;
    pattern.forEach((score, i) => (total += pattern[i] = Math.exp(score - top)));
    return pattern.map((weight) => weight / total);
  }));
}

function mlpHalf(run, network, half, stream) {
  return stream.map((x, t) => {
    const neurons = linearOf(half.up, readHalf(run, network, half, x, t, "mlp_in"));
    activate(neurons, run.config.activation);
    const kept = settleSite(run, half.post_act, keepLargest(run, neurons, "mlp_neuron"), t);
    return settleSite(run, half.resid_delta, keepLargest(run, linearOf(half.down, kept), "mlp_out"), t);
  });
}

/** What a half reads at one position: the normed stream, and normed position features where they are joined. */
function readHalf(run, network, half, x, t, location) {
  const { config } = run;
  let read = normed(x, half.norm, config.norm);
  if (config.position === "concat") {
    const size = config.read - config.width;
    const features = normed(network.positions.slice(t * size, (t + 1) * size), half.positions, config.norm);
    read = Float64Array.from([...read, ...features]);
  }
  return settleSite(run, half.act_in, keepLargest(run, read, location), t);
}

function write(run, stream, deltas, location) {
  stream.forEach((x, t) => {
    for (let i = 0; i < x.length; i++) x[i] += deltas[t][i];
    activate(x, run.config.residual);
    stream[t] = keepLargest(run, x, location);
  });
}

/** Removed nodes at their means, kept ones as they are (and noted), overridden ones as told. */
function settleSite(run, { held, nodes }, x, t) {
  for (let i = 0; i < x.length; i++) if (!Number.isNaN(held[i])) x[i] = held[i];
  for (const { index, place } of nodes) {
    const told = run.overrides.get(place);
    if (told && (told.at === null || told.at === t)) x[index] = told.value;
    run.values[t][place] = x[index];
  }
  return x;
}

/** The constants, and kept sources times their weights. */
function linearOf({ kept, rows, constant }, x) {
  const out = Float64Array.from(constant);
  kept.forEach((source, row) => { if (x[source]) addRow(out, rows, row, x[source]); });
  return out;
}

/** AbsTopK: all but the k entries of largest magnitude become zero; among equals the lowest index stays. */
function keepLargest(run, x, location) {
  const k = run.config.keep[location];
  if (k === null || k >= x.length) return x;
  const sizes = Float64Array.from(x, Math.abs).sort().reverse();
  const threshold = k > 0 ? sizes[k - 1] : Infinity;
  if (threshold > 0 && k > 0) run.margin = Math.min(run.margin, (threshold - sizes[k]) / threshold);
  let equal = k;
  for (const size of sizes) if (size > threshold) equal--; else break;
  for (let i = 0; i < x.length; i++) {
    const size = Math.abs(x[i]);
    if (size < threshold || (size === threshold && equal-- <= 0)) x[i] = 0;
  }
  return x;
}

function normed(x, { scale, bias }, kind) {
  let mean = 0, square = 0;
  if (kind === "layer") for (const value of x) mean += value / x.length;
  for (const value of x) square += (value - mean) ** 2 / x.length;
  const factor = 1 / Math.sqrt(square + (kind === "layer" ? LAYER_NORM_EPS : RMS_EPS));
  return Float64Array.from(x, (value, i) => (value - mean) * factor * scale[i] + (bias ? bias[i] : 0));
}

function activate(x, kind) {
  if (kind === "gelu") for (let i = 0; i < x.length; i++) x[i] *= 0.5 * (1 + erf(x[i] * Math.SQRT1_2));
  if (kind === "relu") for (let i = 0; i < x.length; i++) x[i] = Math.max(0, x[i]);
}

/** The error function by its series of positive terms, 2 x exp(-x^2) / sqrt(pi) * sum of (2 x^2)^n / (2n + 1)!!. */
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = 1, sum = 1;
  for (let n = 1; term > sum * 1e-16; n++) sum += term *= (2 * x * x) / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * x * Math.exp(-x * x) * sum;
}

function readAnswers(network, x, token) {
  const read = normed(x, network.final, network.config.norm);
  return new Map(network.answers.map(({ token: answer, weights, bias, bigram }) => {
    let logit = bias + (bigram ? bigram[token] : 0);
    for (let i = 0; i < read.length; i++) logit += read[i] * weights[i];
    return [answer, logit];
  }));
}
