// A head's attention pattern over the bench's prompt, as the circuit runs here, and what each channel adds to it.

const PATTERN = { cell: 11, most: 48, names: 70, top: 13 };

/** For a hub or a q, k or v node: pattern, what the chosen position looks at, shares by channel; else null. */
function attentionSection(bench, vertex, live) {
  const head = vertex.kind === "hub" || vertex.kind === "node" ? vertex.head : null;
  if (head === null || head === undefined) return null;
  const title = h("h4", {}, `Attention of head ${head} on the bench\u2019s prompt`);
  if (!live.run) return h("section", {}, title, h("p", { class: "quiet" }, "Shown where the circuit runs in the page."));
  const pattern = live.run.attention[vertex.layer][head];
  return h("section", {}, title, patternGrid(bench.circuit, live, pattern), lookedAt(bench.circuit, live, pattern[live.at]),
    channelShares(bench, vertex, live, head));
}

/** Queries by row, each named, keys by column, the sink at the left. */
function patternGrid(circuit, { prompt, at }, pattern) {
  const first = Math.max(0, prompt.tokens.length - PATTERN.most), size = prompt.tokens.length - first;
  const { cell, names, top } = PATTERN, side = (size + 1.5) * cell;
  const text = (t) => tokenAlone(pieceOf(circuit, prompt.tokens[t]));
  const cells = [], queries = [];
  for (let query = first; query < prompt.tokens.length; query++) {
    const weights = [...pattern[query].slice(first, query + 1)];
    const put = (column, weight, name) => {
      if (weight < 0.005) return;
      cells.push(s("rect", { class: "cell", x: round(column * cell), y: (query - first) * cell, width: cell - 1, height: cell - 1, opacity: Math.min(1, 0.08 + weight).toFixed(2) },
        s("title", {}, `${text(query)} looks at ${name}: ${formatPercent(weight)}`)));
    };
    put(0, pattern[query][query + 1], "the sink");
    weights.forEach((weight, i) => put(i + 1.5, weight, text(first + i)));
    queries.push(s("text", { x: -5, y: (query - first + 0.5) * cell, dy: "0.32em", "text-anchor": "end", class: query === at ? "chosen-query" : null }, clip(text(query), 10)));
  }
  return h("div", { class: "pattern-scroll" }, s("svg", { class: "pattern", viewBox: `${-names} ${-top} ${side + names} ${size * cell + top}`, width: side + names, height: size * cell + top, role: "img", "aria-label": "Attention pattern: queries by row, keys by column, the sink first" },
    s("rect", { class: "ground", x: 1.5 * cell, y: 0, width: size * cell, height: size * cell }),
    s("rect", { class: "chosen-row", x: 0, y: (at - first) * cell - 0.5, width: side, height: cell }), cells, queries,
    s("text", { x: 0, y: -4 }, "sink")));
}

function lookedAt(circuit, { prompt, at }, weights) {
  const tokens = prompt.tokens.slice(0, at + 1);
  return [h("h5", {}, `Token ${at + 1} looks at`, h("span", { class: "count" }, `sink ${formatPercent(weights[at + 1])}`)),
    h("div", { class: "text" }, tokens.map((token, t) => tokenSpan(pieceOf(circuit, token), weights[t], 1, t === at ? " peak" : "")))];
}

/** Each channel's share of the score's variance over the keys, at the chosen position. */
function channelShares(bench, { layer }, { run, at }, head) {
  const { head: size } = bench.network.config, { q, k } = run.scores[layer];
  const channels = Array.from({ length: size }, (_, i) => head * size + i);
  const parts = channels.map((c) => k.slice(0, at + 1).map((key) => (q[at][c] * key[c]) / Math.sqrt(size)));
  const total = parts[0].map((_, t) => parts.reduce((sum, part) => sum + part[t], 0));
  const whole = covariance(total, total);
  const kept = new Set(bench.circuit.nodes.filter(([site]) => [`${layer}.attn.q`, `${layer}.attn.k`].includes(site)).map(([, index]) => index));
  const shares = channels.map((c, i) => ({ c, share: whole > 1e-12 ? covariance(parts[i], total) / whole : 0 }))
    .filter(({ share }) => Math.abs(share) > 0.005).sort(byKeys((x) => -Math.abs(x.share)));
  if (!shares.length) return h("p", { class: "quiet" }, "The score is the same for every key here.");
  return [h("h5", {}, "Share of the score by channel"), h("ul", { class: "token-weights" }, shares.map(({ c, share }) =>
    h("li", { class: share < 0 ? "negative" : "positive" }, h("span", { class: "mono" }, `${c}${kept.has(c) ? "" : " (held)"}`), h("span", { class: "weight" }, formatPercent(Math.abs(share)).replace(/^/, share < 0 ? MINUS : "")))))];
}

function covariance(a, b) {
  const mean = (x) => x.reduce((sum, value) => sum + value, 0) / x.length;
  const [ma, mb] = [mean(a), mean(b)];
  return a.reduce((sum, value, i) => sum + (value - ma) * (b[i] - mb), 0) / a.length;
}
