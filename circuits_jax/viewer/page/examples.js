// A node on corpus text: its histogram, and contexts at fixed quantiles of its values.

const HISTOGRAM = { width: 360, height: 64, foot: 15 };

function histogramChart({ histogram, min, max, active, mean }) {
  const most = Math.max(...histogram);
  if (!most) return null;
  const step = HISTOGRAM.width / histogram.length, high = HISTOGRAM.height - HISTOGRAM.foot;
  const x = (value) => round(((value - min) / (max - min)) * HISTOGRAM.width);
  // Heights are logarithmic: the tail is what a node is about.
  const bars = histogram.map((count, i) => {
    const height = count ? 2 + (Math.log1p(count) / Math.log1p(most)) * (high - 4) : 0;
    const from = min + ((max - min) * i) / histogram.length, to = min + ((max - min) * (i + 1)) / histogram.length;
    return s("rect", { class: from + to < 0 ? "bin negative" : "bin positive", x: round(i * step), y: round(high - height), width: round(step - 1), height: round(height) },
      s("title", {}, `${formatNumber(from)} to ${formatNumber(to)}: ${formatNumber(count)} tokens`));
  });
  const tick = (value, anchor) => s("text", { x: x(value), y: HISTOGRAM.height - 3, "text-anchor": anchor }, formatNumber(value));
  return s("svg", {
    class: "histogram", viewBox: `0 0 ${HISTOGRAM.width} ${HISTOGRAM.height}`, role: "img",
    "aria-label": `Histogram of values from ${formatNumber(min)} to ${formatNumber(max)}, mean ${formatNumber(mean)}; zero on ${formatPercent(1 - active)} of tokens`,
  }, bars, s("line", { class: "base", x1: 0, x2: HISTOGRAM.width, y1: high, y2: high }),
  min < 0 && max > 0 ? s("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: high }) : null,
  tick(min, "start"), min < 0 && max > 0 && x(0) > 60 && x(0) < 300 ? tick(0, "middle") : null, tick(max, "end"));
}

/** Contexts from the top and from the bottom of the node's values. */
function examplesSection(circuit, vertex) {
  const { examples, min, max, scale } = circuit.evidence.nodes[vertex.place];
  const silent = !examples.most.length && !examples.least.length;
  const side = (title, groups) => (groups.length ? h("details", { open: groups === examples.most || !examples.most.length || null }, h("summary", {}, title),
    groups.map(([quantile, contexts]) => [
      h("h5", {}, quantile === 0 ? "the extreme" : `at ${Number((quantile * 100).toPrecision(3))}% of tokens`),
      contexts.map((packed) => contextLine(circuit, vertex, packed, scale)),
    ])) : null);
  return h("section", {}, h("h4", {}, "On corpus text"),
    silent ? h("p", { class: "quiet" }, min === 0 && max === 0 ? "Never active on the tokens read." : "The same value on every token read.") : null,
    side("Fires most", examples.most), side("Fires least (most negative)", examples.least));
}

function contextLine(circuit, vertex, packed, scale) {
  const { tokens, values, peak, value } = readContext(circuit, vertex.place, packed);
  return h("div", { class: "context" }, h("span", { class: "side" }, formatNumber(value)),
    h("div", { class: "text" }, tokens.map((token, t) =>
      tokenSpan(pieceOf(circuit, token), values[t], scale, t === peak ? " peak" : ""))));
}
