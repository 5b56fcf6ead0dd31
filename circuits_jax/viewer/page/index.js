// The index of a run: one row a circuit, with a thumbnail; click a heading to sort, type to filter.

const THUMBNAIL = { width: 186, height: 124 };
const state = makeState(render);

function thumbnail(circuit) {
  const graph = buildGraph(circuit, openSites(circuit, "")), { width, height } = layOut(graph);
  const box = { viewBox: `0 0 ${Math.max(1, width)} ${Math.max(1, height)}`, width: THUMBNAIL.width, height: THUMBNAIL.height };
  const dots = [...graph.vertices.values()].filter((v) => v.kind !== "hub" && v.kind !== "final");
  const unit = Math.max(width / THUMBNAIL.width, height / THUMBNAIL.height), strongest = strongestOf(graph); // a pixel
  const wide = ({ kind, mass, weight }) => unit * (kind === "rail" || kind === "bundle" ? 0.5 : 0.4 + 1.4 * ((mass ?? Math.abs(weight)) / (strongest[kind] || 1)));
  return s("svg", { class: "thumbnail", ...box, role: "img", "aria-label": `${circuit.nodes.length} nodes, ${circuit.edges.length} edges` },
    graph.links.filter((l) => isWeighted(l) || l.kind === "rail" || l.kind === "bundle").map((l) =>
      s("path", { class: "link " + (!isWeighted(l) ? "rail" : l.weight === null ? "unknown" : l.weight < 0 ? "negative" : "positive"), d: curve(l.source, l.target), "stroke-width": wide(l).toFixed(2) })),
    dots.map((v) => s("circle", { class: "dot " + v.kind, cx: v.x, cy: v.y, r: (unit * (v.kind === "group" ? 3 : v.kind === "words" ? 0.7 : 1.7)).toFixed(2) })));
}

const MISSED = "misses the target: no circuit that meets it was found";
const COLUMNS = [
  ["task", (row) => row.task], ["loss", (row) => row.loss], ["full model\u2019s", (row) => row.full], ["accuracy", (row) => row.accuracy],
  ["nodes", (row) => row.nodes], ["edges", (row) => row.edges], ["verdict", (row) => row.verdict],
];

/** {column, down} out of the state; by task where that names no column. */
function orderOf({ sort }) {
  const column = sort.replace(/^-/, "");
  return COLUMNS.some(([name]) => name === column) ? { column, down: sort !== column } : { column: "task", down: false };
}

function compareRows(a, b, order) {
  if ((a.circuit === null) !== (b.circuit === null)) return a.circuit === null ? 1 : -1; // refused tasks come last
  const value = COLUMNS.find(([name]) => name === order.column)[1];
  const [x, y] = [value(a), value(b)];
  if (x === null || y === null) return (x === null) - (y === null); // what is not known comes last
  return (x < y ? -1 : x > y ? 1 : 0) * (order.down ? -1 : 1);
}

function verdictBadge({ verdict }) {
  return h("span", { class: "verdict " + (verdict.startsWith("faithful") ? "good" : "doubtful") }, verdict);
}

/** What removed nodes are held at: sizes under different ablations are not sizes of the same thing. */
function ablationNote() {
  const of = (kind) => page.rows.filter((row) => row.circuit !== null && page.circuits[row.circuit].ablation === kind).map((row) => row.task);
  const kinds = [...new Set(page.circuits.map((circuit) => circuit.ablation))];
  if (!kinds.length) return "";
  return ` Sizes are under ${kinds.map((kind) => `${kind} ablation` + (kinds.length > 1 ? ` (${of(kind).join(", ")})` : "")).join("; ")}.`;
}

function showTable(now) {
  const order = orderOf(now), wanted = now.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = page.rows.filter((row) => wanted.every((word) => `${row.task} ${row.note} ${row.missed ? MISSED : ""} ${row.verdict}`.toLowerCase().includes(word))).sort((a, b) => compareRows(a, b, order));
  const sorted = (name) => (order.column === name ? (order.down ? "descending" : "ascending") : "none");
  const words = ["task", "verdict"];
  const head = h("tr", {}, h("td", {}), COLUMNS.map(([name]) => h("th", { scope: "col", "aria-sort": sorted(name), class: words.includes(name) ? null : "number" },
    h("button", { type: "button", onclick: () => sortBy(name, order) },
      name, order.column === name ? (order.down ? " \u2193" : " \u2191") : ""))));
  const cell = (row, [name, value]) => {
    if (name === "task") return h("td", {}, row.href ? h("a", { href: row.href }, row.task) : row.task, row.note ? h("div", { class: "quiet reason" }, row.note) : null,
      row.missed ? h("div", { class: "reason missed" }, MISSED) : null);
    if (name === "verdict") return h("td", {}, row.verdict ? verdictBadge(row) : "");
    return value(row) === null ? h("td", { class: "number" }) : h("td", { class: "number", "data-name": name }, formatCell(value(row)));
  };
  replaceContent(document.getElementById("index"), h("table", { class: "index" }, h("thead", {}, head), h("tbody", {}, rows.map((row) =>
    h("tr", {}, h("td", {}, row.circuit === null ? null : h("a", { href: row.href, tabindex: -1, "aria-hidden": "true" }, row.picture ??= thumbnail(page.circuits[row.circuit]))), COLUMNS.map((column) => cell(row, column)))))),
  h("p", { class: "quiet" }, rows.length ? "Losses (nats) and accuracies are of test pairs, calibrated." + ablationNote() : "No circuit matches."));
}

/** By another column, or the other way round; the heading keeps the focus. */
function sortBy(name, order) {
  state.go({ sort: (order.column === name && !order.down ? "-" : "") + name }, { replace: true });
  document.querySelector("[aria-sort$=ing] button").focus();
}

function render(now) {
  applyTheme(now);
  if (filter.value !== now.filter) filter.value = now.filter;
  showTable(now);
}

const filter = h("input", {
  type: "search", id: "search", placeholder: "Filter  /", "aria-label": "Filter circuits",
  oninput: () => state.go({ filter: filter.value }, { replace: true }),
});
const elsewhere = [["bridges", page.bridgePage], ["audit", page.auditPage]].filter(([, href]) => href);
replaceContent(document.getElementById("tools"), ...elsewhere.map(([name, href]) => h("a", { class: "home", href }, name)), filter, themeButton(state));
replaceContent(document.getElementById("circuit"), h("div", { id: "index", class: "table-scroll" }));
showRun();
render(state.now);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest?.("input")) return;
  event.preventDefault();
  filter.focus();
});
