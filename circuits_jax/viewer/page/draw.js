// The graph as SVG.  Drawing is done once per circuit; selecting, filtering and painting only change classes and
// colours (select.js, paint.js).

const NODE_RADIUS = 5.5;
const BAND = { above: 38, below: 18, reach: 4000 };
const WIDTHS = { min: 0.7, max: 4.6 };

/** Draws `graph`, laid out as `layout`: {svg, camera: what moves, labels: what stays at the left edge}. */
function drawGraph(graph, layout) {
  const svg = s("svg", {
    class: "graph", role: "group",
    "aria-label": `Circuit for ${graph.circuit.task}: ${graph.circuit.nodes.length} nodes, ` +
      `${graph.circuit.edges.length} edges. Arrow keys move between nodes, Enter selects.`,
  });
  const strongest = strongestOf(graph);
  const all = [...graph.vertices.values()], nodes = all.filter((v) => v.kind === "node");
  const camera = s("g", { class: "camera" },
    s("g", { class: "bands" }, drawBands(graph)),
    s("g", { class: "rails" }, drawRails(graph)),
    s("g", { class: "heads" }, layout.boxes.map(drawHead)),
    s("g", { class: "links" }, graph.links.filter((l) => l.kind !== "rail").map((l) => drawLink(l, strongest))),
    s("g", { class: "head-names" }, layout.boxes.map(drawHeadName)),
    s("g", { class: "words" }, all.filter((v) => v.kind === "words").map(drawWords)),
    s("g", { class: "answers" }, all.filter((v) => v.kind === "answer").map(drawAnswer)),
    s("g", { class: "groups" }, all.filter((v) => v.kind === "group").map(drawGroup)),
    s("g", { class: "nodes" }, nodes.map(drawNode)), s("g", { class: "names", "aria-hidden": "true" }, nodes.map(drawName)));
  const labels = s("g", { class: "row-labels", "aria-hidden": "true" }, drawRowLabels(graph, layout));
  svg.append(camera, labels);
  return { svg, camera, labels };
}

function strongestOf(graph) {
  const of = (kind) =>
    Math.max(0, ...graph.links.filter((l) => l.kind === kind).map((l) => l.mass ?? Math.abs(l.weight)));
  return { edge: of("edge"), logit: of("logit") };
}

/** A faint band behind each half of a layer. */
function drawBands(graph) {
  return halves(graph).map(({ ys, attention }) => {
    const top = Math.min(...ys) - BAND.above, bottom = Math.max(...ys) + BAND.below;
    return s("rect", {
      class: attention ? "band attention" : "band", x: -BAND.reach, y: top, width: 3 * BAND.reach, height: bottom - top,
    });
  });
}

/** The halves of layers that have nodes: {layer, attention, rows, ys: the heights that are taken}. */
function halves(graph) {
  const rows = [...graph.rows.keys()].filter((row) => row > 0 && row < graph.finalRow).sort((a, b) => a - b);
  const half = (row) => Math.floor((row - 1) / LOCATIONS.length) * 2 + ((row - 1) % LOCATIONS.length >= 5 ? 1 : 0);
  return [...groupBy(rows, half)].map(([key, members]) => ({
    layer: Math.floor(key / 2), attention: key % 2 === 0, rows: members, ys: members.flatMap((row) => graph.rows.get(row).map((v) => v.y)),
  }));
}

/** Names of rows; `data-y` is where a row lies in the drawing, `placeRowLabels` where that is on the screen. */
function drawRowLabels(graph, { rowY }) {
  const name = (row) => LOCATION_NAMES[LOCATIONS[(row - 1) % LOCATIONS.length]];
  const label = (y, text, kind = "row-label") => s("text", { class: kind, x: 8, "data-y": y, dy: "0.32em" }, text);
  const labels = [s("rect", { class: "label-back", x: 0, y: 0, width: 0, height: "100%" })];
  for (const { layer, attention, rows, ys } of halves(graph)) {
    const half = label(Math.min(...ys) - BAND.above + 13, "", "half-label");
    Object.assign(half.dataset, { long: `${layer} ${attention ? "attention" : "MLP"}`, short: `${layer} ${attention ? "attn" : "MLP"}` });
    labels.push(half);
    for (const row of rows) labels.push(label(rowY.get(row), name(row)));
  }
  if (graph.rows.get(graph.finalRow)?.some((v) => v.kind !== "final")) labels.push(label(rowY.get(graph.finalRow), "final stream", "half-label"));
  if (rowY.has(graph.answerRow)) labels.push(label(rowY.get(graph.answerRow), "answers", "half-label"));
  if (rowY.has(0)) labels.push(label(rowY.get(0) + 14, "tokens", "half-label"));
  return labels;
}

/** Moves row names to where their rows are, in a column of `width`; those that would touch others are left out. */
function placeRowLabels(labels, { y, k, width }) {
  const narrow = width < ZOOM.labels;
  labels.querySelector(".label-back").setAttribute("width", width - 4);
  labels.classList.toggle("narrow", narrow);
  for (const text of labels.querySelectorAll("[data-long]")) text.textContent = narrow ? text.dataset.short : text.dataset.long;
  const taken = [], texts = [...labels.querySelectorAll("text")];
  const half = (text) => text.classList.contains("half-label");
  for (const text of [...texts.filter(half), ...texts.filter((text) => !half(text))]) {
    const at = round(Number(text.dataset.y) * k + y);
    const crowded = taken.some((other) => Math.abs(other - at) < 12);
    text.setAttribute("y", at);
    text.classList.toggle("crowded", crowded);
    if (!crowded) taken.push(at);
  }
}

/** Rails in pieces, from one attachment of the channel to the next, so that a piece can be lit by itself. */
function drawRails(graph) {
  graph.railPieces = [];
  return [...graph.channels.values()].map((members) => {
    const links = members.flatMap((v) => v.outs.filter((link) => link.kind === "rail"));
    const pieces = members.slice(1).map((upper, i) => {
      const lower = members[i], place = { x1: lower.x, y1: lower.y, x2: upper.x, y2: upper.y };
      const through = links.filter((l) => l.source.row <= lower.row && l.target.row >= upper.row);
      if (!through.length) return null;
      const element = s("line", { class: "rail", ...place });
      graph.railPieces.push({ element, links: through });
      return [s("line", { class: "rail-reach", ...place }), element]; // easier to point at than the rail itself
    });
    return s("g", { class: "channel" }, s("title", {}, `residual channel ${members[0].channel}`), pieces);
  });
}

function drawHead(box) {
  const { left, right, top, bottom, hub } = box;
  hub.element = s("rect", { class: "head", x: left, y: top, width: right - left, height: bottom - top, rx: 9 });
  return hub.element;
}

/** The name of a head is the button that selects its attention pattern. */
function drawHeadName({ left, right, top, head, hub }) {
  const name = `head ${head}`, width = 5.2 * name.length + 10;
  hub.button = makeButton({ ...hub, x: (left + right) / 2, y: top - 4 }, "head-name", hub.name + ", attention pattern",
    s("rect", { class: "mark", x: -width / 2, y: -8.5, width, height: 15, rx: 7.5 }),
    s("rect", { class: "halo", x: -width / 2, y: -8.5, width, height: 15, rx: 7.5 }),
    s("text", { "text-anchor": "middle", dy: "0.22em" }, name));
  hub.selectable = true;
  return hub.button;
}

function drawLink(link, strongest) {
  const { source, target, kind, weight, count } = link;
  const style = { class: `link ${kind}` };
  if (isWeighted(link)) {
    const share = (link.mass ?? Math.abs(weight)) / (strongest[kind] || 1);
    link.share = share;
    style.class += weight === null ? " unknown" : weight < 0 ? " negative" : " positive";
    style["stroke-width"] = (WIDTHS.min + (WIDTHS.max - WIDTHS.min) * share).toFixed(2);
    style["stroke-opacity"] = (0.5 + 0.5 * share).toFixed(2);
  } else if (kind === "bundle") style["stroke-width"] = Math.min(6, 0.8 + 0.5 * Math.sqrt(count)).toFixed(2);
  link.element = s("path", { ...style, d: kind === "bundle" ? bow(source, target) : curve(source, target) },
    kind === "head" ? null : s("title", {}, linkWords(link)));
  return link.element;
}

function linkWords({ source, target, kind, weight, count, delta }) {
  const name = `${source.name} to ${target.name}`;
  if (kind === "bundle") return `${name}: ${count} channels`;
  if (count) return `${name}: ${count} edges, sum ${formatSigned(weight)}`;
  return `${name}: ${formatSigned(weight)}` + (typeof delta === "number" ? `, loss ${formatSigned(delta)} without it` : "");
}

function curve(from, to) {
  const bend = (from.y - to.y) * 0.45;
  return `M${from.x} ${from.y}C${from.x} ${round(from.y - bend)} ${to.x} ${round(to.y + bend)} ${to.x} ${to.y}`;
}

/** Bundles go round at the left, the further the more rows they pass. */
function bow(from, to) {
  const out = bowOf(from, to), y = (from.y - to.y) * 0.25;
  const [left, right] = [round(from.x - out), round(to.x - out)];
  return `M${from.x} ${from.y}C${left} ${round(from.y - y)} ${right} ${round(to.y + y)} ${to.x} ${to.y}`;
}

function drawNode(vertex) {
  const r = NODE_RADIUS;
  const shape = vertex.channel === null
    ? s("circle", { class: "mark", r })
    : s("rect", { class: "mark", x: -r, y: -r + 1, width: 2 * r, height: 2 * r - 2, rx: 2.5 });
  return makeButton(vertex, "node" + (vertex.biasOnly ? " bias-only" : "") + (vertex.channel === null ? "" : " residual"), nodeWords(vertex),
    s("circle", { class: "halo", r: 10 }), shape);
}

/** A node's name, above all nodes: its index, where there is room, or what people call it (notes.js). */
function drawName(vertex) {
  vertex.label = s("g", { class: "name" + (vertex.channel === null ? "" : " residual"), transform: `translate(${round(vertex.x)} ${round(vertex.y)})` },
    s("text", { dy: "0.32em" }, String(vertex.index)));
  return vertex.label;
}

/** What a screen reader says of a node. */
function nodeWords(vertex) {
  const delta = vertex.delta === null || vertex.delta === undefined ? "" : `, loss ${formatSigned(vertex.delta)} without it`;
  return `${vertex.name}, ${vertex.about}` + (vertex.biasOnly ? ", bias only" : "") + delta;
}

function answerText(vertex) {
  return clip(tokenAlone(vertex.text), 8);
}

function answerWidth(vertex) {
  return Math.max(34, answerText(vertex).length * 8.5 + 16);
}

/** An answer, with room above it for its share on the bench's prompt (paint.js). */
function drawAnswer(vertex) {
  const text = answerText(vertex), width = answerWidth(vertex);
  return makeButton(vertex, "answer", vertex.name,
    s("rect", { class: "halo", x: -width / 2 - 4, y: -17, width: width + 8, height: 34, rx: 10 }),
    s("rect", { class: "mark", x: -width / 2, y: -13, width, height: 26, rx: 7 }),
    s("text", { "text-anchor": "middle", dy: "0.34em" }, text),
    s("text", { class: "answer-share", "text-anchor": "middle", y: -18 }));
}

function drawGroup(vertex) {
  const text = vertex.site ? groupWords(vertex.location, vertex.places.length) : "tokens";
  return makeButton(vertex, "group-node", `${vertex.name}, ${vertex.about}; select to list or open them`,
    s("rect", { class: "halo", x: -72, y: -17, width: 144, height: 34, rx: 17 }),
    s("rect", { class: "mark", x: -68, y: -13, width: 136, height: 26, rx: 13 }),
    vertex.delta === null ? null : s("circle", { class: "tone", cx: -54, r: 6 }, s("title", {}, `the most important: ${formatSigned(vertex.delta)}`)),
    s("text", { x: vertex.delta === null ? 0 : 8, "text-anchor": "middle", dy: "0.34em" }, text));
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
    class: `vertex ${kind}`, transform: `translate(${round(vertex.x)} ${round(vertex.y)})`, role: "button", tabindex: -1,
    "aria-label": description, "aria-pressed": "false", "data-id": vertex.id,
  }, content);
  vertex.selectable = true;
  return vertex.element;
}
