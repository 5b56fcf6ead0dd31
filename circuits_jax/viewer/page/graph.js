// From a circuit's data to vertices and links: everything that carries something upward.
//
// Vertices: "node" (a kept node), "words" (the token embedding of one residual channel), "final" (a residual
// channel's end below the unembedding, where that is no node), "answer" (an answer token's logit), "hub" (one head's attention pattern),
// "group" (many nodes of one site, see aggregate.js).
// Links: "edge" (a counted weight), "rail" (a residual channel from a write to a later read), "head" (queries and
// keys acting on values), "logit" (an unembedding weight), "bundle" (rails between groups).
// Rows are numbered upward: words 0, then eight a layer, then the channels' ends, then the answers.

const LOCATIONS = [
  "attn.act_in", "attn.q", "attn.k", "attn.v", "attn.resid_delta",
  "mlp.act_in", "mlp.post_act", "mlp.resid_delta",
];
const FINAL = "final_resid"; // a node site without a layer, in circuits whose final residual stream has nodes
const LOCATION_NAMES = {
  "attn.act_in": "read", "attn.q": "query", "attn.k": "key", "attn.v": "value", "attn.resid_delta": "write",
  "mlp.act_in": "read", "mlp.post_act": "neuron", "mlp.resid_delta": "write", [FINAL]: "channel",
};
const LOCATION_LONG = {
  "attn.act_in": "residual channel read by attention", "attn.q": "query channel", "attn.k": "key channel",
  "attn.v": "value channel", "attn.resid_delta": "residual channel written by attention",
  "mlp.act_in": "residual channel read by the MLP", "mlp.post_act": "neuron",
  "mlp.resid_delta": "residual channel written by the MLP", [FINAL]: "residual channel after the last layer",
};
const HEAD_LOCATIONS = ["attn.q", "attn.k", "attn.v"];
const MAX_ANSWERS = 12;

function rowOf(layer, location) {
  return 1 + layer * LOCATIONS.length + (location === FINAL ? 0 : LOCATIONS.indexOf(location));
}

/** {layer, location}; the final residual stream stands where the layer after the last one would begin. */
function splitSite(site, { n_layer }) {
  if (site === FINAL) return { layer: n_layer, location: FINAL };
  const dot = site.indexOf(".");
  return { layer: Number(site.slice(0, dot)), location: site.slice(dot + 1) };
}

function nodeId(circuit, place) {
  const [site, index] = circuit.nodes[place];
  return site + "." + index;
}

/**
 * {vertices: Map of id to vertex, links, rows: Map of row to vertices, channels, heads, finalRow, answerRow,
 * hiddenAnswers}.  `isOpen(site)` says whether a site's nodes stand for themselves or as one group.
 */
function buildGraph(circuit, isOpen = () => true) {
  const finalRow = rowOf(circuit.model.n_layer, FINAL);
  const graph = {
    circuit, isOpen, vertices: new Map(), links: [], heads: [], finalRow, answerRow: finalRow + 1, hiddenAnswers: 0,
    aggregated: circuit.nodes.some(([site]) => !isOpen(site)),
  };
  addNodes(graph);
  if (!graph.aggregated) addHeads(graph);
  addWords(graph);
  addAnswers(graph);
  if (graph.aggregated) addGroups(graph);
  else addEdges(graph);
  addRails(graph);
  graph.rows = groupBy([...graph.vertices.values()].filter((v) => v.kind !== "hub"), (v) => v.row);
  return graph;
}

/** Whether a node there is a channel of the residual stream, as it is read. */
function readsStream(location) {
  return location.endsWith("act_in") || location === FINAL;
}

function addVertex(graph, id, fields) {
  const vertex = { id, ins: [], outs: [], ...fields };
  graph.vertices.set(id, vertex);
  return vertex;
}

function addLink(graph, kind, source, target, weight = null, fields = {}) {
  const link = {
    id: graph.links.length, kind, weight,
    source: graph.vertices.get(source), target: graph.vertices.get(target), ...fields,
  };
  link.source.outs.push(link);
  link.target.ins.push(link);
  graph.links.push(link);
}

function addNodes(graph) {
  const { circuit } = graph;
  circuit.nodes.forEach(([site, index, biasOnly], place) => {
    if (!graph.isOpen(site)) return;
    const { layer, location } = splitSite(site, circuit.model);
    const residual = readsStream(location) || location.endsWith("resid_delta");
    addVertex(graph, nodeId(circuit, place), {
      kind: "node", place, site, index, layer, location, biasOnly, row: rowOf(layer, location),
      name: site + "." + index, delta: circuit.nodeDeltas?.[place] ?? null,
      about: residual && index >= circuit.model.d_model ? "position feature" : LOCATION_LONG[location],
      channel: residual ? index : null,
      writes: location.endsWith("resid_delta"),
      head: HEAD_LOCATIONS.includes(location) ? Math.floor(index / circuit.model.d_head) : null,
    });
  });
}

function addEdges(graph) {
  const { circuit } = graph;
  circuit.edges.forEach(([source, target, weight], i) => {
    const delta = circuit.edgeDeltas?.[i] ?? null;
    addLink(graph, "edge", nodeId(circuit, source), nodeId(circuit, target), weight, { delta });
  });
}

/** A hub per head that has kept channels: queries and keys into it, values out of it. */
function addHeads(graph) {
  const inHeads = [...graph.vertices.values()].filter((v) => v.kind === "node" && v.head !== null);
  for (const members of groupBy(inHeads, (v) => v.layer * 1e6 + v.head).values()) {
    const { layer, head } = members[0];
    const hub = addVertex(graph, `${layer}.attn.head.${head}`, {
      kind: "hub", layer, head, about: "attention pattern", name: `layer ${layer}, head ${head}`, row: rowOf(layer, "attn.v") - 0.5,
    });
    graph.heads.push({ layer, head, hub, members });
    for (const node of members) {
      if (node.location === "attn.v") addLink(graph, "head", hub.id, node.id);
      else addLink(graph, "head", node.id, hub.id);
    }
  }
}

function addWords(graph) {
  if (graph.aggregated) return;
  const { words } = graph.circuit.evidence;
  for (const [channel, { count, top }] of Object.entries(words)) {
    const tokens = top.map(([token, weight]) => ({ text: pieceOf(graph.circuit, token), weight }));
    addVertex(graph, "embedding." + channel, {
      kind: "words", channel: Number(channel), row: 0, writes: true, tokens, count,
      name: `token embedding, channel ${channel}`, about: `${count} tokens have a weight here`,
    });
  }
}

/** The answer tokens with the largest weights, so many as are drawn: [[token, its entries of the unembedding], ...]. */
function drawnAnswers({ unembedding, maxAnswers = MAX_ANSWERS }) {
  const size = ([, entries]) => Math.max(...entries.map(([, , weight]) => Math.abs(weight)));
  return [...groupBy(unembedding, ([token]) => token)].sort((a, b) => size(b) - size(a) || a[0] - b[0]).slice(0, maxAnswers);
}

/** Answers, and the ends of the channels that they are read from. */
function addAnswers(graph) {
  const drawn = drawnAnswers(graph.circuit);
  graph.hiddenAnswers = new Set(graph.circuit.unembedding.map(([token]) => token)).size - drawn.length;
  for (const [token, entries] of drawn) {
    const text = pieceOf(graph.circuit, token);
    addVertex(graph, "answer." + token, {
      kind: "answer", row: graph.answerRow, token, text, name: `answer ${tokenAlone(text)}`,
      about: "logit of an answer token",
    });
    if (graph.aggregated) continue;
    for (const [, channel, weight] of entries) {
      const node = `${FINAL}.${channel}`, id = graph.vertices.has(node) ? node : "final." + channel;
      if (!graph.vertices.has(id)) {
        addVertex(graph, id, {
          kind: "final", channel, row: graph.finalRow, name: `channel ${channel} at the unembedding`,
        });
      }
      addLink(graph, "logit", id, "answer." + token, weight);
    }
  }
}

/** Every write of a residual channel reaches every later read of it. */
function addRails(graph) {
  const onRails = [...graph.vertices.values()].filter((v) => v.channel !== null && v.channel !== undefined);
  graph.channels = new Map([...groupBy(onRails, (v) => v.channel)].sort((a, b) => a[0] - b[0]));
  for (const members of graph.channels.values()) {
    members.sort((a, b) => a.row - b.row);
    for (const write of members.filter((v) => v.writes)) {
      for (const read of members.filter((v) => !v.writes && v.row > write.row)) {
        addLink(graph, "rail", write.id, read.id);
      }
    }
  }
}

/** Whether `link` is of weights, even where they are not known: what stands where is decided by these. */
function isWeighted({ kind }) {
  return kind === "edge" || kind === "logit";
}

function groupBy(items, key) {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(item);
  }
  return groups;
}

/** The vertices below and above `start` on a path through it: {below: Set, above: Set}, both with `start`. */
function pathsThrough(start) {
  const walk = (nexts) => {
    const seen = new Set([start]);
    for (const vertex of seen) for (const next of nexts(vertex)) seen.add(next); // a Set grows as it is walked
    return seen;
  };
  return {
    below: walk((v) => v.ins.map((link) => link.source)),
    above: walk((v) => v.outs.map((link) => link.target)),
  };
}

/** Whether `link` lies on a path through the vertex that `paths` were walked from. */
function onPath(paths, link) {
  return [paths.below, paths.above].some((set) => set.has(link.source) && set.has(link.target));
}
