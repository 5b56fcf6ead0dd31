// The camera over a drawing: drag to pan, pinch or Ctrl + wheel to zoom, buttons and keys for both.

const ZOOM = { least: 0.05, most: 8, step: 1.3, labels: 92, narrowLabels: 48, narrow: 560 };
// Below these scales marks and words grow against it, up to so many times; names need so much room (screen pixels).
const MARKS = { still: 0.7, most: 1.9, words: 0.8, mostWords: 1.35, far: 0.48, room: 40 };

function labelWidth(width) {
  return width < ZOOM.narrow ? ZOOM.narrowLabels : ZOOM.labels;
}

// A drawing is shown at most so much enlarged and, if there is no more room, no lower than so many pixels; boxes that
// stand for many nodes are not made smaller than `least`, so that they can be read.
const FRAME = { most: 1.1, low: 480, lowest: 260, legend: 62 };

/** Height for `svg`: the whole drawing at a readable size, but as a rule no higher than what is left of the window. */
function graphHeight(layout, svg) {
  const { width, top } = svg.getBoundingClientRect(), room = width - labelWidth(width);
  const left = innerHeight - (top + scrollY) - FRAME.legend, least = Math.max(FRAME.low, layout.height * (layout.least ?? 0));
  return Math.round(Math.max(FRAME.lowest, Math.min(layout.height * Math.min(FRAME.most, room / layout.width), Math.max(least, left))));
}

/** Keeps marks and names readable at scale `k`: the style of `svg` says how far they stand against it. */
function keepReadable(svg, k, { step, spacing }) {
  const against = (still, most) => Math.min(most, Math.max(1, still / k));
  const most = Math.min(MARKS.most, (Math.min(step, spacing) - 0.5) / (2 * NODE_RADIUS)); // neighbours must not touch
  const styles = { grow: against(MARKS.still, most), words: against(MARKS.words, MARKS.mostWords), names: 1 / Math.max(1, k) };
  for (const [name, value] of Object.entries(styles)) {
    const text = value.toFixed(2);
    if (svg.style.getPropertyValue("--" + name) !== text) svg.style.setProperty("--" + name, text); // else all would be styled anew
  }
  svg.classList.toggle("from-afar", k < MARKS.far);
  svg.classList.toggle("room-for-channels", step * k >= MARKS.room);
  svg.classList.toggle("room-for-all", Math.min(step, spacing) * k >= MARKS.room);
}

/**
 * Lets `svg`, `size()` = {width, height} on the screen, show a drawing of `layout.width` x `layout.height` through
 * `camera` (an SVG group).  `moved(view, byHand)` is told of every change, view being {x, y, k}.
 */
function makeCamera(svg, camera, layout, moved) {
  let view = { x: 0, y: 0, k: 1 };
  const size = () => svg.getBoundingClientRect();
  const set = (next, byHand = true) => {
    view = { ...next, k: Math.min(ZOOM.most, Math.max(ZOOM.least, next.k)) };
    camera.setAttribute("transform", `translate(${round(view.x)} ${round(view.y)}) scale(${view.k.toFixed(4)})`);
    keepReadable(svg, view.k, layout);
    moved({ ...view, width: labelWidth(size().width) }, byHand);
  };
  const zoomAt = (factor, x, y) => {
    const k = Math.min(ZOOM.most, Math.max(ZOOM.least, view.k * factor));
    set({ x: x - ((x - view.x) * k) / view.k, y: y - ((y - view.y) * k) / view.k, k });
  };
  const fit = () => {
    const { width, height } = size(), labels = labelWidth(width), room = width - labels;
    const k = Math.min(1.3, room / layout.width, height / layout.height);
    set({ x: labels + (room - layout.width * k) / 2, y: (height - layout.height * k) / 2, k }, false);
  };
  const reveal = (vertex) => {
    const { width, height } = size(), labels = labelWidth(width);
    const x = vertex.x * view.k + view.x, y = vertex.y * view.k + view.y;
    const inside = x > labels + 12 && x < width - 12 && y > 12 && y < height - 12;
    if (!inside) set({ ...view, x: view.x + (width + labels) / 2 - x, y: view.y + height / 2 - y });
  };
  const zoom = (factor) => zoomAt(factor, size().width / 2, size().height / 2);
  const measure = () => { // one unit is one pixel, until paper is narrower than the window
    const { width, height } = size();
    if (width && height) svg.setAttribute("viewBox", `0 0 ${round(width)} ${round(height)}`);
  };
  new ResizeObserver(measure).observe(svg);
  listenToPointers(svg, () => view, set, zoomAt);
  return { fit, reveal, set, zoom, get view() { return view; } };
}

function listenToPointers(svg, view, set, zoomAt) {
  const down = new Map();
  const place = (event) => {
    const box = svg.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // plain scrolling is the page's
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY * 0.004), place(event).x, place(event).y);
  }, { passive: false });
  svg.addEventListener("pointerdown", (event) => {
    if (!down.size) svg.classList.remove("dragged");
    if (event.button === 0) down.set(event.pointerId, place(event));
  });
  svg.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) return;
    const now = place(event);
    if (down.size === 1) {
      const far = Math.hypot(now.x - before.x, now.y - before.y);
      if (!svg.classList.contains("dragged") && far < 5) return; // a click, so far
      svg.classList.add("dragged");
      if (!svg.hasPointerCapture(event.pointerId)) svg.setPointerCapture(event.pointerId);
      set({ ...view(), x: view().x + now.x - before.x, y: view().y + now.y - before.y });
    } else {
      const [, other] = [...down].find(([id]) => id !== event.pointerId);
      const spread = (a) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
      svg.classList.add("dragged");
      zoomAt(spread(now) / spread(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
    }
    down.set(event.pointerId, now);
  });
  for (const kind of ["pointerup", "pointercancel"]) svg.addEventListener(kind, (event) => down.delete(event.pointerId));
  svg.addEventListener("click", (event) => { // the click that ends a drag selects nothing
    if (svg.classList.contains("dragged")) event.stopImmediatePropagation();
    svg.classList.remove("dragged");
  }, { capture: true });
}
