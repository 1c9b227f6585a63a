"""Where the steps of a run stand in a picture: layers in the order of the wires, boxes that never overlap.

The layered drawing of Sugiyama, Tagawa and Toda (1981): a step stands one layer after the last that it waits for, a
wire that passes layers gets a lane of its own in each, the order within layers follows the wires' other ends, and
places are those nearest to these ends that keep the distances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_LANE = 6.0  # what a passing wire takes up across the layers
_APART = 14.0  # from one box to the next in a layer; lanes are closer together
_CLOSE = 5.0
_LAYERS = 32.0  # from one layer to the next
_SWEEPS = 8
_WIDTHS = (150.0, 130.0, 115.0, 102.0)  # of boxes, in the order in which they are tried
_HEIGHT = 62.0


@dataclass(frozen=True)
class Box:
    """A step's rectangle, in pixels from the top left."""

    name: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Wire:
    """A wire from the edge of one box to that of another: straight within layers, bent between them."""

    source: str
    target: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Picture:
    """Boxes and wires, and the room they take. `down`: layers follow each other downwards, and not to the right."""

    width: float
    height: float
    down: bool
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]


_Place = tuple[str, str, int]
"""What stands in a layer: a step (its name twice, 0), or the lane of a wire (source, target, layer)."""


def fitting(sources: Mapping[str, Sequence[str]], room: float) -> Picture:
    """The steps, each with those it is wired to, in a picture not wider than `room`, if that can be.

    Layers go to the right where there is room for that, and downwards otherwise, with boxes as wide as fit.
    """
    layers = len(_layers(sources)) or 1
    width = (room - (layers - 1) * _LAYERS) / layers
    if width >= _WIDTHS[1]:
        return lay_out(sources, (min(width, _WIDTHS[0]), _HEIGHT), down=False)
    for width in _WIDTHS:
        tall = lay_out(sources, (width, _HEIGHT), down=True, room=room)
        if tall.width <= room:
            return tall
    wide = lay_out(sources, (_WIDTHS[1], _HEIGHT), down=False)
    return tall if tall.width <= wide.width else wide


def lay_out(
    sources: Mapping[str, Sequence[str]], box: tuple[float, float], *, down: bool, room: float = math.inf
) -> Picture:
    """The picture with boxes of one size, width and height; layers are as broad as `room` lets them, if they can be."""
    layers, edges = _with_lanes(sources)
    across, along = box if down else box[::-1]
    between = _LAYERS
    places = _places(layers, edges, across, room)
    breadth = max((places[item] + _extent(item, across) / 2 for layer in layers for item in layer), default=0.0)
    boxes, at = [], {}
    for depth, layer in enumerate(layers):
        start = depth * (along + between)
        for item in layer:
            at[item] = (start, start + along, places[item])
            if _is_step(item):
                low = places[item] - across / 2
                x, y = (low, start) if down else (start, low)
                boxes.append(Box(item[0], x, y, *box))
    wires = [Wire(path[0][0], path[-1][0], tuple(_points([at[item] for item in path], down))) for path in edges]
    length = len(layers) * (along + between) - between if layers else 0.0
    width, height = (breadth, length) if down else (length, breadth)
    return Picture(width, height, down, tuple(boxes), tuple(wires))


def _points(path: Sequence[tuple[float, float, float]], down: bool) -> list[tuple[float, float]]:
    """From the end of the first box, along the lanes, to the beginning of the last."""
    along = [(path[0][1], path[0][2])]
    for start, end, place in path[1:-1]:
        along += [(start, place), (end, place)]
    along.append((path[-1][0], path[-1][2]))
    return [(place, depth) if down else (depth, place) for depth, place in along]


def _depths(sources: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The layer of each step: as early as its wires let it, and what waits for nothing right before its first user."""
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = max((depth(source) + 1 for source in sources[name]), default=0)
        return depths[name]

    for name in sources:
        depth(name)
    for name in sources:
        users = [depths[user] for user, given in sources.items() if name in given]
        if not sources[name] and users:
            depths[name] = min(users) - 1
    return depths


def _layers(sources: Mapping[str, Sequence[str]]) -> list[list[str]]:
    depths = _depths(sources)
    layers: list[list[str]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for name, depth in depths.items():
        layers[depth].append(name)
    return layers


def _with_lanes(sources: Mapping[str, Sequence[str]]) -> tuple[list[list[_Place]], list[list[_Place]]]:
    """Layers with a lane for every wire that passes them, in an order that crosses few wires; and each wire's way."""
    depths = _depths(sources)
    layers: list[list[_Place]] = [[(name, name, 0) for name in layer] for layer in _layers(sources)]
    edges = []
    for target, given in sources.items():
        for source in dict.fromkeys(given):
            lanes = [(source, target, depth) for depth in range(depths[source] + 1, depths[target])]
            for lane in lanes:
                layers[lane[2]].append(lane)
            edges.append([(source, source, 0), *lanes, (target, target, 0)])
    before, after = _neighbours(edges)
    best, fewest = layers, _crossings(layers, after)
    for sweep in range(_SWEEPS):
        order = [list(layer) for layer in best if layer]
        forwards = sweep % 2 == 0
        for depth in range(len(order)) if forwards else reversed(range(len(order))):
            ends = before if forwards else after
            rank = {item: place for layer in order for place, item in enumerate(layer)}
            order[depth].sort(key=lambda item: _mean([rank[end] for end in ends.get(item, ())], rank[item]))
        crossings = _crossings(order, after)
        if crossings <= fewest:
            best, fewest = order, crossings
    return best, edges


def _neighbours(edges: Sequence[Sequence[_Place]]) -> tuple[dict[_Place, list[_Place]], dict[_Place, list[_Place]]]:
    before: dict[_Place, list[_Place]] = {}
    after: dict[_Place, list[_Place]] = {}
    for path in edges:
        for one, next_one in pairwise(path):
            after.setdefault(one, []).append(next_one)
            before.setdefault(next_one, []).append(one)
    return before, after


def _crossings(layers: Sequence[Sequence[_Place]], after: Mapping[_Place, Sequence[_Place]]) -> int:
    count = 0
    for one, next_one in pairwise(layers):
        rank = {item: place for place, item in enumerate(next_one)}
        ends = [sorted(rank[end] for end in after.get(item, ())) for item in one]
        flat = [end for group in ends for end in group]
        count += sum(flat[i] > flat[j] for i in range(len(flat)) for j in range(i + 1, len(flat)))
    return count


def _places(
    layers: Sequence[Sequence[_Place]], edges: Sequence[Sequence[_Place]], across: float, room: float
) -> dict[_Place, float]:
    """The middle of everything across the layers, from 0 on, within `room` or what the fullest layer needs."""
    before, after = _neighbours(edges)
    offsets = [_offsets(layer, across) for layer in layers]
    needed = [given[-1] + _extent(layer[-1], across) / 2 for given, layer in zip(offsets, layers, strict=True)]
    room = max([room, *needed])
    places: dict[_Place, float] = {}
    for layer, given in zip(layers, offsets, strict=True):
        places.update(zip(layer, given, strict=True))
    for sweep in range(_SWEEPS):
        forwards = sweep % 2 == 0
        for depth in range(len(layers)) if forwards else reversed(range(len(layers))):
            near, layer = before if forwards else after, layers[depth]
            wanted = [_mean([places[end] for end in near.get(item, ())], places[item]) for item in layer]
            slack = room - needed[depth]
            places.update(zip(layer, _apart(wanted, offsets[depth], slack), strict=True))
    least = min((places[item] - _extent(item, across) / 2 for item in places), default=0.0)
    return {item: place - least for item, place in places.items()}


def _offsets(layer: Sequence[_Place], across: float) -> list[float]:
    """The middles of a layer's boxes and lanes where they stand as close as they may, from 0 on."""
    offsets = [_extent(layer[0], across) / 2]
    for one, next_one in pairwise(layer):
        gap = _APART if _is_step(one) and _is_step(next_one) else _CLOSE
        offsets.append(offsets[-1] + (_extent(one, across) + _extent(next_one, across)) / 2 + gap)
    return offsets


def _apart(wanted: Sequence[float], offsets: Sequence[float], slack: float) -> list[float]:
    """The places nearest to those wanted (in squares), at least as far apart as the offsets and at most `slack` beyond.

    That is isotonic regression with bounds, by pooling neighbours that are in each other's way.
    """
    pools: list[tuple[float, int]] = []  # mean, and how many share it
    for want, offset in zip(wanted, offsets, strict=True):
        mean, count = want - offset, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        pools.append((mean, count))
    least = 0.0 if math.isfinite(slack) else -math.inf
    flat = [min(max(mean, least), slack) for mean, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(flat, offsets, strict=True)]


def _extent(item: _Place, across: float) -> float:
    return across if _is_step(item) else _LANE


def _is_step(item: _Place) -> bool:
    return item[0] == item[1]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
