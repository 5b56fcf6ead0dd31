// Circuits too large to draw node by node: each site is one group until it is opened.

const MAX_DRAWN = 500;

/** Which sites stand open: all of a circuit that can be drawn, else those that were opened. */
function openSites(circuit, opened) {
  if (circuit.nodes.length <= MAX_DRAWN) return () => true;
  const chosen = new Set(opened.split(",").filter(Boolean));
  return (site) => chosen.has(site);
}

function groupId(site) {
  return "group." + site;
}

/** Groups for sites that are not open, with the links that then run between groups and nodes. */
function addGroups(graph) {
  const { circuit } = graph;
  const bySite = groupBy(circuit.nodes.map(([site], place) => ({ site, place })), (node) => node.site);
  for (const [site, members] of bySite) if (!graph.isOpen(site)) addGroup(graph, site, members.map((m) => m.place));
  const vertexOf = (place) => {
    const [site] = circuit.nodes[place];
    return graph.isOpen(site) ? nodeId(circuit, place) : groupId(site);
  };
  addGroupedHeads(graph);
  addBundledEdges(graph, vertexOf);
  addBundledRails(graph, vertexOf);
}

/** "12 queries". */
function groupWords(location, count) {
  const name = LOCATION_NAMES[location];
  return `${count} ${count === 1 ? name : name === "query" ? "queries" : name + "s"}`;
}

function addGroup(graph, site, places) {
  const { layer, location } = splitSite(site, graph.circuit.model);
  const where = location === FINAL ? "the final residual stream" : `layer ${layer}, ${location.startsWith("attn") ? "attention" : "MLP"}`;
  const deltas = graph.circuit.nodeDeltas && places.map((place) => graph.circuit.nodeDeltas[place]);
  addVertex(graph, groupId(site), {
    kind: "group", site, places, layer, location, row: rowOf(layer, location),
    name: `${site}: ${places.length} nodes`, about: `the ${groupWords(location, places.length)} of ${where}`,
    delta: deltas && Math.max(...deltas),
  });
}

/** Queries and keys act on values: from group to group, or between nodes of the same head. */
function addGroupedHeads(graph) {
  const rows = groupBy(graph.vertices.values(), (v) => v.row);
  for (let layer = 0; layer < graph.circuit.model.n_layer; layer++) {
    const [queries, keys, values] = HEAD_LOCATIONS.map((location) => rows.get(rowOf(layer, location)) ?? []);
    for (const source of [...queries, ...keys]) {
      for (const target of values) {
        if (source.kind === "group" || target.kind === "group" || source.head === target.head) addLink(graph, "head", source.id, target.id);
      }
    }
  }
}

/** One link for all edges between the same two vertices: its weight is their sum, its width their mass. */
function addBundledEdges(graph, vertexOf) {
  const sums = new Map();
  for (const [source, target, weight] of graph.circuit.edges) {
    const key = vertexOf(source) + " " + vertexOf(target);
    const sum = sums.get(key) ?? { weight: 0, mass: 0, count: 0 };
    sums.set(key, { weight: sum.weight + weight, mass: sum.mass + Math.abs(weight), count: sum.count + 1 });
  }
  for (const [key, { weight, mass, count }] of sums) {
    addLink(graph, "edge", ...key.split(" "), weight, { mass, count });
  }
}

/** Writes to later reads, tokens to reads and writes to answers, as far as a group is at one end. */
function addBundledRails(graph, vertexOf) {
  const { circuit } = graph, counts = new Map();
  const count = (source, target) => counts.set(source + " " + target, (counts.get(source + " " + target) ?? 0) + 1);
  const ends = circuit.nodes.map(([site, index], place) => ({ ...splitSite(site, circuit.model), index, place }));
  const writes = ends.filter((n) => n.location.endsWith("resid_delta"));
  const reads = groupBy(ends.filter((n) => readsStream(n.location)), (n) => n.index);
  const both = (a, b) => graph.isOpen(circuit.nodes[a][0]) && graph.isOpen(circuit.nodes[b][0]);
  for (const write of writes) {
    for (const read of reads.get(write.index) ?? []) {
      const later = rowOf(read.layer, read.location) > rowOf(write.layer, write.location);
      if (later && !both(write.place, read.place)) count(vertexOf(write.place), vertexOf(read.place));
    }
  }
  addTokenGroup(graph, reads, (read) => count("group.words", vertexOf(read.place)));
  const last = ends.filter((n) => n.location === FINAL), written = groupBy(last.length ? last : writes, (n) => n.index);
  for (const [token, channel] of circuit.unembedding) {
    if (!graph.vertices.has("answer." + token)) continue;
    for (const write of written.get(channel) ?? []) count(vertexOf(write.place), "answer." + token);
  }
  for (const [key, channels] of counts) addLink(graph, "bundle", ...key.split(" "), null, { count: channels });
}

function addTokenGroup(graph, reads, join) {
  const channels = Object.keys(graph.circuit.evidence.words).map(Number);
  if (!channels.length) return;
  addVertex(graph, "group.words", {
    kind: "group", site: null, places: [], row: 0, location: "tokens", delta: null,
    name: `token embedding: ${channels.length} channels`, about: "what the tokens write",
  });
  for (const channel of channels) for (const read of reads.get(channel) ?? []) join(read);
}

const GROUPS = { line: 36, node: 22, row: 36, half: 58, open: 64, aside: { "attn.q": -90, "attn.k": 90, "mlp.post_act": 60 } };

/** As `layOut`: a site a row; queries beside keys; the nodes of an open site in lines, by index. */
function layOutGroups(graph) {
  const rows = [...graph.rows.keys()].sort((a, b) => a - b), margin = { top: 54, side: 30 };
  let up = 0;
  rows.forEach((row, i) => {
    if (i) up += groupGap(graph, rows[i - 1], row);
    up = placeLines(graph.rows.get(row), up);
  });
  const all = [...graph.vertices.values()];
  const leftmost = ({ source, target, kind }) => (kind === "bundle" ? Math.min(source.x, target.x) - 0.75 * bowOf(source, target) : Infinity);
  const left = Math.min(0, ...all.map((v) => v.x - GROUP_REACH), ...graph.links.map(leftmost)), right = Math.max(0, ...all.map((v) => v.x + GROUP_REACH));
  for (const vertex of all) {
    vertex.x = round(vertex.x - left + margin.side);
    vertex.y = round(margin.top + up - vertex.up);
  }
  return {
    boxes: [], foot: 24, least: 0.72, step: GROUPS.node, spacing: GROUPS.node, width: Math.ceil(right - left + 2 * margin.side), height: margin.top + up + 30,
    rowY: new Map(rows.map((row) => [row, graph.rows.get(row)[0].y])),
  };
}

const GROUP_REACH = 74;

/** Places a row whose foot is at height `up`; returns the height of its top. */
function placeLines(members, up) {
  if (members[0].kind !== "node") {
    const width = Math.max(...members.map((v) => (v.kind === "answer" ? answerWidth(v) + 24 : 0)));
    members.forEach((v, i) => Object.assign(v, { x: (i - (members.length - 1) / 2) * width + (GROUPS.aside[v.location] ?? 0), up }));
    return up;
  }
  const lines = Math.ceil(members.length / GROUPS.line), size = Math.ceil(members.length / lines);
  members.forEach((v, i) => {
    const line = Math.floor(i / size), here = Math.min(size, members.length - line * size);
    Object.assign(v, { x: ((i % size) - (here - 1) / 2) * GROUPS.node, up: up + (lines - 1 - line) * GROUPS.node });
  });
  return up + (lines - 1) * GROUPS.node;
}

function groupGap(graph, below, above) {
  const place = (row) => (row - 1) % LOCATIONS.length, isOpen = (row) => graph.rows.get(row)[0].kind === "node";
  if (isOpen(below) || isOpen(above)) return GROUPS.open;
  if (above < graph.finalRow && place(below) === 1 && place(above) === 2) return 0;
  return below === 0 || above > graph.finalRow || [0, 5].includes(place(above)) ? GROUPS.half : GROUPS.row;
}

/** How far a bundle goes round: the more rows it passes, the further. */
function bowOf(from, to) {
  return 60 + 9 * (to.row - from.row);
}
