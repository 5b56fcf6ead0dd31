// Line charts; those over steps have losses on the left axis and a count or share on a logarithmic right axis.

const CHART = { width: 720, height: 300, left: 64, right: 66, top: 16, bottom: 42 };

function trainingChart({ loss, validation_loss: validation, l0 }) {
  const losses = [{ name: "training loss", kind: "loss", points: loss }, { name: "validation loss", kind: "validation", points: validation, dots: true }];
  return stepChart("Training curve", losses, { name: "L0", kind: "l0", points: l0 });
}

/** How a circuit's masks were learnt: rows [step, nodes, loss of the batch]. */
function pruningChart(history) {
  return stepChart("Pruning curve", [{ name: "task loss", kind: "loss", points: history.map(([step, , loss]) => [step, loss]) }],
    { name: "nodes", kind: "l0", points: history.map(([step, nodes]) => [step, nodes]) });
}

/** Lines {name, kind, points, dots} of losses over steps, and one of something else. */
function stepChart(name, losses, other) {
  const left = losses.flatMap(({ points }) => points), right = { ...other, points: other.points.filter(([, v]) => v > 0) };
  const every = [...left, ...right.points].filter(([, y]) => y !== null);
  if (every.length < 2) return h("p", { class: "quiet" }, `No ${name.toLowerCase()} was recorded.`);
  const steps = every.map(([x]) => x), drawn = [...losses, right].filter(({ points }) => points.length);
  const x = linear(Math.min(...steps), Math.max(...steps), CHART.left, CHART.width - CHART.right), low = CHART.height - CHART.bottom;
  const svg = s("svg", {
    class: "chart", viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img",
    "aria-label": [name, ...drawn.map((line) => `${line.name} ends at ${formatNumber(line.points.at(-1)[1])}`)].join("; "),
  });
  svg.append(axisX(x, low));
  if (left.length) {
    const y = leftScale(left.map(([, v]) => v).filter((v) => v !== null), low);
    svg.append(axisY(y, "left", "loss (nats)"), ...losses.map(({ points, kind }) => curveLine(points, x, y, kind)));
    for (const { points, kind } of losses.filter((line) => line.dots && line.points.length <= 60)) {
      points.forEach(([step, v]) => svg.append(s("circle", { class: kind, cx: x(step), cy: y(v), r: 2.4 })));
    }
  }
  if (right.points.length) {
    const y = logScale(right.points.map(([, v]) => v), low);
    svg.append(axisY(y, "right", `${right.name} (log)`), curveLine(right.points, x, y, right.kind));
  }
  return h("figure", { class: "chart-box" }, svg, h("figcaption", {}, drawn.map((line) =>
    h("span", {}, h("i", { class: "key " + line.kind }), `${line.name} `, h("b", {}, formatNumber(line.points.at(-1)[1]))))));
}

/** A function from [from, to] to [start, end], with its ticks. */
function linear(from, to, start, end) {
  const size = to - from || 1;
  const scale = (value) => round(start + ((value - from) / size) * (end - start));
  scale.ticks = niceTicks(from, to);
  return scale;
}

function niceTicks(from, to, count = 5) {
  const raw = (to - from || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
  const ticks = [];
  for (let i = Math.ceil(from / step); i * step <= to + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** Losses from just below the least to the highest; a few early peaks are not allowed to flatten the rest. */
function leftScale(values, low) {
  const sorted = [...values].sort((a, b) => a - b);
  const [least, most] = [sorted[0], sorted.at(-1)];
  const pad = (most - least) * 0.06 || 0.1;
  return linear(Math.max(0, least - pad), most + pad, low, CHART.top);
}

function logScale(values, low) {
  const from = Math.log10(Math.min(...values)), to = Math.log10(Math.max(...values));
  const line = linear(from - 0.08 * (to - from || 1), to + 0.08 * (to - from || 1), low, CHART.top);
  const scale = (value) => line(Math.log10(value));
  const decades = [];
  for (let power = Math.floor(from) - 1; power <= Math.ceil(to); power++) {
    for (const digit of [1, 2, 5]) decades.push(digit * 10 ** power);
  }
  const inside = decades.filter((v) => scale(v) <= low && scale(v) >= CHART.top);
  scale.ticks = inside.map((v) => Number(v.toPrecision(3)));
  return scale;
}

/** One left axis, any number of lines {name, kind, points, dots}, and level marks [name, y]. */
function lineChart({ name, x: xName, y: yName, logX = false, lines, marks }) {
  const points = lines.flatMap((line) => line.points), low = CHART.height - CHART.bottom;
  const turn = logX ? Math.log2 : (v) => v, xs = points.map(([v]) => turn(v));
  const line = linear(Math.min(...xs), Math.max(...xs), CHART.left, CHART.width - CHART.right);
  const x = (v) => line(turn(v));
  const all = [...new Set(points.map(([v]) => v))].sort((a, b) => a - b);
  x.ticks = logX ? all.filter((v, i) => i === all.length - 1 || x(all[i + 1]) - x(v) > 26) : line.ticks;
  const y = linear(0, Math.max(...points.map(([, v]) => v), ...marks.map(([, v]) => v)) * 1.05, low, CHART.top);
  return h("figure", { class: "chart-box" },
    s("svg", { class: "chart", viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", "aria-label": `${name}: ` + lines.map((each) => `${each.name} from ${formatNumber(each.points[0][1])} to ${formatNumber(each.points.at(-1)[1])}`).join("; ") },
      axisX(x, low, xName), axisY(y, "left", yName),
      marks.map(([what, v]) => [s("line", { class: "level", x1: CHART.left, x2: CHART.width - CHART.right, y1: y(v), y2: y(v) }),
        s("text", { x: CHART.width - CHART.right + 5, y: y(v), dy: "0.32em" }, what)]),
      lines.map((each) => [curveLine(each.points, x, y, each.kind),
        each.dots ? each.points.map(([a, b]) => s("circle", { class: each.kind, cx: x(a), cy: y(b), r: 2.6 }, s("title", {}, `${formatNumber(a)}: ${formatNumber(b)}`))) : null])),
    h("figcaption", {}, lines.map((each) => h("span", {}, h("i", { class: "key " + each.kind }), each.name))));
}

function axisX(x, low, name = "step") {
  const middle = (CHART.left + CHART.width - CHART.right) / 2;
  return s("g", { class: "axis" },
    s("line", { x1: CHART.left, x2: CHART.width - CHART.right, y1: low, y2: low }),
    x.ticks.map((step) => s("text", { x: x(step), y: low + 16, "text-anchor": "middle" }, formatNumber(step))),
    s("text", { class: "axis-name", x: middle, y: CHART.height - 6, "text-anchor": "middle" }, name));
}

function axisY(y, side, name) {
  const left = side === "left";
  const at = left ? CHART.left : CHART.width - CHART.right;
  const edge = left ? 13 : CHART.width - 11;
  const middle = (CHART.height - CHART.bottom + CHART.top) / 2;
  return s("g", { class: "axis " + side },
    y.ticks.map((value) => [
      left ? s("line", { class: "grid", x1: at, x2: CHART.width - CHART.right, y1: y(value), y2: y(value) }) : null,
      s("text", { x: left ? at - 8 : at + 8, y: y(value), dy: "0.32em", "text-anchor": left ? "end" : "start" }, String(value)),
    ]),
    s("text", { class: "axis-name", transform: `translate(${edge} ${middle}) rotate(-90)`, "text-anchor": "middle" }, name));
}

function curveLine(points, x, y, kind) {
  const known = points.filter(([, value]) => value !== null);
  return s("polyline", { class: "curve " + kind, points: known.map(([step, value]) => `${x(step)},${y(value)}`).join(" ") });
}
