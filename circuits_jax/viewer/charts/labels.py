"""Where labels of points go, so that none lies on a mark, a line or another label."""

from collections.abc import Sequence

Box = tuple[float, float, float, float]  # left, top, right, bottom
_GAP = 9.0  # between a point and its label


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    taken: Sequence[Box],
    bounds: Box,
) -> list[Box]:
    """A box for each label, beside its point.

    Each label in turn takes, of places around its point, near before far, the one that overlaps least with
    what is there.

    Args:
      anchors: The points, in pixels.
      sizes: (width, height) of each label.
      taken: Boxes of marks and of parts of lines.
      bounds: Of the picture; what sticks out counts as overlapping.
    """
    placed: list[Box] = []
    for (x, y), (width, height) in zip(anchors, sizes, strict=True):
        places = [
            (x + dx - share * width, y + dy - height / 2, x + dx + (1 - share) * width, y + dy + height / 2)
            for reach in (1.0, 1.8, 2.8)
            for dx, dy, share in _around(reach * _GAP, height)
        ]
        costs = [_cost(place, [*taken, *placed], bounds) for place in places]
        placed.append(places[costs.index(min(costs))])
    return placed


def boxes_along(points: Sequence[tuple[float, float]], half: float = 3.0) -> list[Box]:
    """Small boxes that cover the line through the points, in steps of twice their half width."""
    found = []
    for (x, y), (x2, y2) in zip(points, points[1:], strict=False):
        steps = max(1, int(max(abs(x2 - x), abs(y2 - y)) / (2 * half)))
        for i in range(steps + 1):
            px, py = x + (x2 - x) * i / steps, y + (y2 - y) * i / steps
            found.append((px - half, py - half, px + half, py + half))
    return found


def _around(gap: float, height: float) -> list[tuple[float, float, float]]:
    """(dx, dy, share of the width that lies left of there) of the places around a point, the best first."""
    up = gap + height / 2
    return [
        (gap, 0, 0.0), (-gap, 0, 1.0), (0, -up, 0.5), (0, up, 0.5),
        (gap, -up * 0.7, 0.0), (gap, up * 0.7, 0.0), (-gap, -up * 0.7, 1.0), (-gap, up * 0.7, 1.0),
    ]  # fmt: skip


def _cost(box: Box, taken: Sequence[Box], bounds: Box) -> float:
    """The area that lies on what is taken, and out of bounds."""
    inside = _shared(box, bounds)
    outside = (box[2] - box[0]) * (box[3] - box[1]) - inside
    return sum(_shared(box, other) for other in taken) + 4 * outside


def _shared(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
