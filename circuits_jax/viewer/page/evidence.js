// What speaks for the circuit: the audit's verdict and criteria, controls, figures, and where it came from.

/** A band above everything else where the circuit is not shown to be what the model uses; else a quiet line. */
function verdictBand(circuit) {
  const { audit } = circuit;
  if (!audit) {
    if (circuit.ofTwoSplits) {
      return h("p", { class: "band warning", role: "note" }, h("strong", {}, "Needs a new audit. "),
        "It was cut when its test pairs were chosen by, too: their figures are too good.");
    }
    return h("p", { class: "band warning", role: "note" }, h("strong", {}, "Not audited when this page was drawn. "),
      unauditedWords(circuit));
  }
  const { verdict, failed, close } = audit.verdict;
  const beside = (close.length ? ` Close, an interval crosses its bound: ${close.join(", ")}.` : "") + missedWords(circuit);
  if (verdict === "faithful") return h("p", { class: "band good" }, h("strong", {}, "Faithful"), " by all criteria of the audit." + beside);
  return h("p", { class: "band warning", role: "note" }, h("strong", {}, verdict[0].toUpperCase() + verdict.slice(1) + ". "),
    (failed.length ? `Failed: ${failed.join("; ")}.` : "") + beside);
}

/** The loss that decided in pruning whether a circuit meets its target. */
const decidingLoss = ({ metrics }) => formatNumber(metrics["select/calibrated_loss"] ?? metrics["test/calibrated_loss"]);

/** The audit judges by other pairs than pruning chose by; on those a circuit may miss its target. */
function missedWords(circuit) {
  return circuit.provenance.met_target === false ? ` On the pairs that pruning chose by it misses the target, with ${decidingLoss(circuit)}.` : "";
}

/** What pruning found is said as it was found; of a circuit from elsewhere it is not known. */
function unauditedWords(circuit) {
  const { metrics, provenance: { met_target: met, mediocre_model: mediocre, given_up: givenUp, prune } } = circuit;
  if (met === false) {
    return "These nodes do not solve the task: no circuit was found that meets the target, a loss of " +
      `${formatNumber(prune?.target)}; that of this one is ${decidingLoss(circuit)}.` +
      (givenUp ? " Its search was given up there: the masks had learnt the training pairs and nothing that carries over." : "");
  }
  return (met ? "That these nodes solve the task" : "Even if these nodes solve the task, that") + " does not show that the model uses them." +
    (mediocre ? ` The model itself misses the target, by a loss of ${formatNumber(metrics["full/select/calibrated_loss"] ?? metrics["full/test/calibrated_loss"])}: masks can repair such a model.` : "");
}

function evidenceSection(circuit) {
  const { history } = circuit.provenance; // of files of before it was recorded there is none
  return h("section", { class: "evidence", "aria-label": "Evidence" },
    h("h2", {}, "Evidence"),
    h("div", { class: "evidence-grid" },
      h("div", {}, h("h4", {}, "Figures"), metricsTable(circuit), h("p", { class: "quiet" }, calibrationNote(circuit))),
      circuit.audit?.verdict.criteria?.length ? h("div", {}, h("h4", {}, "Audit"), criteriaTable(circuit.audit),
        page.auditPage ? h("p", {}, h("a", { href: page.auditPage }, "the whole report")) : null) : null,
      circuit.audit?.controls ? h("div", {}, h("h4", {}, "Controls"), controlsTable(circuit)) : null,
      history?.length > 1 ? h("div", {}, h("h4", {}, "Pruning curve"), pruningChart(history),
        h("p", { class: "quiet" }, "While the masks were learnt, before nodes and edges that are not needed were dropped. Losses are of single batches, not calibrated.")) : null,
      circuit.curve.length ? h("div", {}, h("h4", {}, "Loss against nodes kept"), curveChart(circuit)) : null,
      h("div", {}, h("h4", {}, "The task\u2019s examples"), examplePrompts(circuit))),
    provenance(circuit));
}

function calibrationNote({ calibration, ablation }) {
  const [scale, shift] = calibration.map((value) => formatNumber(value));
  const held = {
    mean: "their corpus mean", zero: "zero",
    resample: "their values on a prompt of another pair; where a prompt runs by itself, as in this page, at their corpus mean",
    counterfactual: "their values on the pair\u2019s other prompt; where a prompt runs by itself, as in this page, at their corpus mean",
  }[ablation] ?? ablation;
  return `Calibration: the answers\u2019 logit difference \u00d7 ${scale}, shifted by ${shift}. ` +
    `Nodes outside the circuit are held at ${held}.`;
}

function criteriaTable({ verdict }) {
  const rows = verdict.criteria.map(({ name, figure, bound, at_most: atMost, passed, clear }) => [
    h("span", { class: passed === null ? "" : passed ? "passed" : "failed" }, passed === null ? "\u2013 " : passed ? "\u2713 " : "\u2717 ", name),
    figure ? h("span", { title: "Value and its interval" }, formatNumber(figure.value),
      figure.low === figure.high ? null : h("span", { class: "quiet" }, ` (${formatNumber(figure.low)} to ${formatNumber(figure.high)})`)) : "not measured",
    figure ? `${atMost ? "\u2264" : "\u2265"} ${formatNumber(bound)}` : "\u2013",
    figure ? intervalPlot(figure, bound) : "", clear === false ? h("span", { class: "quiet", title: "The interval crosses the bound" }, "close") : "",
  ]);
  return makeTable(["criterion", "value", "bound", "", ""], rows);
}

/** A value with its interval, and its bound, on one small axis. */
function intervalPlot({ value, low, high }, bound) {
  const most = Math.max(high, bound, value) * 1.1 || 1, x = (v) => round(4 + (v / most) * 112);
  return s("svg", { class: "interval", viewBox: "0 0 120 16", width: 120, height: 16, "aria-hidden": "true" },
    s("line", { class: "base", x1: 4, x2: 116, y1: 8, y2: 8 }),
    s("line", { class: "bound", x1: x(bound), x2: x(bound), y1: 1, y2: 15 }),
    s("line", { class: "range", x1: x(low), x2: x(high), y1: 8, y2: 8 }), s("circle", { cx: x(value), cy: 8, r: 3 }));
}

function controlsTable(circuit) {
  const own = ["this circuit", circuit.edges.length, circuit.metrics["test/calibrated_loss"] ?? null, null, circuit.provenance.met_target === false ? "misses the target" : ""];
  return makeTable(["", "edges", "loss", "overlap", ""], [own, ...circuit.audit.controls.rows.map(controlRow)]);
}

/** One draw of a control; what the search did not find counts as all edges, what was moved here should miss. */
function controlRow({ kind, draw, edges, loss, jaccard, outcome, pairs, of }) {
  const detail = kind === "memorised" ? `, ${pairs} pairs` : kind === "moved" ? `: ${of ?? "a random circuit"}` : "";
  const said = kind === "moved" ? (outcome === "met" ? "meets the target" : "misses the target")
    : { met: "", missed: "misses the target, so all edges", "thrown away": "thrown away: the circuit itself meets it" }[outcome];
  return [`${kind}${detail}, draw ${draw + 1}`, edges, loss, jaccard ?? null, said];
}

function curveChart({ curve, metrics }) {
  const target = metrics["full/test/calibrated_loss"];
  return lineChart({
    name: "Loss against nodes kept", x: "nodes kept, the most important first", y: "task loss (nats)", logX: true,
    lines: [
      { name: "calibrated", kind: "validation", points: curve.map(([nodes, , calibrated]) => [nodes, calibrated]), dots: true },
      { name: "not calibrated", kind: "loss", points: curve.map(([nodes, loss]) => [nodes, loss]) },
    ],
    marks: [["chance", Math.LN2], ...(target === undefined ? [] : [["full model", target]])],
  });
}

function examplePrompts(circuit) {
  const { prompts } = circuit.evidence;
  return [circuit.description ? h("p", {}, circuit.description) : null,
    prompts.slice(0, 3).map((prompt) => promptPair(circuit, prompt, null, 1))];
}

/** Everything that says where the circuit came from, flattened to rows. */
function provenance(circuit) {
  const rows = [], { history, ...recorded } = circuit.provenance; // its history is drawn
  const flatten = (name, value) => {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) {
      for (const [key, inner] of Object.entries(value)) flatten(name ? `${name} ${key}` : key, inner);
    } else rows.push([spaced(name), Array.isArray(value) ? value.join(", ") : value]);
  };
  const found = Object.entries(circuit.metrics).filter(([name]) => !isJudgement(name.replace(FULL, "")) && !["nodes", "edges"].includes(name));
  flatten("", {
    ...recorded, ...Object.fromEntries(found), "model hash": circuit.hashes.model, "tokenizer hash": circuit.hashes.tokenizer,
  });
  const cells = rows.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, formatCell(value))));
  return h("details", { class: "provenance" }, h("summary", {}, "Provenance"), h("table", {}, h("tbody", {}, cells)));
}
