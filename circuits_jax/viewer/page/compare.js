// Two circuits side by side: one layout for both, so that what they share stands at the same place.

/** Nodes and edges of two circuits by name: {nodes: {shared, onlyA, onlyB}, edges: likewise}, each a Set. */
function compareCircuits(a, b) {
  const nodesOf = (c) => new Set(c.nodes.map((_, place) => nodeId(c, place)));
  const edgesOf = (c) => new Set(c.edges.map(([source, target]) => `${nodeId(c, source)} ${nodeId(c, target)}`));
  return { nodes: splitSets(nodesOf(a), nodesOf(b)), edges: splitSets(edgesOf(a), edgesOf(b)) };
}

function splitSets(a, b) {
  const [onlyA, shared] = [[...a].filter((x) => !b.has(x)), [...a].filter((x) => b.has(x))];
  return { shared: new Set(shared), onlyA: new Set(onlyA), onlyB: new Set([...b].filter((x) => !a.has(x))) };
}

/** A circuit that holds what either holds, only to be laid out. */
function unionOf(a, b) {
  const ids = new Map(), nodes = [];
  const add = (c) => c.nodes.map((node, place) => {
    const id = nodeId(c, place);
    if (!ids.has(id)) { ids.set(id, nodes.length); nodes.push(node); }
    return ids.get(id);
  });
  const [placesA, placesB] = [add(a), add(b)], edges = new Map();
  for (const [c, places] of [[a, placesA], [b, placesB]]) {
    for (const [source, target, weight] of c.edges) {
      const key = `${places[source]} ${places[target]}`;
      if (!edges.has(key)) edges.set(key, [places[source], places[target], weight]);
    }
  }
  const read = [a, b].flatMap((c) => drawnAnswers(c).flatMap(([, entries]) => entries));
  const entries = new Map(read.map((entry) => [entry.slice(0, 2).join(), entry]));
  return {
    ...a, nodes, edges: [...edges.values()], unembedding: [...entries.values()], maxAnswers: Infinity, nodeDeltas: null, edgeDeltas: null,
    model: { ...a.model, n_layer: Math.max(a.model.n_layer, b.model.n_layer) },
    evidence: { ...a.evidence, words: { ...b.evidence.words, ...a.evidence.words }, pieces: { ...b.evidence.pieces, ...a.evidence.pieces } },
  };
}

/** Both drawings under one camera, and what is shared and what is not. */
function compareView(a, b, state, tip) {
  const difference = compareCircuits(a, b), cameras = [];
  const opened = a.nodes.length + b.nodes.length > MAX_DRAWN ? () => false : () => true;
  const follow = (from) => (view) => {
    for (const other of cameras) if (other !== from.camera && other.view.k + other.view.x + other.view.y !== view.k + view.x + view.y) other.set(view, false);
  };
  const panels = [[a, "onlyA"], [b, "onlyB"]].map(([circuit, side]) => {
    const alone = difference.nodes[side], aloneEdges = difference.edges[side];
    const spots = buildGraph(unionOf(a, b), opened), layout = layOut(spots, innerWidth < ZOOM.narrow ? SPACE.narrow : SPACE.half);
    const graph = buildGraph(circuit, opened);
    const { svg, camera, labels } = drawGraph(graph, { ...layout, boxes: placeLike(graph, spots) });
    for (const vertex of graph.vertices.values()) if (alone.has(vertex.id)) vertex.element.classList.add("alone");
    for (const link of graph.links) {
      if (link.kind === "edge" && aloneEdges.has(`${link.source.id} ${link.target.id}`)) link.element.classList.add("alone");
    }
    paintImportance(graph);
    showNotes(graph, view.notes[circuit.key]);
    setTabStop(graph);
    const own = {}, follower = follow(own);
    own.camera = makeCamera(svg, camera, layout, (view) => { placeRowLabels(labels, view); follower(view); });
    cameras.push(own.camera);
    listen(graph, svg, tip, (id) => { if (id) state.go({ task: circuit.key, node: id, with: "", view: "" }); });
    const words = [`${circuit.nodes.length} nodes, ${circuit.edges.length} edges under ${circuit.ablation} ablation`, `${alone.size} nodes and ${aloneEdges.size} edges only here`];
    const card = h("div", { class: "graph-card" }, h("p", { class: "legend" }, h("strong", {}, circuit.key), words.map((each) => h("span", {}, each))), svg);
    return { card, svg, layout };
  });
  const element = h("section", { class: "compare", "aria-label": "Comparison" }, comparisonHead(a, b, difference, state),
    h("div", { class: "compare-panels" }, panels.map(({ card }) => card)));
  const fit = () => {
    for (const { svg, layout } of panels) svg.style.height = graphHeight(layout, svg) + "px";
    for (const camera of cameras) camera.fit();
  };
  return { element, fit, camera: cameras[0] }; // the other follows
}

/** Takes every vertex's place from the drawing of both; returns the boxes of its own heads, which place their hubs. */
function placeLike(graph, spots) {
  for (const vertex of graph.vertices.values()) {
    if (vertex.kind === "hub") continue; // heads of another size are not in that drawing
    const { x, y } = spots.vertices.get(vertex.id) ?? spots.vertices.get(`${FINAL}.${vertex.channel}`);
    Object.assign(vertex, { x, y });
  }
  const boxes = graph.heads.map((head) => ({ ...head, ...headSpan(head) }));
  for (const box of boxes) placeBox(box, 0);
  return boxes;
}

/** What is compared, a choice of what with, the figures of both, and how differences are marked. */
function comparisonHead(a, b, difference, state) {
  const select = h("select", { "aria-label": "Compare with", onchange: () => state.go({ with: select.value }) },
    page.circuits.filter((c) => c !== a).map((c) => h("option", { value: c.key }, c.key)));
  select.value = b.key;
  const same = a.hashes.model === b.hashes.model;
  return h("div", {}, h("h2", {}, `${a.key} against `, select),
    h("div", { class: "compare-head" }, comparisonTable(a, b, difference),
      h("div", {}, h("p", { class: "quiet" }, "What both have stands at the same place. A dashed ring marks a node that only one has; edges that both have are pale."),
        same ? null : h("p", { class: "quiet" }, "The two are of different models: equal names are equal places, not the same units."))));
}

function comparisonTable(a, b, { nodes, edges }) {
  const figure = (name) => [spaced(name.replace("full/", "full model, ").replace("test/", "test ")), a.metrics[name] ?? null, b.metrics[name] ?? null, ""];
  const share = ({ shared, onlyA, onlyB }) => formatPercent(shared.size / Math.max(1, shared.size + onlyA.size + onlyB.size));
  return makeTable(["", a.key, b.key, "shared"], [
    ["nodes", a.nodes.length, b.nodes.length, `${nodes.shared.size} (${share(nodes)} of all)`],
    ["edges", a.edges.length, b.edges.length, `${edges.shared.size} (${share(edges)} of all)`],
    ...["test/calibrated_loss", "test/calibrated_accuracy", "test/accuracy", "full/test/calibrated_loss"].map(figure),
  ]);
}
