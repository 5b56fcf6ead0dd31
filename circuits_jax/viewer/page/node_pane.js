// The pane beside the graph: everything known about the selected vertex, or about the task when none is.

/** The pane's content for the selected vertex. */
function paneContent(context) {
  const { graph, state, vertex, bench, live } = context;
  if (!vertex) return emptyPane(graph, state);
  const href = (id) => state.href({ node: id ?? "", to: "" });
  const close = h("a", { class: "close", href: href(null), "aria-label": "Clear the selection" }, "\u00d7");
  const end = graph.vertices.get(state.now.to);
  const paths = end ? pathsSection(graph, vertex, end, state) : null;
  if (vertex.kind === "group") return [close, paneHead(vertex, vertex.about), paths, groupSection(graph, vertex, state)];
  if (vertex.kind === "hub") return [close, paneHead(vertex, vertex.about), paths, attentionSection(bench, vertex, live), headMembers(graph, vertex, href)];
  if (vertex.kind !== "node") return [close, paneHead(vertex, vertex.about), paths, endSections(graph, vertex, href)];
  return [
    close, paneHead(vertex, aliasesOf(graph.circuit, vertex)[1]), paths,
    descriptionSection(graph.circuit, vertex), noteEditor(vertex, context.note, context.changeNote),
    statistics(graph, vertex), holdSection(graph.circuit, vertex, live, context),
    linkSections(graph, vertex, href), pairsSection(bench, vertex, state),
    attentionSection(bench, vertex, live), examplesSection(graph.circuit, vertex),
  ];
}

const IMPORTANT_LISTED = 10;

/** What to do, and where to begin: the most important nodes with what they fire on, else the task's prompts. */
function emptyPane(graph, state) {
  const { circuit } = graph, { prompts } = circuit.evidence;
  const hint = graph.circuit.nodes.length
    ? "Select a node to see what it is joined to and what makes it fire. Shift-click a second one to list the paths between them. Drag to move the drawing; Ctrl + wheel or pinch to zoom."
    : "This circuit has no nodes: the answer does not depend on any.";
  return [
    h("p", { class: "hint" }, hint),
    circuit.nodeDeltas?.length ? importantNodes(graph, state) : [
      prompts.length ? h("h4", {}, "The task\u2019s prompts and right answers") : null,
      prompts.slice(0, PAIRS_SHOWN).map((prompt) => promptPair(circuit, prompt, null, 1)),
    ],
  ];
}

function importantNodes({ circuit, vertices }, state) {
  const order = circuit.nodes.map((_, place) => place).sort(byKeys((place) => -circuit.nodeDeltas[place], (place) => place));
  const most = Math.max(1e-12, circuit.nodeDeltas[order[0]]);
  const said = (place) => descriptionElements(circuit, place) ?? LOCATION_LONG[splitSite(circuit.nodes[place][0], circuit.model).location];
  const item = (place) => {
    const id = nodeId(circuit, place), delta = circuit.nodeDeltas[place], note = vertices.get(id)?.note;
    const figures = descriptionFigures(circuit, place);
    return h("li", {},
      h("a", { class: "mono", href: state.href({ node: id, to: "" }) }, note || id), h("span", { class: "weight" }, formatSigned(delta)),
      h("span", { class: "said" }, said(place), figures ? h("span", { class: "figures-said", title: figures.title }, figures.words) : null),
      h("span", { class: "bar", style: `width:${((100 * Math.max(0, delta)) / most).toFixed(0)}%` }));
  };
  return h("section", {}, h("h4", {}, "Most important", h("span", { class: "count" }, "loss without it, in nats")),
    h("ul", { class: "link-list important" }, order.slice(0, IMPORTANT_LISTED).map(item)));
}

function paneHead(vertex, about) {
  return h("div", { class: "pane-head" },
    h("h3", { class: "mono" }, vertex.name),
    h("p", {}, about, vertex.biasOnly ? h("span", { class: "badge" }, "bias only") : null),
    vertex.biasOnly ? h("p", { class: "quiet" }, "Nothing in the prompt reaches this node within the circuit: it is a constant there.") : null);
}

function descriptionSection(circuit, vertex) {
  const { active, min, max } = circuit.evidence.nodes[vertex.place];
  const words = descriptionElements(circuit, vertex.place), figures = descriptionFigures(circuit, vertex.place);
  if (!words) {
    const why = min === max ? "Constant on the corpus text read." : active === 0 ? "Never active." : "No short description fits what it fires on.";
    return h("p", { class: "description quiet" }, why);
  }
  return h("p", { class: "description" }, words, h("span", { class: "quiet", title: figures.title }, ` ${figures.words} on held-out text`));
}

function statistics(graph, vertex) {
  const { nodes, corpus } = graph.circuit.evidence;
  const { mean, std, min, max, active } = nodes[vertex.place];
  const figure = (name, value, title) => h("div", { title }, h("dt", {}, name), h("dd", {}, value));
  return [
    h("dl", { class: "figures small" },
      vertex.delta === null ? null : figure("loss without it", formatSigned(vertex.delta), "Rise of the task loss, in nats, when this node alone is removed from the circuit"),
      figure("mean", formatNumber(mean)),
      figure("spread", formatNumber(std), "Standard deviation"),
      figure("range", `${formatNumber(min)} to ${formatNumber(max)}`),
      figure("active", formatPercent(active), "Share of tokens where it is not zero"),
      figure("held at", formatNumber(graph.circuit.means[vertex.place]),
        `Its value where it is ablated (${graph.circuit.ablation})`)),
    histogramChart(nodes[vertex.place]),
    h("p", { class: "quiet" }, `Full model, ${formatNumber(corpus.tokens)} tokens of corpus text; heights are logarithmic, zeros left out.`),
  ];
}

/** A slider that holds the node at a value, at the chosen token or everywhere. */
function holdSection(circuit, vertex, live, { state, settleHold }) {
  if (!live.run) return null;
  const { place } = vertex, { scale } = circuit.evidence.nodes[place];
  const told = live.overrides.get(place), value = live.run.values[live.at][place];
  const everywhere = h("input", { type: "checkbox", onchange: () => hold(told?.value ?? value) });
  everywhere.checked = told ? told.at === null : vertex.holdEverywhere ?? true;
  const hold = (next) => {
    vertex.holdEverywhere = everywhere.checked;
    const overrides = new Map(live.overrides).set(place, { value: next, at: everywhere.checked ? null : live.at });
    state.go({ set: formatOverrides(circuit, overrides) }, { replace: true });
  };
  const limit = 1.5 * Math.max(scale, Math.abs(value)) || 1;
  const slider = h("input", { type: "range", class: "hold", min: -limit, max: limit, step: limit / 200, "aria-label": `Value of ${vertex.name}`, oninput: () => hold(Number(slider.value)), onchange: settleHold });
  slider.value = value;
  return h("div", { class: "hold-box" },
    h("label", {}, `At token ${live.at + 1} of the bench: `, h("b", { class: "live-value" }, formatNumber(value)), slider),
    h("label", { class: "quiet" }, everywhere, "at every token"),
    told ? h("button", { type: "button", onclick: () => { const rest = new Map(live.overrides); rest.delete(place); state.go({ set: formatOverrides(circuit, rest) }); } }, "release") : null);
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
  return [{ vertex, weight: link.weight, kind: link.kind, delta: link.delta, count: link.count }];
}

function linkList(title, items, href) {
  const ordered = [...items].sort(byKeys((item) => -Math.abs(item.weight ?? 0), (item) => item.vertex.row));
  const strongest = Math.max(...items.map((item) => Math.abs(item.weight ?? 0)), 1e-12);
  return h("section", {},
    h("h4", {}, title, h("span", { class: "count" }, String(items.length))),
    items.length ? null : h("p", { class: "quiet" }, "nothing"),
    h("ul", { class: "link-list" }, ordered.map(({ vertex, weight, kind, delta, count }) => {
      const how = { rail: "rail", head: "head", bundle: count + " rails" }[kind];
      const share = ((Math.abs(weight ?? 0) / strongest) * 100).toFixed(0);
      const title = typeof delta === "number" ? `Loss ${formatSigned(delta)} without this edge` : null;
      return h("li", { class: weight < 0 ? "negative" : "positive", title },
        h("a", { class: "mono", href: href(vertex.id) }, vertex.note || vertex.name),
        how ? h("span", { class: "via" }, how) : h("span", { class: "weight" }, formatSigned(weight)),
        how ? null : h("span", { class: "bar", style: `width:${share}%` }));
    })));
}

function headMembers(graph, hub, href) {
  const { members } = graph.heads.find((head) => head.hub === hub);
  return [...groupBy(members, (v) => v.location)].map(([location, nodes]) => h("section", {},
    h("h4", {}, LOCATION_NAMES[location], h("span", { class: "count" }, String(nodes.length))),
    h("ul", { class: "link-list" }, nodes.map((v) => h("li", {}, h("a", { class: "mono", href: href(v.id) }, v.name))))));
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

const GROUP_LISTED = 100;

/** A group's most important nodes, and a way to open it on the graph. */
function groupSection(graph, vertex, state) {
  if (!vertex.site) return linkList("To", vertex.outs.flatMap((link) => ends(link, "target")), (id) => state.href({ node: id, to: "" }));
  const { nodes, nodeDeltas } = graph.circuit;
  const size = nodeDeltas ? (place) => -nodeDeltas[place] : (place) => nodes[place][1];
  const listed = [...vertex.places].sort(byKeys(size, (place) => place)).slice(0, GROUP_LISTED);
  const opened = [...new Set([...state.now.open.split(",").filter(Boolean), vertex.site])].join(",");
  return [
    h("p", {}, h("a", { class: "button", href: state.href({ open: opened, node: "", to: "", view: "" }) }, "open on the graph")),
    h("section", {}, h("h4", {}, nodeDeltas ? "Most important" : "Nodes", h("span", { class: "count" }, `${listed.length} of ${vertex.places.length}`)),
      h("ul", { class: "link-list" }, listed.map((place) => h("li", {},
        h("a", { class: "mono", href: state.href({ node: nodeId(graph.circuit, place), to: "" }) }, nodeId(graph.circuit, place)),
        nodeDeltas ? h("span", { class: "weight" }, formatSigned(nodeDeltas[place])) : null)))),
  ];
}

/** Every path between the two chosen vertices, whichever is the lower, with its product of weights. */
function pathsSection(graph, a, b, state) {
  const whole = graph.aggregated ? (graph.whole ??= buildGraph(graph.circuit)) : graph; // groups have no weights of their own
  const chosen = [a, b].map(({ id }) => whole.vertices.get(id));
  if (!chosen.every(Boolean)) return h("p", { class: "quiet" }, "Paths run between single nodes: open the boxes, and choose two of those.");
  const [start, end] = chosen.sort(byKeys((v) => v.row));
  const { count, sum, paths } = pathsBetween(start, end);
  const step = (link) => {
    if (["hub", "final"].includes(link.target.kind)) return null; // the next step tells of them
    const how = { head: "pattern", rail: "rail", bundle: "rails", logit: "rail " + formatSigned(link.weight) }[link.kind] ?? formatSigned(link.weight);
    return [h("span", { class: "step" }, how), " ", h("a", { class: "mono", href: state.href({ node: link.target.id, to: "" }) }, link.target.note || link.target.name), " "];
  };
  return h("section", { class: "paths" },
    h("h4", {}, `Paths from ${start.name} to ${end.name}`, h("span", { class: "count" }, formatNumber(count))),
    h("p", { class: "quiet" }, count ? `Sum of products ${formatSigned(sum)}. Rails and attention patterns multiply by one.` : "No path joins them."),
    h("ol", {}, paths.map(({ links, product }) => h("li", { class: product < 0 ? "negative" : "positive" },
      h("span", { class: "weight" }, formatSigned(product)), h("span", { class: "route" }, h("span", { class: "mono" }, start.note || start.name), " ", links.map(step))))),
    count > paths.length ? h("p", { class: "quiet" }, `The strongest ${paths.length} are listed.`) : null,
    h("p", {}, h("a", { class: "button", href: state.href({ to: "" }) }, "done")));
}
