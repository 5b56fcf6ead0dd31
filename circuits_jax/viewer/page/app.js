// The page itself.  What is shown is in the address: #task=<circuit>&node=<vertex>.

const page = JSON.parse(document.getElementById("data").textContent);
const view = { circuit: null, graph: null, svg: null, scroller: null };

function addressOf(circuit, id) {
  const parts = new URLSearchParams({ task: circuit.key });
  if (id !== null) parts.set("node", id);
  return "#" + parts;
}

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const circuit = page.circuits.find((c) => c.key === parts.get("task")) || page.circuits[0];
  return { circuit, id: parts.get("node") };
}

function showTabs(chosen) {
  replaceContent(document.getElementById("tabs"), page.circuits.map((circuit) =>
    h("a", { href: addressOf(circuit, null), "aria-current": circuit === chosen ? "page" : null },
      circuit.key, h("span", { class: "count" }, String(circuit.nodes.length)))));
}

function showCircuit(circuit) {
  const graph = buildGraph(circuit);
  const layout = layOut(graph);
  const svg = drawGraph(graph, layout);
  const scroller = h("div", { class: "graph-scroll" }, svg);
  svg.style.setProperty("--natural", layout.width + "px");
  const labels = svg.querySelector(".row-labels");
  scroller.addEventListener("scroll", () => {
    const scale = svg.getBoundingClientRect().width / layout.width;
    labels.setAttribute("transform", `translate(${round(scroller.scrollLeft / scale)} 0)`);
  });
  const tip = document.getElementById("tip");
  listen(graph, svg, tip, (id) => { location.hash = addressOf(circuit, id); });
  replaceContent(document.getElementById("circuit"),
    h("div", { class: "circuit-head" }, h("h2", {}, circuit.task), circuit.description ? h("p", {}, circuit.description) : null),
    metricsTable(circuit),
    h("p", { class: "quiet" }, calibrationNote(circuit)),
    h("div", { class: "work" },
      h("div", { class: "graph-card" }, legend(graph, scroller), scroller),
      h("aside", { id: "pane", class: "pane", "aria-label": "Selected node", "aria-live": "polite" })));
  Object.assign(view, { circuit, graph, svg, scroller });
}

function calibrationNote({ calibration, ablation }) {
  const [scale, shift] = calibration.map((value) => formatNumber(value));
  const held = { mean: "their corpus mean", zero: "zero" }[ablation] ?? ablation;
  return `Calibration: the answers\u2019 logit difference \u00d7 ${scale}, shifted by ${shift}. ` +
    `Nodes outside the circuit are held at ${held}.`;
}

/** Shows a graph wider than its card either at a readable size, to be scrolled, or whole. */
function fitButton(scroller) {
  const button = h("button", { type: "button", "aria-pressed": "false", hidden: true, onclick: () => {
    const fitted = scroller.classList.toggle("fitted");
    button.setAttribute("aria-pressed", String(fitted));
  } }, "fit to width");
  new ResizeObserver(() => {
    button.hidden = !scroller.classList.contains("fitted") && scroller.scrollWidth <= scroller.clientWidth;
  }).observe(scroller);
  return button;
}

function legend(graph, scroller) {
  const sample = (kind) => s("svg", { viewBox: "0 0 26 10", width: 26, height: 10, "aria-hidden": "true" },
    s("line", { class: kind, x1: 1, x2: 25, y1: 5, y2: 5, "stroke-width": 2.5 }));
  const mark = (kind) => s("svg", { viewBox: "0 0 14 14", width: 14, height: 14, "aria-hidden": "true" },
    s("g", { class: "vertex node " + kind }, s("circle", { class: "mark", cx: 7, cy: 7, r: NODE_RADIUS })));
  return h("p", { class: "legend" },
    h("span", {}, sample("link positive"), "positive"), h("span", {}, sample("link negative"), "negative"),
    h("span", {}, sample("rail"), "residual channel"), h("span", {}, mark("bias-only"), "bias only"),
    graph.hiddenAnswers ? h("span", {}, `${graph.hiddenAnswers} more answer tokens not drawn`) : null,
    fitButton(scroller));
}

function showRun() {
  const training = Object.values(page.training).some((points) => points.length)
    ? h("div", {}, h("h2", {}, "Training"), trainingChart(page.training)) : null;
  const results = page.results.length
    ? h("div", {}, h("h2", {}, "Results"), resultsTable(page.results, page.circuits, (c) => addressOf(c, null))) : null;
  replaceContent(document.getElementById("run"), results, training);
  replaceContent(document.getElementById("summary"), summaryFigures(page.summary));
}

function update() {
  const { circuit, id } = readAddress();
  if (!circuit) {
    replaceContent(document.getElementById("circuit"), h("p", { class: "note" }, "No circuit was found in this run."));
    return;
  }
  const tip = document.getElementById("tip");
  showTip(tip, null);
  if (circuit !== view.circuit) {
    showTabs(circuit);
    showCircuit(circuit);
  }
  const known = view.graph.vertices.get(id)?.selectable ? id : null;
  showSelection(view.graph, view.svg, known);
  const pane = document.getElementById("pane");
  replaceContent(pane, paneContent(view.graph, known, (other) => addressOf(circuit, other)));
  pane.classList.toggle("open", known !== null);
  pane.scrollTop = 0;
  if (known !== null) reveal(view.graph.vertices.get(known), view.scroller, pane);
}

showRun();
update();
addEventListener("hashchange", update);
