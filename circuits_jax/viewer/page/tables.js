// Tables: a circuit's figures beside the full model's, and the run's results.

const METRIC_ORDER = [
  "test/loss", "test/calibrated_loss", "test/accuracy", "test/calibrated_accuracy",
  "train/loss", "train/calibrated_loss", "train/accuracy", "train/calibrated_accuracy",
];
const METRIC_GROUPS = { test: "test pairs", select: "select pairs", train: "training pairs" };
const FULL = "full/";

/** A scrollable table: `head` and `rows` are arrays of cells (text, numbers or elements). */
function makeTable(head, rows) {
  const empty = (content) => content === null || content === undefined;
  const numeric = head.map((_, i) => rows.every((row) => empty(row[i]) || typeof row[i] === "number"));
  const cell = (tag) => (content, i) => h(tag,
    { class: numeric[i] ? "number" : null, scope: tag === "th" ? "col" : null },
    content instanceof Node ? content : formatCell(content));
  return h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Table" }, h("table", {},
    h("thead", {}, h("tr", {}, head.map(cell("th")))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell("td")))))));
}

/** Circuit beside full model: one row a figure, grouped by the pairs it was measured on. */
function metricsTable(circuit) {
  const names = [...new Set(Object.keys(circuit.metrics).map((name) => name.replace(FULL, "")))].filter(isJudgement);
  const place = (name) => (METRIC_ORDER.includes(name) ? METRIC_ORDER.indexOf(name) : METRIC_ORDER.length);
  names.sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
  const words = (name) => `${METRIC_GROUPS[name.split("/")[0]]}: ${spaced(name.slice(name.indexOf("/") + 1))}`;
  return makeTable(["", "circuit", "full model"], names.map((name) => [words(name), circuit.metrics[name] ?? null, circuit.metrics[FULL + name] ?? null]));
}

/** Whether a figure judges the circuit; the others say how it was found. */
function isJudgement(name) {
  return Object.hasOwn(METRIC_GROUPS, name.split("/")[0]);
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
