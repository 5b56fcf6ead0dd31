// Which edges a rule on tokens tells: the best readings first.

const READINGS_SHOWN = 12, READING_TOKENS = 8;

function readingsSection(circuit) {
  const { readings } = circuit;
  if (!readings) return null; // not read, or before there were readings
  const { summary: { edges, judged, passed, weak }, settings, rows } = readings;
  const rest = rows.slice(READINGS_SHOWN);
  return h("section", { class: "readings", "aria-label": "Readings of edges" },
    h("h2", {}, "Readings of edges", h("span", { class: "count" }, judged ? `${passed} of ${judged} pass` : "")),
    h("p", { class: "quiet" }, `An edge is read where a set of tokens tells when it acts. Acting at those alone it keeps its recovery, acting elsewhere alone its inverse, as shares of its effect on the loss of ${formatNumber(settings.pairs)} test pairs. It passes if recovery and 1 ${MINUS} inverse are at least ${formatNumber(settings.recovery)}, the tokens are at most ${formatPercent(settings.coverage)} of all, and no one of ${settings.draws} different random sets of as many tokens does as well.`),
    h("p", { class: "quiet" }, `Of ${formatNumber(edges)} edges ${formatNumber(weak)} have an effect under ${formatNumber(settings.effect)} nats and are not judged.`),
    rows.length ? readingsTable(circuit, rows.slice(0, READINGS_SHOWN)) : null,
    rest.length ? h("details", {}, h("summary", {}, `${rest.length} more`), readingsTable(circuit, rest)) : null);
}

function readingsTable(circuit, rows) {
  return makeTable(["", "edge", "acts on", "coverage", "recovery", "inverse", "effect", "best random"], rows.map((row) => [
    h("span", { class: row.passes ? "passed" : "failed" }, row.passes ? "\u2713 passes" : "\u2717 fails"),
    readingEdge(circuit, row), readingTokens(row), shareCell(row.coverage), shareCell(row.recovery), shareCell(row.inverse), row.effect,
    randomCell(row),
  ]));
}

/** The best score of random sets, or why there is none. */
function randomCell({ random, random_sets: sets }) {
  if (random !== null) return shareCell(random);
  if (sets === null) return h("span", { class: "quiet", title: "Not drawn: it fails without them" }, "\u2013");
  return h("span", { class: "quiet", title: "It fails: there are too few other sets of as many tokens to beat" }, `too few: ${sets}`);
}

/** A share of an effect, which may be below 0 or above 1. */
const shareCell = (value) => h("span", { class: "share" }, `${value < -0.0005 ? MINUS : ""}${Math.round(Math.abs(100 * value))}%`);

/** The edge, with a link that selects its target and lists the paths from its source. */
function readingEdge(circuit, { source, target }) {
  return h("a", { class: "mono", href: state.href({ task: circuit.key, node: source, to: target, with: "" }) }, `${source} \u2192 ${target}`);
}

function readingTokens({ tokens, count, rule }) {
  const shown = tokens.slice(0, READING_TOKENS), more = count - shown.length;
  const title = tokens.map(tokenAlone).join("  ") + (count > tokens.length ? "  \u2026" : "");
  return h("span", { class: "reading-tokens", title }, shown.map((token) => [h("code", {}, tokenAlone(token)), " "]),
    more > 0 ? h("span", { class: "quiet" }, `and ${formatNumber(more)} more `) : null, count ? null : h("span", { class: "quiet" }, "no token "),
    rule === "given" ? h("span", { class: "badge", title: "A reading of the user\u2019s own" }, "given") : null);
}
