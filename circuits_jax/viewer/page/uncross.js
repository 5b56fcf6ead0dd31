// Fewer crossings: neighbours in a row change places wherever that uncrosses more links than it crosses.

const UNCROSS_PASSES = 20;

/** Exchanges neighbouring columns and neighbouring units of `groups`, which are left in their order from left to right. */
function uncross(graph, groups) {
  const rows = [[...graph.channels.values()].map((members) => ({ members })), ...groups.map((group) => group.units)];
  for (const row of rows) row.sort(byKeys((unit) => middleOf(unit)));
  let better = true;
  for (let pass = 0; better && pass < UNCROSS_PASSES; pass++) {
    better = false;
    for (const row of rows) {
      for (let i = 0; i + 1 < row.length; i++) {
        if (crossedBetween(row[i], row[i + 1]) <= 0) continue;
        exchange(row, i);
        better = true;
      }
    }
  }
}

function middleOf({ members }) {
  const xs = members.map((v) => v.x);
  return (Math.min(...xs) + Math.max(...xs)) / 2;
}

/** Pairs of links, one of each unit, that cross as `left` stands left of `right`, less those that would the other way. */
function crossedBetween(left, right) {
  const ends = groupBy(farEnds(right), (end) => end.gap);
  let crossed = 0;
  for (const { gap, x } of farEnds(left)) for (const other of ends.get(gap) ?? []) crossed += Math.sign(x - other.x);
  return crossed;
}

/** Where the weighted links of a unit lead: {gap: between which rows, x}. */
function farEnds({ members }) {
  return members.flatMap((v) => [
    ...v.ins.filter(isWeighted).map((l) => ({ gap: l.source.row * 1e4 + l.target.row, x: l.source.x })),
    ...v.outs.filter(isWeighted).map((l) => ({ gap: l.source.row * 1e4 + l.target.row, x: l.target.x })),
  ]);
}

/** Two columns take each other's place; of units of different width the middles do, until they are spread anew. */
function exchange(row, i) {
  const [left, right] = [row[i], row[i + 1]], distance = middleOf(right) - middleOf(left);
  for (const v of left.members) v.x += distance;
  for (const v of right.members) v.x -= distance;
  [row[i], row[i + 1]] = [right, left];
}
