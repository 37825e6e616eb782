"""The picture of a topology: sound SVG that shows every operation, and what changed since the parent."""

import xml.etree.ElementTree as ET
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from nets import dags, mean, net

from katib_flow.models import Topology
from katib_flow.models.drawing import svg
from katib_flow.models.layout import layout
from katib_flow.models.presets import presets, space_of
from katib_flow.spec.sections import Architecture

NAMESPACE = "{http://www.w3.org/2000/svg}"


def boxes(picture: str) -> list[ET.Element]:
    return [each for each in ET.fromstring(picture).iter(f"{NAMESPACE}rect") if each.get("class", "").startswith("op")]


@settings(max_examples=30)
@given(dags())
def test_every_operation_has_a_box_inside_the_picture_and_none_covers_another(data):
    topology = Topology.parse(data)
    picture = svg(topology)
    width, height = (float(ET.fromstring(picture).get(side)) for side in ("width", "height"))
    drawn = [edge for edge in topology.graphs["net"].edges if edge.op not in ("skip", "none")]
    places = [tuple(float(box.get(each)) for each in ("x", "y", "width", "height")) for box in boxes(picture)]
    assert len(places) == len(drawn)
    assert all(x >= 0 and x + w <= width and y + h <= height for x, y, w, h in places)
    for number, (x, y, w, _) in enumerate(places):
        others = [place for place in places[number + 1 :] if place[1] == y]
        assert all(x + w <= other[0] or other[0] + other[2] <= x for other in others)


@pytest.mark.parametrize("name", [name for name in presets.all() if name != "katib"])
def test_the_presets_are_drawn(name):
    space = space_of(Architecture(space=name))
    assert boxes(svg(space.topology(space.draw(np.random.default_rng(0)))))


def test_what_is_new_since_the_parent_is_marked_and_what_is_gone_is_named():
    edges = [("1", "x", "a", "conv3"), ("2", "x", "a", "conv1"), mean("a")]
    parent = Topology.parse(net({"a": "add"}, edges))
    other = [("1", "x", "a", "conv3", {"d": 2}), ("3", "x", "a", "sep3"), mean("a")]
    picture = svg(Topology.parse(net({"a": "add"}, other)), parent)
    assert [box.get("class") for box in boxes(picture)] == ["op changed", "op new", "op"]
    assert "gone: 2" in picture
    assert {box.get("class") for box in boxes(svg(parent, parent))} == {"op"}


def test_names_are_text_and_never_markup():
    edges = [("<script>", "x", "a&b", "conv3"), ("out", "a&b", "y", "global-mean")]
    picture = svg(Topology.parse(net({"a&b": "add"}, edges, name="<b>")))
    assert "<script>" not in picture
    assert ET.fromstring(picture) is not None


def test_what_gives_nothing_is_not_drawn():
    cell = {"inputs": ["0"], "output": "1", "vertices": {"1": "add"}, "edges": []}
    zeros = {**cell, "edges": [{"id": "z", "src": "0", "dst": "1", "op": "none"}]}
    edges = [("1", "x", "a", "conv3"), ("2", "x", "a", "none"), ("3", "x", "a", "@zeros"), mean("a")]
    data = net({"a": "add"}, edges)
    topology = Topology.parse({**data, "graphs": {**data["graphs"], "zeros": zeros}})
    picture = svg(topology)
    assert len(boxes(picture)) == 2
    assert "zeros" not in picture
    with_conv = Topology.parse(net({"a": "add"}, [*edges[:1], ("2", "x", "a", "conv1"), mean("a")]))
    assert "gone: 2" in svg(topology, with_conv)


def test_vertices_where_lines_meet_have_their_names_and_lines_their_arrowheads():
    edges = [
        ("1", "x", "early", "conv3"),
        ("2", "early", "late", "conv1"),
        ("3", "early", "late", "sep3"),
        mean("late"),
    ]
    picture = svg(Topology.parse(net({"early": "add", "late": "add"}, edges)))
    texts = [text.text for text in ET.fromstring(picture).iter(f"{NAMESPACE}text")]
    assert {"x", "early", "late", "y", "+"} <= set(texts)
    paths = [path.get("class") for path in ET.fromstring(picture).iter(f"{NAMESPACE}path")]
    assert paths.count("arrow") == paths.count("link") == 8


def chain(ranks: int, skips: list[tuple[int, int]]) -> tuple[dict, list]:
    names = [f"v{rank}" for rank in range(ranks)]
    links = [*pairwise(names), *((names[src], names[dst]) for src, dst in skips)]
    return dict.fromkeys(names, 20.0), links


@pytest.mark.parametrize("ranks", [1, 16, 17, 33, 100])
def test_a_tall_drawing_is_folded_into_columns_of_about_one_length(ranks):
    places = layout(*chain(ranks, []))
    columns = Counter(point.x for point in places.at.values())
    assert len(columns) == -(-ranks // 16)
    assert max(columns.values()) <= 16
    assert max(columns.values()) - min(columns.values()) <= 1
    assert all(0 <= point.x <= places.width and 0 < point.y < places.height for point in places.at.values())


def test_a_fold_cuts_where_the_fewest_lines_pass_and_every_cut_line_has_two_ends():
    places = layout(*chain(20, [(0, 12), (1, 12), (14, 19)]))
    assert places.at["v13"].y < places.at["v12"].y
    cut = [line for line in places.lines if not (line.starts and line.ends)]
    assert sorted((line.link, line.starts, line.ends) for line in cut) == [
        (link, starts, not starts) for link in sorted({line.link for line in cut}) for starts in (False, True)
    ]
    for line in places.lines:
        assert all(one.y < other.y for one, other in pairwise(line.points))


def test_a_cut_line_says_where_it_comes_from_and_where_it_goes_to():
    names = [f"v{number}" for number in range(20)]
    edges = [
        (f"e{number}", one, other, f"conv{1 + 2 * (number % 2)}")
        for number, (one, other) in enumerate(pairwise(["x", *names]))
    ]
    picture = svg(Topology.parse(net(dict.fromkeys(names, "add"), [*edges, ("far", "x", "v19", "sep3"), mean("v19")])))
    texts = [text.text or "" for text in ET.fromstring(picture).iter(f"{NAMESPACE}text")]
    assert sorted(text for text in texts if text.startswith("to ")) == ["to conv3", "to v19"]
    assert sorted(text for text in texts if text.startswith("from ")) == ["from conv1", "from x"]


def test_a_layout_puts_each_node_below_those_it_depends_on():
    places = layout({"a": 10, "b": 30, "c": 10}, [("a", "b"), ("b", "c"), ("a", "c")])
    assert places.at["a"].y < places.at["b"].y < places.at["c"].y
    assert len(places.lines[2].points) == 3  # the long one bends around b
    assert abs(places.lines[2].points[1].x - places.at["b"].x) >= 30 / 2
