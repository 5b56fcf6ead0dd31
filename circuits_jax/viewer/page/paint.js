// What colours the nodes: their importance (the task loss without them), or their value on a prompt; and what the
// answers come to there.

/** Writes above the answers what share of the two each has; `shares` is a Map of token to share. */
function showShares(graph, shares) {
  for (const vertex of graph.vertices.values()) {
    if (vertex.kind !== "answer") continue;
    const share = shares.get(vertex.token);
    vertex.element.querySelector(".answer-share").textContent = share === undefined ? "" : formatPercent(share);
  }
}

/** Paints nodes by ablation delta: the deeper, the more the loss rises without the node; groups as their most important. */
function paintImportance(graph) {
  for (const vertex of graph.vertices.values()) {
    const chip = vertex.kind === "group" && vertex.element.querySelector(".tone");
    if (chip) chip.style.setProperty("--tone", (importanceShare(graph, vertex) ** 0.5).toFixed(3));
    if (vertex.kind !== "node") continue;
    const known = typeof vertex.delta === "number";
    paintMark(vertex, known ? importanceShare(graph, vertex) ** 0.5 : null, known && vertex.delta < 0 ? "helps" : "needed");
  }
}

/** Paints nodes by `values` [nodes], each in proportion to the node's own range on the corpus. */
function paintValues(graph, values) {
  for (const vertex of graph.vertices.values()) {
    if (vertex.kind !== "node") continue;
    const value = values[vertex.place], { scale } = graph.circuit.evidence.nodes[vertex.place];
    paintMark(vertex, Math.min(1, Math.abs(value) / (scale || 1)), value < 0 ? "negative" : "positive");
  }
}

/** The nodes' values [nodes] at the bench's chosen token: live, or of the full model as recorded; null where neither is known. */
function valuesAt(circuit, { prompt, run, at }) {
  if (run) return run.values[at];
  if (!prompt || prompt.typed) return null;
  return circuit.nodes.map((_, place) => recordedValues(circuit, place, prompt.number, prompt.side)[at]);
}

function paintMark(vertex, tone, kind) {
  const mark = vertex.element.querySelector(".mark");
  for (const name of ["needed", "helps", "negative", "positive"]) mark.classList.toggle(name, tone !== null && name === kind);
  if (tone === null) mark.style.removeProperty("--tone");
  else mark.style.setProperty("--tone", tone.toFixed(3));
}
