// The graph as SVG.  Drawing is done once per circuit; selecting only changes classes (select.js).

const NODE_RADIUS = 5.5;
const BAND = { above: 38, below: 18 };
const WIDTHS = { min: 0.7, max: 4.6 };

/** Draws `graph`, laid out as `layout`: an SVG element whose vertices and links know their elements. */
function drawGraph(graph, layout) {
  const { width, height } = layout;
  const svg = s("svg", {
    class: "graph", viewBox: `0 0 ${width} ${height}`, width, height, role: "group",
    "aria-label": `Circuit for ${graph.circuit.task}: ${graph.circuit.nodes.length} nodes, ` +
      `${graph.circuit.edges.length} edges. Arrow keys move between nodes, Enter selects.`,
  });
  const strongest = strongestOf(graph);
  const all = [...graph.vertices.values()];
  svg.append(
    s("g", { class: "bands" }, drawBands(graph, layout)),
    s("g", { class: "rails" }, drawRails(graph)),
    s("g", { class: "heads" }, layout.boxes.map(drawHead)),
    s("g", { class: "links" }, graph.links.filter((l) => l.kind !== "rail").map((l) => drawLink(l, strongest))),
    s("g", { class: "head-names" }, layout.boxes.map(drawHeadName)),
    s("g", { class: "words" }, all.filter((v) => v.kind === "words").map(drawWords)),
    s("g", { class: "answers" }, all.filter((v) => v.kind === "answer").map(drawAnswer)),
    s("g", { class: "nodes" }, all.filter((v) => v.kind === "node").map(drawNode)),
    s("g", { class: "row-labels" }, drawRowLabels(graph, layout)),
  );
  return svg;
}

function strongestOf(graph) {
  const of = (kind) =>
    Math.max(0, ...graph.links.filter((l) => l.kind === kind).map((l) => Math.abs(l.weight)));
  return { edge: of("edge"), logit: of("logit") };
}

/** A faint band behind each half of a layer. */
function drawBands(graph, { rowY, width }) {
  return halves(graph).map(({ rows, attention }) => {
    const ys = rows.map((row) => rowY.get(row));
    const top = Math.min(...ys) - BAND.above, bottom = Math.max(...ys) + BAND.below;
    return s("rect", {
      class: attention ? "band attention" : "band", x: 0, y: top, width, height: bottom - top, rx: 6,
    });
  });
}

/** The halves of layers that have nodes: {layer, attention, rows}. */
function halves(graph) {
  const rows = [...graph.rows.keys()].filter((row) => row > 0 && row < graph.finalRow).sort((a, b) => a - b);
  const half = (row) => Math.floor((row - 1) / LOCATIONS.length) * 2 + ((row - 1) % LOCATIONS.length >= 5 ? 1 : 0);
  return [...groupBy(rows, half)].map(([key, members]) => ({
    layer: Math.floor(key / 2), attention: key % 2 === 0, rows: members,
  }));
}

function drawRowLabels(graph, { rowY, height }) {
  const name = (row) => LOCATION_NAMES[LOCATIONS[(row - 1) % LOCATIONS.length]];
  const label = (y, text, kind = "row-label") => s("text", { class: kind, x: 10, y, dy: "0.32em" }, text);
  const labels = [s("rect", { class: "label-back", x: 0, y: 0, width: 84, height })];
  for (const { layer, attention, rows } of halves(graph)) {
    const ys = rows.map((row) => rowY.get(row));
    labels.push(label(Math.min(...ys) - BAND.above + 13, `${layer} ${attention ? "attention" : "MLP"}`, "half-label"));
    for (const row of rows) labels.push(label(rowY.get(row), name(row)));
  }
  if (rowY.has(graph.answerRow)) labels.push(label(rowY.get(graph.answerRow), "answers", "half-label"));
  if (rowY.has(0)) labels.push(label(rowY.get(0) + 14, "tokens", "half-label"));
  return labels;
}

/** Rails in pieces, from one attachment of the channel to the next, so that a piece can be lit by itself. */
function drawRails(graph) {
  const drawn = [];
  graph.railPieces = [];
  for (const members of graph.channels.values()) {
    const links = members.flatMap((v) => v.outs.filter((link) => link.kind === "rail"));
    members.slice(1).forEach((upper, i) => {
      const lower = members[i];
      const through = links.filter((l) => l.source.row <= lower.row && l.target.row >= upper.row);
      if (!through.length) return;
      const element = s("line", { class: "rail", x1: lower.x, y1: lower.y, x2: upper.x, y2: upper.y });
      graph.railPieces.push({ element, links: through });
      drawn.push(element);
    });
  }
  return drawn;
}

function drawHead(box) {
  const { left, right, top, bottom, hub } = box;
  hub.element = s("rect", { class: "head", x: left, y: top, width: right - left, height: bottom - top, rx: 9 });
  return hub.element;
}

function drawHeadName({ left, right, top, head }) {
  return s("text", { x: (left + right) / 2, y: top - 5, "text-anchor": "middle" }, `head ${head}`);
}

function drawLink(link, strongest) {
  const { source, target, kind, weight } = link;
  const style = { class: `link ${kind}` };
  if (weight !== null) {
    const share = Math.abs(weight) / (strongest[kind] || 1);
    style.class += weight < 0 ? " negative" : " positive";
    style["stroke-width"] = (WIDTHS.min + (WIDTHS.max - WIDTHS.min) * share).toFixed(2);
  }
  const name = weight === null ? null : s("title", {}, `${source.name} to ${target.name}: ${formatSigned(weight)}`);
  link.element = s("path", { ...style, d: curve(source, target) }, name);
  return link.element;
}

function curve(from, to) {
  const bend = (from.y - to.y) * 0.45;
  return `M${from.x} ${from.y}C${from.x} ${round(from.y - bend)} ${to.x} ${round(to.y + bend)} ${to.x} ${to.y}`;
}

function drawNode(vertex) {
  const r = NODE_RADIUS;
  const shape = vertex.channel === null
    ? s("circle", { class: "mark", r })
    : s("rect", { class: "mark", x: -r, y: -r + 1, width: 2 * r, height: 2 * r - 2, rx: 2.5 });
  const description = `${vertex.name}, ${vertex.about}` + (vertex.biasOnly ? ", bias only" : "");
  return makeButton(vertex, "node" + (vertex.biasOnly ? " bias-only" : ""), description,
    s("circle", { class: "halo", r: 10 }), shape);
}

function drawAnswer(vertex) {
  const text = clip(tokenAlone(vertex.text), 10);
  const width = Math.max(30, text.length * 8 + 16);
  return makeButton(vertex, "answer", vertex.name,
    s("rect", { class: "halo", x: -width / 2 - 4, y: -17, width: width + 8, height: 34, rx: 10 }),
    s("rect", { class: "mark", x: -width / 2, y: -13, width, height: 26, rx: 7 }),
    s("text", { "text-anchor": "middle", dy: "0.34em" }, text));
}

/** The heaviest tokens of a channel, slanting away below its rail. */
function drawWords(vertex) {
  const line = s("text", { class: "slanted", transform: "rotate(52) translate(12 0)", dy: "0.3em" });
  let room = 17;
  for (const { text, weight } of vertex.tokens) {
    const word = clip(tokenAlone(text), 10);
    if (word.length + 1 > room) break;
    room -= word.length + 1;
    line.append(s("tspan", { class: weight < 0 ? "negative" : "positive", dx: 5 }, word));
  }
  const list = vertex.tokens.map(({ text, weight }) => `${tokenAlone(text)} ${formatSigned(weight)}`).join(", ");
  return makeButton(vertex, "word-list", `${vertex.name}: ${list}`,
    s("circle", { class: "halo", r: 9 }), s("circle", { class: "mark", r: 3 }), line);
}

/** A vertex that can be hovered, focused and selected; `data-id` is what the listeners go by. */
function makeButton(vertex, kind, description, ...content) {
  vertex.element = s("g", {
    class: `vertex ${kind}`, transform: `translate(${vertex.x} ${vertex.y})`, role: "button", tabindex: -1,
    "aria-label": description, "aria-pressed": "false", "data-id": vertex.id,
  }, content);
  vertex.selectable = true;
  return vertex.element;
}
