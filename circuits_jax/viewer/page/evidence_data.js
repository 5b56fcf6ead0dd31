// What evidence.py gathered, unpacked as it is asked for.

function vocabularyOf(circuit) {
  return page.vocabularies[circuit.hashes.tokenizer] ?? null;
}

function pieceOf(circuit, token) {
  const known = circuit.evidence.pieces[token];
  if (known !== undefined) return known;
  const vocabulary = vocabularyOf(circuit), piece = vocabulary?.pieces[token];
  if (vocabulary?.ranked) return piece ?? `token ${token}`;
  if (typeof piece === "string") return piece.replaceAll(SPACE_MARK, " ");
  const byte = vocabulary?.bytes.indexOf(token) ?? -1;
  return byte >= 0 ? "\\x" + byte.toString(16).padStart(2, "0") : `token ${token}`;
}

/** The nodes' values in the full model on side `side` of prompt `number`: Float64Array by position. */
function recordedValues(circuit, place, number, side) {
  const { prompts, scale } = circuit.evidence.nodes[place];
  return unpackScaled(prompts[2 * number + side], scale);
}

/** A context's tokens and values: {tokens, values, peak: its token's place, value: there}. */
function readContext(circuit, place, [window, start, peak, value, packed]) {
  const { corpus } = circuit.evidence;
  corpus.unpacked ??= unpack(corpus.ids, corpus.wide ? Uint32Array : Uint16Array);
  const values = unpackScaled(packed, circuit.evidence.nodes[place].scale);
  const from = window * corpus.length + start;
  return { tokens: [...corpus.unpacked.slice(from, from + values.length)], values, peak, value };
}

/** The automatic description, as words and {token}s among them; null where there is none. */
function descriptionParts(circuit, place) {
  const found = circuit.evidence.nodes[place].description;
  if (!found) return null;
  if (found.kind === "state") return [`fires ${found.words[0]}`, found.signs[0] < 0 ? ", negative" : ""];
  const of = (sign) => listParts(found.words.filter((_, i) => found.signs[i] === sign).map((token) => ({ token: tokenAlone(pieceOf(circuit, token)) })));
  const where = found.kind === "previous" ? "after" : "on", positive = of(1), negative = of(-1);
  if (positive.length && negative.length) return [`fires, positive ${where} `, ...positive, `, negative ${where} `, ...negative];
  return [`fires ${where} `, ...positive, ...negative, negative.length ? ", negative" : ""];
}

/** The same as plain text, or null. */
function descriptionWords(circuit, place) {
  return descriptionParts(circuit, place)?.map((part) => (part.token === undefined ? part : `\`${part.token}\``)).join("") ?? null;
}

/** The same as elements, tokens as code, or null. */
function descriptionElements(circuit, place) {
  return descriptionParts(circuit, place)?.map((part) => (part.token === undefined ? part : h("code", {}, part.token))) ?? null;
}

/** How far the description holds on held-out text: {words, title}, or null. */
function descriptionFigures(circuit, place) {
  const found = circuit.evidence.nodes[place].description;
  return found && {
    words: `precision ${formatPercent(found.precision)}, recall ${formatPercent(found.recall)}`,
    title: `On held-out text. It fires where its size is at least ${formatNumber(found.threshold)}, half of its 99.9th percentile: ` +
      `on ${found.fired} tokens there. The description was fitted on the other half of the windows.`,
  };
}

/** Other names of a node, as people and the released code write it. */
function aliasesOf(circuit, { layer, location, index, site, head }) {
  const { d_head: size } = circuit.model;
  const names = [`${site}[${index}]`];
  if (head !== null) names.push(`layer ${layer}, head ${head}, ${LOCATION_NAMES[location]} channel ${index % size} of ${size}`);
  else if (location === FINAL) names.push(`residual channel ${index} after the last layer`);
  else if (location === "mlp.post_act") names.push(`layer ${layer}, neuron ${index}`);
  else names.push(`layer ${layer}, ${location.startsWith("attn") ? "attention" : "MLP"} ${LOCATION_NAMES[location]} of residual channel ${index}`);
  return names;
}
