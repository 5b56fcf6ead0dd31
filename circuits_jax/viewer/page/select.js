// Selecting, hovering, filtering and walking through a drawn graph.

/**
 * Lights the paths through vertex `id`, or those between `id` and `to`, and fades the rest; without `id` everything
 * is lit.
 */
function showSelection(graph, svg, id, to = null) {
  const chosen = graph.vertices.get(id), end = graph.vertices.get(to);
  const paths = chosen && pathsThrough(chosen);
  const ends = end && pathsThrough(end);
  const passes = (vertex) => paths && (paths.below.has(vertex) || paths.above.has(vertex)) &&
    (!ends || ((ends.below.has(vertex) || ends.above.has(vertex)) && isBetween(paths, ends, vertex)));
  svg.classList.toggle("selecting", Boolean(chosen));
  const lit = (element, on) => element && element.classList.toggle("lit", Boolean(on));
  const onWay = (link) => paths && onPath(paths, link) && (!ends || (passes(link.source) && passes(link.target)));
  for (const vertex of buttons(graph)) {
    const element = vertex.button ?? vertex.element;
    lit(element, passes(vertex));
    lit(vertex.label, passes(vertex));
    element.classList.toggle("selected", vertex === chosen || vertex === end);
    element.setAttribute("aria-pressed", String(vertex === chosen));
  }
  for (const { hub, members } of graph.heads) lit(hub.element, members.some(passes));
  for (const link of graph.links) lit(link.element, onWay(link));
  for (const { element, links } of graph.railPieces) lit(element, paths && links.some(onWay));
}

/** Whether a vertex lies between two others, whichever is the lower. */
function isBetween(a, b, vertex) {
  return (a.above.has(vertex) && b.below.has(vertex)) || (a.below.has(vertex) && b.above.has(vertex));
}

/** Hides edges below a share of the strongest, and nodes below a share of the most important. */
function showThresholds(graph, edges, nodes) {
  const weak = (vertex) => vertex.kind === "node" && nodes > 0 && importanceShare(graph, vertex) < nodes;
  for (const vertex of graph.vertices.values()) {
    if (vertex.kind === "node") for (const part of [vertex.element, vertex.label]) part.classList.toggle("weak", weak(vertex));
  }
  let shown = 0;
  for (const link of graph.links) {
    if (!link.element) continue;
    const hidden = (link.kind === "edge" && link.share < edges) || weak(link.source) || weak(link.target);
    link.element.classList.toggle("weak", hidden);
    shown += link.kind === "edge" && !hidden;
  }
  return { edges: shown, nodes: [...graph.vertices.values()].filter((v) => v.kind === "node" && !weak(v)).length };
}

/** A node's ablation delta as a share of the largest; without deltas its strongest weight. */
function importanceShare(graph, vertex) {
  const size = (v) => (v.delta === null ? strongestWeight(v) : Math.max(0, v.delta));
  graph.mostImportant ??= Math.max(1e-12, ...[...graph.vertices.values()].filter((v) => ["node", "group"].includes(v.kind)).map(size));
  return size(vertex) / graph.mostImportant;
}

function strongestWeight(vertex) {
  const sizes = [...vertex.ins, ...vertex.outs].filter((l) => l.kind === "edge").map((l) => Math.abs(l.weight));
  return sizes.length ? Math.max(...sizes) : 0;
}

/** Of all vertices exactly one can be reached by Tab, `vertex` if it is shown; the arrow keys move on from there. */
function setTabStop(graph, vertex = null) {
  const stop = vertex && isShown(vertex) ? vertex : firstVertex(graph);
  for (const other of buttons(graph)) {
    (other.button ?? other.element).setAttribute("tabindex", other === stop ? 0 : -1);
  }
}

/** The vertices that can be selected. */
function buttons(graph) {
  return [...graph.vertices.values()].filter((v) => v.selectable);
}

/** Whether no threshold hides a vertex; what is hidden cannot have the focus. */
function isShown({ element }) {
  return !element.classList.contains("weak");
}

function firstVertex(graph) {
  return focusable(graph).flat()[0];
}

/** Rows of the vertices shown, bottom row first, each from left to right; heads stand with their values. */
function focusable(graph) {
  const rows = groupBy(buttons(graph).filter(isShown), (v) => v.row);
  return [...rows].sort((a, b) => a[0] - b[0]).map(([, row]) => [...row].sort(byKeys((v) => v.x)));
}

function neighbour(graph, vertex, key) {
  const rows = focusable(graph);
  const r = rows.findIndex((row) => row.includes(vertex));
  if (r < 0) return rows.flat()[0]; // it was hidden while it had the focus
  const place = rows[r].indexOf(vertex);
  if (key === "ArrowLeft") return rows[r][place - 1];
  if (key === "ArrowRight") return rows[r][place + 1];
  const next = rows[r + (key === "ArrowUp" ? 1 : -1)];
  return next && [...next].sort(byKeys((v) => Math.abs(v.x - vertex.x), (v) => v.x))[0];
}

/** Listens on the drawn graph; `select(id or null, extend)` is called when the choice changes. */
function listen(graph, svg, tip, select) {
  const at = (event) => graph.vertices.get(event.target.closest?.("[data-id]")?.dataset.id);
  svg.addEventListener("click", (event) => select(at(event)?.id ?? null, event.shiftKey));
  svg.addEventListener("pointerover", (event) => showTip(tip, at(event)));
  svg.addEventListener("pointerleave", () => showTip(tip, null));
  svg.addEventListener("focusin", (event) => showTip(tip, at(event)));
  svg.addEventListener("focusout", () => showTip(tip, null));
  svg.addEventListener("keydown", (event) => {
    const vertex = at(event);
    if (!vertex || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" || event.key === " ") select(vertex.id, event.shiftKey);
    else if (event.key.startsWith("Arrow")) {
      const next = neighbour(graph, vertex, event.key);
      if (next) {
        setTabStop(graph, next);
        (next.button ?? next.element).focus();
      }
    } else return;
    event.preventDefault();
  });
}

/** A small label beside `vertex`, within the window. */
function showTip(tip, vertex) {
  const element = vertex && (vertex.button ?? vertex.element);
  tip.hidden = !element;
  if (tip.hidden) return;
  const delta = typeof vertex.delta === "number" ? `, loss ${formatSigned(vertex.delta)} without it` : "";
  replaceContent(tip, h("strong", {}, vertex.note ? `${vertex.note} (${vertex.name})` : vertex.name),
    h("span", {}, vertex.about + (vertex.biasOnly ? ", bias only" : "") + delta));
  const mark = element.querySelector(".mark").getBoundingClientRect();
  const x = Math.min(Math.max(8, mark.left + mark.width / 2 - tip.offsetWidth / 2), innerWidth - tip.offsetWidth - 8);
  const above = mark.top - tip.offsetHeight - 8;
  tip.style.transform = `translate(${Math.round(x)}px, ${Math.round(above > 4 ? above : mark.bottom + 8)}px)`;
}
