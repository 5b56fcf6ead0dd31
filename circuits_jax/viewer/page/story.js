// What a circuit does, told by roles, and whether the claims of each came out true.  The marks of roles are on the graph, too.

const ROLE_COLOURS = 6;

const roleColour = (place) => `--role: var(--role-${place % ROLE_COLOURS})`;

function storySection(circuit) {
  const { story } = circuit;
  if (!story) return null; // none was written
  const told = story.roles.filter((role) => role.confirmed).length;
  return h("section", { class: "story", "aria-label": "Story" },
    h("h2", {}, story.title, h("span", { class: "count" }, story.settings ? `${told} of ${story.roles.length} roles confirmed` : "not measured")),
    h("div", { class: "story-text" }, story.text.map((sentence) => h("p", {}, sentence))),
    h("ol", { class: "roles" }, story.roles.map((role, place) => roleCard(circuit, role, place))),
    h("p", { class: "quiet" }, story.settings ? measuredWords(story.settings)
      : "Its claims were not measured as they now stand: python -m circuits_jax stories."));
}

function measuredWords({ pairs, confidence }) {
  return `Words and bounds are the author\u2019s, and figures are void once a claim or its nodes are changed. Changes are made in the whole model, on ${formatNumber(pairs)} test pairs; ` +
    `in brackets the ${formatPercent(confidence)} interval over their templates. A claim is confirmed if its figure meets its bound and beats what stands beside it. Of a swap that is the same swap of all other nodes of these sites, which must not meet the bound; of set values the best of random sets of as many nodes; of a comparison the size of the difference among the active nodes of the sites. \u201cClose\u201d says that the interval crosses the bound.`;
}

function roleCard(circuit, { name, says, nodes, confirmed, claims }, place) {
  const badge = confirmed === null ? h("span", { class: "verdict" }, "not measured")
    : h("span", { class: confirmed ? "verdict good" : "verdict doubtful" }, confirmed ? `\u2713 confirmed${claims.every((claim) => claim.measured.clear) ? "" : ", close"}` : `\u2717 not confirmed (${claims.filter((claim) => claim.measured.passes).length} of ${claims.length} claims)`);
  return h("li", { class: "role", style: roleColour(place) },
    h("h3", {}, h("span", { class: "role-mark" }, String(place + 1)), name, " ", badge), h("p", {}, says),
    h("p", { class: "role-nodes" }, nodes.map((node) => [h("a", { class: "mono", href: nodeAddress(circuit, node) }, node), " "])),
    h("ul", { class: "claims" }, claims.map(claimItem)));
}

/** The address that selects a node of the circuit. */
function nodeAddress(circuit, node) {
  return state.href({ task: circuit.key, node, to: "", with: "" });
}

function claimItem({ words, how, figure, bound, at_most: atMost, measured }) {
  const asked = `${atMost ? "at most" : "at least"} ${formatShare(bound)}`;
  return h("li", {}, h("span", { class: measured ? (measured.passes ? "passed" : "failed") : "" }, measured ? (measured.passes ? "\u2713 " : "\u2717 ") : ""), words,
    measured ? h("div", { class: "claim-figures" }, h("strong", {}, formatShare(measured.value)), h("span", { class: "quiet" }, ` (${formatShare(measured.low)} to ${formatShare(measured.high)})`),
      intervalPlot(measured, bound), h("span", { class: "quiet" }, [
        `asked: ${asked}`, measured.before === null ? "" : `unchanged ${formatShare(measured.before)}`,
        `beside it: ${measured.beside}`, measured.outcome,
      ].filter(Boolean).join("; "))) : h("div", { class: "quiet" }, `asked: ${asked}`),
    h("details", {}, h("summary", {}, "how"), h("p", { class: "quiet" }, `${how} The figure is ${figure}.`)));
}

/** A share with two or three digits, as tables of results have it. */
const formatShare = (value) => value.toFixed(value > 0.99 && value < 1 ? 3 : 2);

/** A ring in the colour of its role, and the role's number, around each node that plays one. */
function ringRoles(graph) {
  for (const [place, { nodes, name }] of (graph.circuit.story?.roles ?? []).entries()) {
    for (const node of nodes) {
      const vertex = graph.vertices.get(node);
      if (vertex?.kind !== "node") continue; // in a closed box, say
      vertex.element.append(s("g", { class: "role-ring", style: roleColour(place), "aria-hidden": "true" },
        s("circle", { r: 8.5 }), s("text", { x: -9, y: -6, "text-anchor": "end" }, String(place + 1)), s("title", {}, name)));
    }
  }
}
