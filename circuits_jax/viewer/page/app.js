// The page of one circuit (or some).  What is shown is in the state; `render` makes it so.

const view = { circuit: null, graph: null, camera: null, bench: null, benchView: null, notes: page.annotations, unsaved: false };
const tip = document.getElementById("tip");
const state = makeState(render);

function chosenCircuit(key) {
  return page.circuits.find((circuit) => circuit.key === key) ?? page.circuits[0];
}

function showTabs(chosen) {
  const tab = (circuit) => h("a", {
    href: stateHash(STATE_DEFAULTS, { task: circuit.key, theme: state.now.theme, with: "" }), "aria-current": circuit === chosen && !state.now.with ? "page" : null,
  }, circuit.key, h("span", { class: "count" }, String(circuit.nodes.length)));
  const other = page.circuits.find((circuit) => circuit !== chosen);
  replaceContent(document.getElementById("tabs"), page.circuits.length > 1 ? page.circuits.map(tab) : null,
    other ? h("a", { href: state.href({ task: chosen.key, with: other.key, view: "" }), "aria-current": state.now.with ? "page" : null }, "compare") : null);
}

/** Builds everything that depends on the circuit and on which groups are open. */
function showCircuit(circuit, now) {
  if (circuit !== view.circuit) {
    view.bench = makeBench(circuit, vocabularyOf(circuit));
    view.benchView = circuit.evidence.prompts.length ? benchView(view.bench, state) : null;
    view.entries = null;
  }
  const graph = buildGraph(circuit, openSites(circuit, now.open));
  const layout = layOut(graph, innerWidth < ZOOM.narrow ? SPACE.narrow : SPACE.wide);
  const { svg, camera, labels } = drawGraph(graph, layout);
  ringRoles(graph);
  const pane = h("aside", { id: "pane", class: "pane", tabindex: -1, "aria-label": "Selected node" });
  Object.assign(view, { circuit, graph, svg, pane, counts: h("span", { class: "quiet" }) });
  view.camera = makeCamera(svg, camera, layout, (place, byHand) => {
    placeRowLabels(labels, place);
    showTip(tip, null);
    view.moved = byHand; // not in the address yet, but not to be fitted anew either
    if (byHand) rememberView(place);
  });
  listen(graph, svg, tip, (id, extend) => {
    if (extend && id && state.now.node) state.go({ to: id });
    else state.go({ node: id ?? "", to: "" });
  });
  replaceContent(document.getElementById("circuit"), circuitHead(circuit), verdictBand(circuit), storySection(circuit),
    h("div", { class: "work" },
      h("div", { class: "graph-card" }, toolbar(graph, svg), h("div", { class: "graph-frame" }, svg), view.legend = legend(graph)),
      h("div", { class: "beside" }, view.benchView?.element, pane)),
    readingsSection(circuit), evidenceSection(circuit));
  svg.style.height = graphHeight(layout, svg) + "px";
  applyView(now);
  const { camera: own } = view;
  new ResizeObserver(() => { if (svg.isConnected && !state.now.view && !view.moved) own.fit(); }).observe(svg);
}

function circuitHead(circuit) {
  const figure = (name, value, beside) => h("div", {}, h("dt", {}, name), h("dd", {}, value, beside ? h("span", { class: "quiet" }, ` ${beside}`) : null));
  const { metrics } = circuit, percent = (name) => (metrics[name] === undefined ? "\u2013" : formatPercent(metrics[name]));
  const loss = (name) => formatNumber(metrics[name]);
  return h("div", { class: "circuit-head" },
    h("div", {}, page.circuits.length > 1 ? h("h2", {}, circuit.key) : null, circuit.description ? h("p", {}, circuit.description) : null,
      circuit.others ? h("p", { class: "quiet" }, circuit.others) : null),
    h("dl", { class: "figures" }, figure("nodes", formatNumber(circuit.nodes.length), `of ${formatNumber(circuit.total)}`), figure("edges", formatNumber(circuit.edges.length), `under ${circuit.ablation} ablation`),
      figure("test loss, calibrated", loss("test/calibrated_loss"), `full model ${loss("full/test/calibrated_loss")}`),
      metrics["test/calibrated_accuracy"] === undefined ? null : figure("test accuracy, calibrated", percent("test/calibrated_accuracy"),
        `uncalibrated ${percent("test/accuracy")}, full model ${percent("full/test/calibrated_accuracy")}`)));
}

const PANE_BELOW = 980; // as in style.css

function applyView(now) {
  const [x, y, k] = now.view.split(",").map(Number);
  if (now.view && [x, y, k].every(Number.isFinite) && k > 0) view.camera.set({ x, y, k }, false);
  else view.camera.fit();
}

function rememberView({ x, y, k }) {
  clearTimeout(view.remembering);
  view.remembering = setTimeout(() => state.go({ view: [Math.round(x), Math.round(y), k.toFixed(3)].join() }, { replace: true }), 120);
}

function toolbar(graph, svg) {
  const button = (text, label, act) => h("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
  const slider = (key, what) => {
    const field = h("input", {
      type: "range", min: 0, max: 1, step: 0.01, "aria-label": `Hide ${what} below this share of the greatest`,
      oninput: () => state.go({ [key]: String(Number(field.value)) }, { replace: true }),
    });
    const output = h("output", {});
    view[key + "Slider"] = { field, output };
    return h("label", { title: field.getAttribute("aria-label") }, `${key} over`, field, output);
  };
  const paint = h("select", { "aria-label": "Colour of nodes", onchange: () => state.go({ paint: paint.value }, { replace: true }) },
    h("option", { value: "" }, graph.circuit.nodeDeltas ? "importance" : "none"), h("option", { value: "value" }, "value on prompt"));
  view.paintSelect = paint;
  return h("div", { class: "toolbar" },
    button("\u2212", "Zoom out (\u2212)", () => view.camera.zoom(1 / ZOOM.step)), button("+", "Zoom in (+)", () => view.camera.zoom(ZOOM.step)),
    button("fit", "Fit (0)", fitView),
    slider("edges", "edges"), slider("nodes", "nodes"), h("label", {}, "colour", paint),
    exportButtons(svg, graph.circuit.key));
}

function fitView() {
  clearTimeout(view.remembering);
  view.camera.fit();
  state.go({ view: "" }, { replace: true });
}

function legend(graph) {
  const { nodeDeltas } = graph.circuit;
  const sample = (kind) => s("svg", { viewBox: "0 0 26 10", width: 26, height: 10, "aria-hidden": "true" },
    s("line", { class: kind, x1: 1, x2: 25, y1: 5, y2: 5, "stroke-width": 2.5 }));
  const mark = (kind, tone) => s("svg", { viewBox: "0 0 14 14", width: 14, height: 14, "aria-hidden": "true" },
    s("g", { class: "vertex node " + kind }, s("circle", { class: "mark " + (tone ?? ""), style: tone ? "--tone:1" : null, cx: 7, cy: 7, r: NODE_RADIUS })));
  return h("p", { class: "legend" },
    graph.aggregated ? h("strong", {}, "Each box is all nodes of one site; select it to open it.") : null,
    state.now.open ? h("button", { type: "button", class: "button", onclick: () => state.go({ open: "", view: "", node: "", to: "" }) }, "close all boxes") : null,
    h("span", {}, sample("link positive"), "positive"), h("span", {}, sample("link negative"), "negative"),
    h("span", {}, sample("rail"), "residual channel"), h("span", {}, mark("bias-only"), "bias only"),
    nodeDeltas ? h("span", { class: "of-importance" }, "loss without it: 0", h("i", { class: "scale needed" }), formatSigned(Math.max(0, ...nodeDeltas)))
      : h("span", { class: "of-importance" }, "importance was not measured"),
    nodeDeltas?.some((delta) => delta < 0) ? h("span", { class: "of-importance" }, mark("", "helps"), "falls") : null,
    h("span", { class: "of-value" }, "value at the chosen token: ", MINUS, h("i", { class: "scale both" }), "+"),
    graph.hiddenAnswers ? h("span", {}, `${graph.hiddenAnswers} more answer tokens not drawn`) : null, view.counts);
}

/** What the bench's prompt does to the circuit, with the nodes held that the state holds. */
function liveRun(now, vertex) {
  const prompt = chosenPrompt(view.bench, now);
  if (!prompt) return { prompt: null, run: null, overrides: new Map(), at: 0, vertex };
  const overrides = parseOverrides(view.circuit, now.set);
  const usable = prompt.tokens.length > 0;
  const last = Math.max(0, prompt.tokens.length - 1), at = now.at === "" ? last : clampIndex(now.at, last);
  return {
    prompt, overrides, at, vertex, run: usable ? view.bench.run(prompt.tokens, overrides) : null,
    plain: usable && overrides.size ? view.bench.run(prompt.tokens) : null,
  };
}

function chosenVertex(now) {
  const vertex = view.graph.vertices.get(now.node);
  return vertex?.selectable ? vertex : null;
}

/** The sites of chosen nodes that closed boxes hide. */
function hiddenSites(circuit, now) {
  const isOpen = openSites(circuit, now.open);
  const chosen = circuit.nodes.filter(([site], place) => !isOpen(site) && [now.node, now.to].includes(nodeId(circuit, place)));
  return [...new Set(chosen.map(([site]) => site))];
}

function render(now, before = null) {
  applyTheme(now);
  const circuit = chosenCircuit(now.task);
  if (!circuit) {
    replaceContent(document.getElementById("circuit"), h("p", { class: "note" }, "No circuit was found in this run."));
    return;
  }
  showTip(tip, null);
  showTabs(circuit);
  const other = now.with && page.circuits.find((c) => c.key === now.with && c !== circuit);
  if (other) return showComparison(circuit, other);
  const hidden = hiddenSites(circuit, now);
  if (hidden.length) return state.go({ open: [now.open, ...hidden].filter(Boolean).join(",") }, { replace: true });
  const anew = circuit !== view.circuit || before?.open !== now.open || before?.with;
  if (anew) showCircuit(circuit, now);
  else if (before && before.view !== now.view && !view.svg.classList.contains("dragged")) applyView(now);
  const vertex = chosenVertex(now), live = liveRun(now, vertex), { graph } = view;
  showSelection(graph, view.svg, vertex?.id ?? null, now.to || null);
  showNotes(graph, view.notes[circuit.key]);
  showFilters(graph, now);
  setTabStop(graph, vertex);
  const values = now.paint === "value" ? valuesAt(circuit, live) : null;
  if (values) paintValues(graph, values);
  else paintImportance(graph);
  view.legend.classList.toggle("values", Boolean(values));
  showShares(graph, sharesOf(circuit, live));
  if (live.prompt) view.benchView.show(now, live);
  showPane(now, before, vertex, live);
  if (vertex && (anew || before.node !== now.node)) view.camera.reveal(vertex);
  if (vertex && !before && innerWidth < PANE_BELOW) view.svg.scrollIntoView(); // the pane lies over the page's foot
  return undefined;
}

function showFilters(graph, now) {
  const { edges, nodes } = showThresholds(graph, Number(now.edges) || 0, Number(now.nodes) || 0);
  for (const [{ field, output }, value] of [[view.edgesSlider, now.edges], [view.nodesSlider, now.nodes]]) {
    field.value = Number(value) || 0;
    output.textContent = formatPercent(Number(field.value));
  }
  view.paintSelect.value = now.paint;
  const all = graph.aggregated || (nodes === graph.circuit.nodes.length && edges === graph.circuit.edges.length);
  view.counts.textContent = all ? "" : `${nodes} nodes, ${edges} edges shown`;
}

/** Map of the prompt's answers to their shares, of what the circuit makes of it. */
function sharesOf(circuit, live) {
  const logits = live.prompt && answerLogits(circuit, live);
  if (!logits) return new Map();
  const { raw } = answerShares(circuit, logits);
  return new Map([[live.prompt.answers[0], raw], [live.prompt.answers[1], 1 - raw]]);
}

/** Fills the pane; while a slider in it moves, or a note is typed, that control stays where it is. */
function showPane(now, before, vertex, live) {
  const { pane, circuit } = view, same = before && before.node === now.node && before.to === now.to && view.paneOf === circuit;
  const focus = same && pane.contains(document.activeElement) ? document.activeElement : null;
  const top = same ? pane.scrollTop : 0;
  if (focus?.classList.contains("hold")) return void (pane.querySelector(".live-value").textContent = formatNumber(live.run.values[live.at][vertex.place]));
  const opened = same ? [...pane.querySelectorAll("details")].map((d) => d.open) : [];
  replaceContent(pane, paneContent({
    graph: view.graph, state, vertex, bench: view.bench, live, note: view.notes[circuit.key]?.[vertex?.id],
    changeNote: (note) => changeNote(vertex, note), settleHold,
  }));
  if (same) pane.querySelectorAll("details").forEach((d, i) => (d.open = opened[i] ?? d.open));
  pane.classList.toggle("open", Boolean(vertex));
  pane.scrollTop = top;
  view.paneOf = circuit;
}

/** The slider of a held node rests: now all of the pane, its links too, is of the value that it was left at. */
function settleHold() {
  const { now } = state, vertex = chosenVertex(now);
  document.activeElement.blur();
  showPane(now, now, vertex, liveRun(now, vertex));
  view.pane.querySelector(".hold")?.focus({ preventScroll: true });
}

function changeNote(vertex, note) {
  const notes = (view.notes[view.circuit.key] ??= {});
  if (note.trim()) notes[vertex.id] = note;
  else delete notes[vertex.id];
  Object.assign(view, { entries: null, unsaved: true });
  showNotes(view.graph, notes);
}

function showComparison(circuit, other) {
  const { element, fit, camera } = compareView(circuit, other, state, tip);
  Object.assign(view, { circuit: null, camera, entries: null });
  replaceContent(document.getElementById("circuit"), element);
  fit();
}

/** Returns how many of the notes are of nodes here, in words. */
function loadNotes(notes) {
  Object.assign(view, { notes: mergeNotes(view.notes, notes), entries: null });
  render(state.now, state.now);
  const known = page.circuits.flatMap((c) => c.nodes.filter((_, place) => notes[c.key]?.[nodeId(c, place)])).length;
  return known ? `${known} ${known === 1 ? "note" : "notes"} loaded` : "no note is of a node here";
}

addEventListener("beforeunload", (event) => { if (view.unsaved) event.preventDefault(); }); // the browser asks before it leaves

function searchable() {
  const circuit = chosenCircuit(state.now.task);
  if (!circuit) return [];
  return (view.entries ??= searchEntries(circuit, view.notes[circuit.key]));
}

function showHead() {
  const search = searchBox(searchable, (id) => {
    state.go({ node: id, to: "", with: "" });
    view.graph.vertices.get(id)?.element?.focus();
  });
  const home = page.home ? h("a", { class: "home", href: page.home }, "all circuits") : null;
  replaceContent(document.getElementById("tools"), home, search,
    notesButtons(() => view.notes, () => { view.unsaved = false; }, loadNotes), themeButton(state));
  showRun();
}

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select");
  if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key !== "Escape")) return;
  const act = {
    "/": () => document.getElementById("search").focus(), "+": () => view.camera?.zoom(ZOOM.step), "-": () => view.camera?.zoom(1 / ZOOM.step),
    0: () => view.camera && fitView(), Escape: () => (typing ? typing.blur() : state.go({ node: "", to: "" })),
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

showHead();
render(state.now);
