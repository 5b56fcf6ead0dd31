// The prompt bench's reckoning: which tokens, which answers, and what the circuit makes of them.

/** {network, encode, run}: the circuit as it runs here, as far as the page holds what that needs. */
function makeBench(circuit, vocabulary) {
  const { network } = circuit.evidence;
  const bench = {
    circuit, cache: new Map(),
    network: network && makeNetwork(network, circuit.nodes), encode: vocabulary && makeEncoder(vocabulary),
  };
  bench.run = (tokens, overrides = new Map()) => {
    if (!bench.network) return null;
    const key = tokens.join() + "|" + [...overrides].map(([place, told]) => [place, told.value, told.at].join(":")).join();
    if (!bench.cache.has(key)) {
      if (bench.cache.size > 64) bench.cache.clear();
      bench.cache.set(key, runNetwork(bench.network, tokens, overrides));
    }
    return bench.cache.get(key);
  };
  return bench;
}

/**
 * The prompt that the state asks for: {tokens, answers: [A's, B's], side: 0, 1 or (typed) null, number, typed,
 * problem: why it cannot be run, or null}.
 */
function chosenPrompt(bench, now) {
  const { prompts } = bench.circuit.evidence;
  if (!prompts.length) return null;
  const number = clampIndex(now.prompt.replace(/[AB]$/, ""), prompts.length - 1);
  const side = now.prompt.endsWith("B") ? 1 : 0;
  const { answers, tokens } = prompts[number];
  if (!now.text || !bench.encode) return { tokens: tokens[side], answers, side, number, typed: false, problem: null };
  const typed = bench.encode(now.text);
  const most = bench.network?.config.context ?? Infinity;
  const problem = typed.length > most ? `${typed.length} tokens; the model reads at most ${most}.` : null;
  return { tokens: problem ? typed.slice(0, most) : typed, answers, side: null, number, typed: true, problem };
}

/** "node=value@position,..." as a Map of place to {value, at}; what names no node or number is left out. */
function parseOverrides(circuit, text) {
  const places = new Map(circuit.nodes.map((_, place) => [nodeId(circuit, place), place]));
  const found = new Map();
  for (const part of text.split(",").filter(Boolean)) {
    const [id, told = ""] = part.split("=");
    const [value, at] = told.split("@").map(Number);
    if (places.has(id) && Number.isFinite(value)) found.set(places.get(id), { value, at: Number.isInteger(at) ? at : null });
  }
  return found;
}

function formatOverrides(circuit, overrides) {
  return [...overrides].map(([place, { value, at }]) =>
    `${nodeId(circuit, place)}=${Number(value.toPrecision(4))}${at === null ? "" : "@" + at}`).join(",");
}

/** From the two answers' logits: {difference, right: share of answer A, calibrated: the same, calibrated}. */
function answerShares(circuit, logits) {
  const difference = logits[0] - logits[1];
  const [scale, shift] = circuit.calibration;
  return { difference, raw: logistic(difference), calibrated: logistic(scale * difference + shift) };
}

function logistic(x) {
  return 1 / (1 + Math.exp(-x));
}

/** How far this page's logits are from Python's over all embedded prompts: {worst, prompts, ties}. */
function checkAgreement(bench) {
  const { prompts } = bench.circuit.evidence;
  let worst = 0, count = 0, ties = 0;
  prompts.forEach(({ tokens, answers, circuit: recorded }) => tokens.forEach((prompt, side) => {
    const { logits, margin } = bench.run(prompt);
    if (margin < NEAR_TIE) ties++;
    else answers.forEach((answer, i) => (worst = Math.max(worst, Math.abs(logits.get(answer) - recorded[side][i]))));
    count++;
  }));
  return { worst, prompts: count, ties };
}

// AbsTopK's k-th and next magnitude nearer than this (relatively): rounding may choose otherwise.
const NEAR_TIE = 1e-6;
