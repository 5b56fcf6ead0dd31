// Selecting, hovering and walking through a drawn graph.

/** Lights the paths through vertex `id` and fades the rest; null lights everything. */
function showSelection(graph, svg, id) {
  const chosen = graph.vertices.get(id);
  const paths = chosen && pathsThrough(chosen);
  svg.classList.toggle("selecting", Boolean(chosen));
  const lit = (element, on) => element && element.classList.toggle("lit", Boolean(on));
  const onWay = (vertex) => paths && (paths.below.has(vertex) || paths.above.has(vertex));
  for (const vertex of buttons(graph)) {
    lit(vertex.element, onWay(vertex));
    vertex.element.classList.toggle("selected", vertex === chosen);
    vertex.element.setAttribute("aria-pressed", String(vertex === chosen));
  }
  for (const { hub, members } of graph.heads) lit(hub.element, members.some(onWay));
  for (const link of graph.links) lit(link.element, paths && onPath(paths, link));
  for (const { element, links } of graph.railPieces) lit(element, paths && links.some((l) => onPath(paths, l)));
  setTabStop(graph, chosen || firstVertex(graph));
}

/** Of all vertices exactly one can be reached by Tab; the arrow keys move on from there. */
function setTabStop(graph, vertex) {
  for (const other of buttons(graph)) other.element.setAttribute("tabindex", other === vertex ? 0 : -1);
}

/** The vertices that can be selected. */
function buttons(graph) {
  return [...graph.vertices.values()].filter((v) => v.selectable);
}

function firstVertex(graph) {
  return focusable(graph).flat()[0];
}

/** Rows of vertices, bottom row first, each from left to right. */
function focusable(graph) {
  const rows = [...graph.rows].sort((a, b) => a[0] - b[0]).map(([, row]) => row.filter((v) => v.selectable));
  return rows.filter((row) => row.length).map((row) => [...row].sort(byKeys((v) => v.x)));
}

function neighbour(graph, vertex, key) {
  const rows = focusable(graph);
  const r = rows.findIndex((row) => row.includes(vertex));
  const place = rows[r].indexOf(vertex);
  if (key === "ArrowLeft") return rows[r][place - 1];
  if (key === "ArrowRight") return rows[r][place + 1];
  const next = rows[r + (key === "ArrowUp" ? 1 : -1)];
  return next && [...next].sort(byKeys((v) => Math.abs(v.x - vertex.x), (v) => v.x))[0];
}

/** Listens on the drawn graph; `select(id or null)` is called when the choice changes. */
function listen(graph, svg, tip, select) {
  const at = (event) => graph.vertices.get(event.target.closest?.("[data-id]")?.dataset.id);
  svg.addEventListener("click", (event) => select(at(event)?.id ?? null));
  svg.addEventListener("pointerover", (event) => showTip(tip, at(event)));
  svg.addEventListener("pointerleave", () => showTip(tip, null));
  svg.addEventListener("focusin", (event) => showTip(tip, at(event)));
  svg.addEventListener("focusout", () => showTip(tip, null));
  svg.addEventListener("keydown", (event) => {
    const vertex = at(event);
    if (!vertex) return;
    if (event.key === "Enter" || event.key === " ") select(vertex.id);
    else if (event.key === "Escape") select(null);
    else if (event.key.startsWith("Arrow")) {
      const next = neighbour(graph, vertex, event.key);
      if (next) {
        setTabStop(graph, next);
        next.element.focus();
      }
    } else return;
    event.preventDefault();
  });
}

/** Scrolls until `vertex` is seen in the graph's card and, vertically, clear of what covers the window's foot. */
function reveal(vertex, scroller, pane) {
  const mark = vertex.element.querySelector(".mark").getBoundingClientRect();
  const card = scroller.getBoundingClientRect();
  if (mark.left < card.left + 90 || mark.right > card.right - 10) {
    scroller.scrollLeft += mark.left - card.left - card.width / 2;
  }
  const below = pane.getBoundingClientRect();
  const covers = below.left < card.right && below.top < innerHeight;
  const foot = covers ? below.top : innerHeight;
  if (mark.top < 10 || mark.bottom > foot - 10) scrollBy(0, mark.top - foot / 2);
}

/** A small label beside `vertex`, within the window. */
function showTip(tip, vertex) {
  tip.hidden = !vertex || !vertex.element;
  if (tip.hidden) return;
  replaceContent(tip, h("strong", {}, vertex.name),
    h("span", {}, vertex.biasOnly ? vertex.about + ", bias only" : vertex.about));
  const mark = vertex.element.querySelector(".mark").getBoundingClientRect();
  const x = Math.min(Math.max(8, mark.left + mark.width / 2 - tip.offsetWidth / 2), innerWidth - tip.offsetWidth - 8);
  const above = mark.top - tip.offsetHeight - 8;
  tip.style.transform = `translate(${Math.round(x)}px, ${Math.round(above > 4 ? above : mark.bottom + 8)}px)`;
}
