// Tables: a circuit's figures beside the full model's, and the run's results.

const METRIC_ORDER = [
  "heldout/loss", "heldout/calibrated_loss", "heldout/accuracy", "heldout/calibrated_accuracy",
  "train/loss", "train/calibrated_loss", "train/accuracy", "train/calibrated_accuracy",
];
const METRIC_GROUPS = { heldout: "held-out pairs", train: "training pairs" };
const FULL = "full/";

/** A scrollable table: `head` and `rows` are arrays of cells (text, numbers or elements). */
function makeTable(head, rows, groups = null) {
  const empty = (content) => content === null || content === undefined;
  const numeric = head.map((_, i) => rows.every((row) => empty(row[i]) || typeof row[i] === "number"));
  const cell = (tag) => (content, i) => h(tag,
    { class: numeric[i] ? "number" : null, scope: tag === "th" ? "col" : null },
    content instanceof Node ? content : formatCell(content));
  return h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Table" }, h("table", {},
    h("thead", {}, groups, h("tr", {}, head.map(cell("th")))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell("td")))))));
}

/** Circuit against full model: one row each, one column per figure, grouped by the pairs it was measured on. */
function metricsTable(circuit) {
  const names = [...new Set(Object.keys(circuit.metrics).map((name) => name.replace(FULL, "")))];
  const place = (name) => (METRIC_ORDER.includes(name) ? METRIC_ORDER.indexOf(name) : METRIC_ORDER.length);
  const named = names.filter((name) => !["nodes", "edges"].includes(name));
  named.sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
  const groups = groupBy(named, (name) => METRIC_GROUPS[name.split("/")[0]] ?? "");
  const columns = [...groups.values()].flat();
  const short = (name) => spaced(name.slice(name.indexOf("/") + 1));
  const figures = (prefix) => columns.map((name) => circuit.metrics[prefix + name]);
  const groupRow = h("tr", { class: "groups" }, h("td", { colspan: 3 }),
    [...groups].map(([group, members]) => h("th", { colspan: members.length, scope: "colgroup" }, group)));
  return makeTable(["", "nodes", "edges", ...columns.map(short)], [
    ["circuit", circuit.nodes.length, circuit.edges.length, ...figures("")],
    ["full model", null, null, ...figures(FULL)],
  ], groupRow);
}

/** One row a task; a row whose `task` has a circuit links to it. */
function resultsTable(rows, circuits, href) {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const linked = (row, column) => {
    const circuit = column === "task" && circuits.find((c) => c.task === row.task);
    return circuit ? h("a", { href: href(circuit) }, circuit.task) : row[column];
  };
  return makeTable(columns.map(spaced), rows.map((row) => columns.map((column) => linked(row, column))));
}

function summaryFigures(summary) {
  return Object.entries(summary).map(([name, value]) =>
    h("div", {}, h("dt", {}, spaced(name)), h("dd", {}, formatCell(value))));
}
