// The pane beside the graph: everything known about the selected vertex, or the prompts when none is.

/** The pane's content.  `href(id)` is the address at which vertex `id` is selected. */
function paneContent(graph, id, href) {
  const vertex = graph.vertices.get(id);
  if (!vertex) return emptyPane(graph);
  const close = h("a", { class: "close", href: href(null), "aria-label": "Clear the selection" }, "\u00d7");
  if (vertex.kind !== "node") return [close, paneHead(vertex, vertex.about), endSections(graph, vertex, href)];
  return [
    close,
    paneHead(vertex, `${vertex.about}, layer ${vertex.layer}` +
      (vertex.head === null ? "" : `, head ${vertex.head}`)),
    statistics(graph, vertex),
    linkSections(graph, vertex, href),
    promptSection(graph, vertex),
    corpusSection(graph, vertex),
  ];
}

function emptyPane(graph) {
  const { prompts, pieces } = graph.circuit.evidence;
  const hint = graph.circuit.nodes.length
    ? "Select a node to see what it is joined to and what makes it fire."
    : "This circuit has no nodes: the answer does not depend on any.";
  return [
    h("p", { class: "hint" }, hint),
    prompts.length ? h("h4", {}, "The task's prompts and right answers") : null,
    prompts.map((prompt) => promptPair(prompt, pieces, null, 1)),
  ];
}

function paneHead(vertex, about) {
  return h("div", { class: "pane-head" },
    h("h3", { class: "mono" }, vertex.name),
    h("p", {}, about, vertex.biasOnly ? h("span", { class: "badge" }, "bias only") : null),
    vertex.biasOnly ? h("p", { class: "quiet" }, "Nothing in the prompt reaches this node within the circuit: it is a constant there.") : null);
}

function statistics(graph, vertex) {
  const { nodes, corpus } = graph.circuit.evidence;
  const { mean, std, min, max, active } = nodes[vertex.place];
  const figure = (name, value, title) => h("div", { title }, h("dt", {}, name), h("dd", {}, value));
  return [
    h("dl", { class: "figures small" },
      figure("mean", formatNumber(mean)),
      figure("spread", formatNumber(std), "Standard deviation"),
      figure("range", `${formatNumber(min)} to ${formatNumber(max)}`),
      figure("active", formatPercent(active), "Share of tokens where it is not zero"),
      figure("held at", formatNumber(graph.circuit.means[vertex.place]),
        `Its value where it is ablated (${graph.circuit.ablation})`)),
    h("p", { class: "quiet" }, `Full model, ${formatNumber(corpus.tokens)} tokens of corpus text.`),
  ];
}

function linkSections(graph, vertex, href) {
  return h("div", { class: "two" },
    linkList("From", vertex.ins.flatMap((link) => ends(link, "source")), href),
    linkList("To", vertex.outs.flatMap((link) => ends(link, "target")), href));
}

/** What is at the far end of a link, seen through heads' hubs and channels' ends. */
function ends(link, end) {
  const vertex = link[end];
  const beyond = end === "source" ? vertex.ins : vertex.outs;
  if (vertex.kind === "hub") return beyond.map((next) => ({ vertex: next[end], weight: null, kind: "head" }));
  if (vertex.kind === "final") {
    return beyond.map((next) => ({ vertex: next[end], weight: next.weight ?? link.weight, kind: "logit" }));
  }
  return [{ vertex, weight: link.weight, kind: link.kind }];
}

function linkList(title, items, href) {
  const ordered = [...items].sort(byKeys((item) => -Math.abs(item.weight ?? 0), (item) => item.vertex.row));
  const strongest = Math.max(...items.map((item) => Math.abs(item.weight ?? 0)), 1e-12);
  return h("section", {},
    h("h4", {}, title, h("span", { class: "count" }, String(items.length))),
    items.length ? null : h("p", { class: "quiet" }, "nothing"),
    h("ul", { class: "link-list" }, ordered.map(({ vertex, weight, kind }) => {
      const how = { rail: "rail", head: "head" }[kind];
      const share = ((Math.abs(weight ?? 0) / strongest) * 100).toFixed(0);
      return h("li", { class: weight < 0 ? "negative" : "positive" },
        h("a", { class: "mono", href: href(vertex.id) }, vertex.name),
        how ? h("span", { class: "via" }, how) : h("span", { class: "weight" }, formatSigned(weight)),
        how ? null : h("span", { class: "bar", style: `width:${share}%` }));
    })));
}

/** For words and answers: what they are made of and joined to. */
function endSections(graph, vertex, href) {
  const table = vertex.kind === "words"
    ? h("section", {}, h("h4", {}, vertex.count > vertex.tokens.length ? `Most weighty ${vertex.tokens.length}` : "Tokens"),
      h("ul", { class: "token-weights" }, vertex.tokens.map(({ text, weight }) =>
        h("li", { class: weight < 0 ? "negative" : "positive" },
          h("bdi", { class: "mono" }, tokenAlone(text)), h("span", { class: "weight" }, formatSigned(weight))))))
    : null;
  const [title, links, end] = vertex.kind === "answer" ? ["From", vertex.ins, "source"] : ["To", vertex.outs, "target"];
  return [table, linkList(title, links.flatMap((link) => ends(link, end)), href)];
}

function promptSection(graph, vertex) {
  const { prompts, pieces, nodes } = graph.circuit.evidence;
  const { prompts: values, min, max } = nodes[vertex.place];
  const scale = Math.max(Math.abs(min), Math.abs(max), ...values.flat(2).map(Math.abs), 1e-12);
  return h("section", {}, h("h4", {}, "On task prompts"),
    prompts.map((prompt, i) => promptPair(prompt, pieces, values[i], scale)));
}

/** Prompts A and B one below the other; tokens in which they differ are underlined. */
function promptPair({ tokens, answers }, pieces, values, scale) {
  return h("div", { class: "pair" }, ["A", "B"].map((name, side) =>
    h("div", { class: "prompt" }, h("span", { class: "side" }, name),
      h("div", { class: "text" },
        tokens[side].map((token, t) => tokenSpan(pieces[token], values && values[side][t], scale,
          token === tokens[1 - side][t] ? "" : " differs")),
        h("span", { class: "right-answer", title: "Right answer" }, tokenAlone(pieces[answers[side]]))))));
}

function corpusSection(graph, vertex) {
  const { nodes, pieces } = graph.circuit.evidence;
  const { contexts, min, max, prompts } = nodes[vertex.place];
  const scale = Math.max(Math.abs(min), Math.abs(max), ...prompts.flat(2).map(Math.abs), 1e-12);
  const list = (title, items) => (items.length ? [h("h5", {}, title), items.map((context) => {
    const peak = context.values[context.peak];
    return h("div", { class: "context" }, h("span", { class: "side" }, formatNumber(peak)),
      h("div", { class: "text" }, context.tokens.map((token, t) =>
        tokenSpan(pieces[token], context.values[t], scale, t === context.peak ? " peak" : ""))));
  })] : null);
  const silent = !contexts.positive.length && !contexts.negative.length;
  return h("section", {}, h("h4", {}, "On corpus text"),
    silent ? h("p", { class: "quiet" }, min === 0 && max === 0 ? "Never active on the tokens read." : "The same value on every token read.") : null,
    list("Most positive", contexts.positive), list("Most negative", contexts.negative));
}

/** One token; the stronger its value, the deeper its colour. */
function tokenSpan(text, value, scale, kind) {
  const known = value !== null && value !== undefined;
  const heat = known ? Math.abs(value) / scale : 0;
  const sign = value < 0 ? " negative" : " positive";
  return h("bdi", {
    class: "token" + (heat > 0 ? sign : "") + kind,
    style: heat > 0 ? `--heat:${Math.max(0.06, heat).toFixed(3)}` : null,
    title: known ? `${tokenAlone(text)}  ${formatNumber(value, 4)}` : null,
  }, tokenInText(text));
}
