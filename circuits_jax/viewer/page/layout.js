// Where everything stands.  Every residual channel has one column in all layers, so that its rail is straight;
// neurons, heads and answers settle above the columns they are joined to.  Nothing is random: barycenter sweeps,
// ties broken by index, the arrangement with the fewest crossings kept, then neighbours exchanged (uncross.js).

// `foot` is for the slanting words; where a drawing of `room` pixels is too small for them, `bare` is left of it.
const SPACE = {
  sweeps: 24, maxColumn: 62, node: 22, maxNode: 46, headPad: 11, head: 14, bare: 24,
  wide: { aspect: 1.35, column: 21, foot: 130 },
  half: { aspect: 1.3, column: 19, foot: 130 },
  narrow: { aspect: 0.7, column: 16, foot: 104, room: 300 },
};

/**
 * Sets x and y on every vertex; returns {width, height, step: between columns, rowY: Map of row to y, boxes of the heads,
 * foot}.  `shape` is SPACE.wide, or SPACE.half or SPACE.narrow where there is less room.
 */
function layOut(graph, shape = SPACE.wide) {
  if (graph.aggregated) return layOutGroups(graph);
  const columns = [...graph.channels.keys()];
  const heights = rowHeights(graph), up = Math.max(0, ...heights.values());
  const width = (shape.aspect * up) / Math.max(1, columns.length);
  const step = Math.min(SPACE.maxColumn, Math.max(shape.column, width));
  graph.spacing = Math.min(SPACE.maxNode, Math.max(SPACE.node, step));
  const groups = movableGroups(graph);
  let best = { crossings: Infinity };
  for (const vertex of graph.vertices.values()) vertex.x = (columns.length * step) / 2;
  placeColumns(graph, columns, step);
  for (let sweep = 0; sweep <= SPACE.sweeps; sweep++) {
    for (const group of groups) placeGroup(group, (columns.length * step) / 2);
    const crossings = countCrossings(graph);
    if (crossings < best.crossings) best = { crossings, x: [...graph.vertices.values()].map((v) => v.x) };
    if (crossings === 0) break;
    columns.sort(byKeys((c) => columnPull(graph.channels.get(c)), (c) => c));
    placeColumns(graph, columns, step);
  }
  [...graph.vertices.values()].forEach((vertex, i) => (vertex.x = best.x[i]));
  uncross(graph, groups);
  for (const group of groups) placeGroup(group, (columns.length * step) / 2, true);
  return { ...finish(graph, heights, shape), step, spacing: graph.spacing };
}

function byKeys(...keys) {
  return (a, b) => {
    for (const key of keys) {
      const difference = key(a) - key(b);
      if (difference) return difference;
    }
    return 0;
  };
}

/** Rows that move: per row its units, each {members, width, tie}; a head is one unit of three rows. */
function movableGroups(graph) {
  const groups = [];
  for (const row of [...graph.rows.keys()].sort((a, b) => a - b)) {
    const free = graph.rows.get(row).filter(movesAlone);
    const unit = (v) => ({
      members: [v], width: v.kind === "answer" ? MARKS.most * answerWidth(v) : graph.spacing, tie: v.index ?? v.token ?? 0,
    });
    if (free.length) groups.push({ units: free.map(unit) });
  }
  for (const heads of groupBy(graph.heads, (head) => head.layer).values()) {
    groups.push({ units: heads.map((head) => headUnit(head, graph.spacing)) });
  }
  return groups;
}

function movesAlone(vertex) {
  return vertex.location === "mlp.post_act" || vertex.kind === "answer";
}

function headUnit({ head, hub, members }, spacing) {
  const rows = [...groupBy(members, (v) => v.location).values()];
  const widest = Math.max(...rows.map((row) => row.length));
  return { members, rows, hub, spacing, tie: head, width: widest * spacing + 2 * SPACE.headPad + SPACE.head };
}

function placeColumns(graph, columns, step) {
  columns.forEach((channel, i) => {
    for (const vertex of graph.channels.get(channel)) vertex.x = (i + 0.5) * step;
  });
}

/** Mean x of what `members` are joined to by weights, or `otherwise`. */
function pull(members, otherwise) {
  let sum = 0, count = 0;
  for (const member of members) {
    for (const link of member.ins) if (isWeighted(link)) { sum += link.source.x; count++; }
    for (const link of member.outs) if (isWeighted(link)) { sum += link.target.x; count++; }
  }
  return count ? sum / count : otherwise;
}

function columnPull(members) {
  return pull(members, members[0].x);
}

function placeGroup({ units }, middle, inOrder = false) {
  for (const unit of units) unit.want = pull(unit.members, middle);
  if (!inOrder) units.sort(byKeys((unit) => unit.want, (unit) => unit.tie));
  const centers = spread(units.map((unit) => unit.want), units.map((unit) => unit.width));
  units.forEach((unit, i) => {
    if (!unit.rows) unit.members[0].x = centers[i];
    else placeHead(unit, centers[i]);
  });
}

function placeHead(unit, center) {
  unit.hub.x = center;
  for (const row of unit.rows) {
    const wants = new Map(row.map((v) => [v, pull([v], center)]));
    row.sort(byKeys((v) => wants.get(v), (v) => v.index));
    row.forEach((v, i) => (v.x = center + (i - (row.length - 1) / 2) * unit.spacing));
  }
}

/** Centers nearest to `wants` (least squares), in their order, that leave room for `widths`: isotonic regression. */
function spread(wants, widths) {
  const offsets = [];
  widths.forEach((width, i) => offsets.push(i ? offsets[i - 1] + (widths[i - 1] + width) / 2 : 0));
  const blocks = [];
  wants.forEach((want, i) => {
    blocks.push({ sum: want - offsets[i], count: 1 });
    while (blocks.length > 1) {
      const [a, b] = blocks.slice(-2);
      if (a.sum / a.count <= b.sum / b.count) break;
      blocks.splice(-2, 2, { sum: a.sum + b.sum, count: a.count + b.count });
    }
  });
  return blocks.flatMap(({ sum, count }) => Array(count).fill(sum / count)).map((x, i) => x + offsets[i]);
}

/** Pairs of weighted links between the same two rows that cross. */
function countCrossings(graph) {
  const weighted = graph.links.filter(isWeighted);
  const gaps = groupBy(weighted, (link) => link.source.row * 1e4 + link.target.row);
  let crossings = 0;
  for (const links of gaps.values()) crossings += inversions(links);
  return crossings;
}

/** Links ordered by source, counted by a Fenwick tree over the ranks of their targets. */
function inversions(links) {
  const targets = [...new Set(links.map((link) => link.target.x))].sort((a, b) => a - b);
  const rank = new Map(targets.map((x, i) => [x, i + 1]));
  const ordered = [...links].sort(byKeys((link) => link.source.x, (link) => link.target.x));
  const tree = new Array(targets.length + 1).fill(0);
  let found = 0;
  ordered.forEach((link, seen) => {
    let notRight = 0;
    for (let i = rank.get(link.target.x); i > 0; i -= i & -i) notRight += tree[i];
    found += seen - notRight;
    for (let i = rank.get(link.target.x); i <= targets.length; i += i & -i) tree[i]++;
  });
  return found;
}

/** Map of row to its height above the lowest; the more links between two rows the further apart they are. */
function rowHeights(graph) {
  const used = [...graph.rows.keys()].sort((a, b) => a - b);
  const heights = new Map();
  let up = 0;
  used.forEach((row, i) => {
    if (i) up += gapBetween(graph, used[i - 1], row);
    heights.set(row, up);
  });
  return heights;
}

/** Puts the rows at their heights, and moves everything into view. */
function finish(graph, heights, shape) {
  const margin = { left: 22, right: graph.rows.has(0) ? 96 : 28, top: 54 }; // words slant to the right
  const used = [...heights.keys()], up = Math.max(0, ...heights.values());
  const all = [...graph.vertices.values()];
  const boxes = graph.heads.map((head) => ({ ...head, ...headSpan(head) }));
  const reach = (v) => (v.kind === "answer" ? 40 : 12);
  const left = all.length ? Math.min(...all.map((v) => v.x - reach(v)), ...boxes.map((box) => box.left)) : 0;
  const right = all.length ? Math.max(...all.map((v) => v.x + reach(v)), ...boxes.map((box) => box.right)) : 0;
  const width = Math.ceil(right - left + margin.left + margin.right), tall = margin.top + up;
  const tooSmall = shape.room && Math.min(shape.room / width, FRAME.low / (tall + shape.foot)) < MARKS.far;
  const foot = graph.rows.has(0) && !tooSmall ? shape.foot : SPACE.bare;
  const move = margin.left - left;
  const y = (row) => tall - heights.get(row);
  for (const vertex of all) {
    vertex.x = round(vertex.x + move);
    if (vertex.kind !== "hub") vertex.y = y(vertex.row);
  }
  for (const box of boxes) placeBox(box, move);
  return {
    boxes, foot, width, height: tall + foot, rowY: new Map(used.map((row) => [row, y(row)])),
  };
}

function round(x) {
  return Math.round(x * 10) / 10;
}

function gapBetween(graph, below, above) {
  const place = (row) => (row - 1) % LOCATIONS.length;
  const side = (v) => v.kind !== "node" || v.channel !== null;
  const residual = (row) => graph.rows.get(row).every(side) && row !== graph.answerRow;
  if (residual(below) && residual(above)) return below === 0 ? 40 : 60;
  const bothInHeads = above < graph.finalRow && [1, 2].includes(place(below)) && [2, 3].includes(place(above));
  if (bothInHeads) return place(above) === 3 ? 40 : 26;
  const between = graph.links.filter((l) => isWeighted(l) && (l.source.row === below || l.target.row === above));
  return Math.round(Math.min(104, 50 + 4 * Math.sqrt(between.length)));
}

function headSpan({ members }) {
  const xs = members.map((v) => v.x);
  const pad = SPACE.node / 2 + SPACE.headPad - 3;
  return { left: Math.min(...xs) - pad, right: Math.max(...xs) + pad };
}

function placeBox(box, move) {
  const ys = box.members.map((v) => v.y);
  box.left = round(box.left + move);
  box.right = round(box.right + move);
  box.top = Math.min(...ys) - 15;
  box.bottom = Math.max(...ys) + 15;
  const valueY = box.members.filter((v) => v.location === "attn.v").map((v) => v.y);
  box.hub.x = round((box.left + box.right) / 2);
  box.hub.y = valueY.length ? valueY[0] + 20 : box.top;
}
