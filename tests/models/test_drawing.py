"""The picture of a topology: sound SVG that shows every operation, and what changed since the parent."""

import xml.etree.ElementTree as ET

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
    drawn = [edge for edge in topology.graphs["net"].edges if edge.op != "skip"]
    places = [tuple(float(box.get(each)) for each in ("x", "y", "width", "height")) for box in boxes(picture)]
    assert len(places) == len(drawn)
    assert all(x >= 0 and x + w <= width and y + h <= height for x, y, w, h in places)
    for number, (x, y, w, _) in enumerate(places):
        others = [place for place in places[number + 1 :] if place[1] == y]
        assert all(x + w <= other[0] or other[0] + other[2] <= x for other in others)


@pytest.mark.parametrize("name", [name for name in presets() if name != "katib"])
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


def test_a_layout_puts_each_node_below_those_it_depends_on():
    made = layout({"a": 10, "b": 30, "c": 10}, [("a", "b"), ("b", "c"), ("a", "c")])
    assert made.at["a"].y < made.at["b"].y < made.at["c"].y
    assert len(made.lines[2]) == 3  # the long one bends around b
    assert abs(made.lines[2][1].x - made.at["b"].x) >= 30 / 2
