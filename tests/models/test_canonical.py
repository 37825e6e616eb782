import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import OPERATIONS, PAIRS, cell, dags, mean, net

from katib_flow.models import Topology
from katib_flow.models.canonical import values

END = mean("a")


def hash_of(vertices, edges):
    return Topology.parse(net(vertices, edges)).hash


def string_of(code, operations=OPERATIONS):
    """A cell as the code of NAS-Bench-201 writes it to tell cells apart (``to_unique_str``, zeros considered)."""
    nodes = ["0"]
    for node in (1, 2, 3):
        terms = []
        for (a, b), op in zip(PAIRS, code, strict=True):
            if b == node:
                name = operations[op]
                zero = name == "none" or nodes[a] == "#"
                terms.append("#" if zero else nodes[a] if name == "skip" else f"({nodes[a]})@{name}")
        nodes.append("+".join(sorted(terms)))
    return nodes[3]


def test_the_cells_of_nas_bench_201_have_as_many_strings_as_was_published():
    assert len({string_of(code) for code in itertools.product(range(5), repeat=6)}) == 6466


@pytest.mark.slow
def test_the_cells_of_five_operations_are_5260_networks():
    assert len({cell(code).hash for code in itertools.product(range(5), repeat=6)}) == 5260


def test_the_cells_of_four_operations_are_941_networks():
    four = ("none", "skip", "conv3", "avg3")
    by_hash = {}
    for code in itertools.product(range(4), repeat=6):
        by_hash.setdefault(cell(code, four).hash, set()).add(cell(code, four).parameters)
    assert len(by_hash) == 941
    assert all(len(parameters) == 1 for parameters in by_hash.values())


def test_two_convolutions_of_one_value_are_not_one_used_twice():
    two = hash_of({"a": "add"}, [("1", "x", "a", "conv3"), ("2", "x", "a", "conv3"), mean("a")])
    once = hash_of(
        {"u": "add", "v": "add", "a": "add"},
        [
            ("1", "x", "u", "conv3"),
            ("2", "u", "v", "skip"),
            ("3", "u", "a", "skip"),
            ("4", "v", "a", "skip"),
            mean("a"),
        ],
    )
    assert two != once


def test_two_poolings_of_one_value_are_one_used_twice():
    two = hash_of({"a": "add"}, [("1", "x", "a", "avg3"), ("2", "x", "a", "avg3"), mean("a")])
    edges = [("1", "x", "u", "avg3"), ("3", "u", "a", "skip"), ("4", "u", "a", "skip"), mean("a")]
    assert two == hash_of({"u": "add", "a": "add"}, edges)


def test_weights_shared_by_name_are_part_of_the_hash():
    def chain(first, second):
        data = net({"a": "add", "b": "add"}, [("1", "x", "a", "conv3"), ("2", "a", "b", "conv3"), mean("b")])
        data["graphs"]["net"]["edges"][0]["weights"] = first
        data["graphs"]["net"]["edges"][1]["weights"] = second
        return Topology.parse(data)

    assert chain("u", "v").hash != chain("u", "u").hash
    assert chain("u", "u").hash == chain("w", "w").hash
    assert chain("u", "u").parameters * 2 == chain("u", "v").parameters


def test_sums_of_sums_are_sums_and_stacks_keep_their_order():
    nested = [
        ("1", "x", "a", "conv3"),
        ("2", "x", "a", "conv1"),
        ("3", "a", "b", "skip"),
        ("4", "x", "b", "avg3"),
        mean("b"),
    ]
    flat = [("1", "x", "b", "conv3"), ("2", "x", "b", "conv1"), ("4", "x", "b", "avg3"), mean("b")]
    assert hash_of({"a": "add", "b": "add"}, nested) == hash_of({"b": "add"}, flat)
    one, other = ("1", "x", "a", "conv1"), ("2", "x", "a", "avg3")
    end = [("3", "a", "b", "conv1", {"c": 4}), mean("b")]
    stacked = {"a": "concat", "b": "add"}
    assert hash_of(stacked, [one, other, *end]) != hash_of(stacked, [other, one, *end])


def test_what_leads_nowhere_and_what_is_zero_do_not_count():
    plain = hash_of({"a": "add"}, [("1", "x", "a", "conv3"), mean("a")])
    more = [("1", "x", "a", "conv3"), ("2", "x", "a", "none"), ("3", "a", "dead", "conv5"), mean("a")]
    assert plain == hash_of({"a": "add", "dead": "add"}, more)


def test_a_module_of_ones_own_goes_by_its_name_and_parameters():
    from katib_flow.models.layers import Module
    from katib_flow.models.operations import operation

    hashes = set()
    for _ in range(2):  # a new function each time, as in another process

        @operation("test-own")
        def own(size=1):
            return [Module(lambda shape: size, count=lambda shape: size)]

        made = hash_of({"a": "add"}, [("1", "x", "a", "test-own", {"size": 2}), mean("a")])
        assert made != hash_of({"a": "add"}, [("1", "x", "a", "test-own", {"size": 3}), mean("a")])
        hashes.add(made)
    assert len(hashes) == 1


def test_many_branches_alike_are_told_apart_in_reasonable_time():
    def branches(order):
        edges = []
        for n in order:
            edges += [
                (f"a{n}", "x", f"u{n}", "conv3"),
                (f"b{n}", f"u{n}", f"v{n}", "sep3"),
                (f"c{n}", f"v{n}", "s", "conv1"),
            ]
        vertices = {f"{kind}{n}": "add" for n in order for kind in "uv"}
        return hash_of({**vertices, "s": "add"}, [*edges, mean("s")])

    assert branches(range(10)) == branches([3, 1, 4, 9, 2, 6, 5, 8, 7, 0])


@settings(max_examples=150)
@given(data=dags(most=6), seed=st.integers(0, 999))
def test_names_and_the_order_of_edges_that_are_summed_do_not_change_the_hash(data, seed):
    rng = random.Random(seed)
    graph = data["graphs"]["net"]
    vertices = list(graph["vertices"])
    names = {"x": "x"} | {name: f"w{number}" for number, name in enumerate(rng.sample(vertices, len(vertices)))}
    edges = [{**edge, "src": names[edge["src"]], "dst": names[edge["dst"]]} for edge in graph["edges"]]
    merges = {names[vertex]: merge for vertex, merge in graph["vertices"].items()}
    stacked = [edge for edge in edges if merges[edge["dst"]] == "concat"]
    free = [edge for edge in edges if edge not in stacked]
    rng.shuffle(free)
    edges = [{**edge, "id": f"e{number}"} for number, edge in enumerate(free + stacked)]
    renamed = {"vertices": merges, "edges": edges, "output": names["y"]}
    assert Topology.parse({**data, "graphs": {"net": renamed}}).hash == Topology.parse(data).hash


def test_networks_of_equal_hash_compute_the_same_after_their_weights_are_carried_over():
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    groups = {}
    rng = random.Random(0)
    for _ in range(600):
        made = cell(tuple(rng.randrange(5) for _ in PAIRS))
        groups.setdefault(made.hash, []).append(made)
    images, compared = torch.randn(3, 4, 8, 8), 0
    for group in groups.values():
        for other in group[1:4]:
            one, two = build(group[0], seed=1), build(other, seed=2)
            assert one.topology.parameters == two.topology.parameters
            for source, target in corresponding(group[0], other):
                two.operations[target].load_state_dict(one.operations[source].state_dict())
            torch.testing.assert_close(one(images), two(images), atol=1e-5, rtol=1e-4)
            compared += 1
    assert compared > 50


def corresponding(one, other):
    """Pairs of edges that carry the same weights in two networks of one hash, found by trying every way."""
    first, second = (trained(each) for each in (one, other))
    wanted = expression(one, {name: number for number, name in enumerate(first)})
    for order in itertools.permutations(range(len(second))):
        if expression(other, dict(zip(second, order, strict=True))) == wanted:
            return [(first[number], name) for name, number in zip(second, order, strict=True)]
    raise AssertionError("equal hashes, but no way to see one network in the other")


def trained(topology):
    return [value.weights for value in values(topology.flat, topology.shapes)[0] if value.weights]


def expression(topology, weights):
    """What a network computes as a nested expression, its weights numbered."""
    made, output = values(topology.flat, topology.shapes)
    texts = []
    for value in made:
        reads = [texts[read] for read in value.reads]
        texts.append(
            f"{value.label}{weights.get(value.weights, '')}({','.join(reads if value.ordered else sorted(reads))})"
        )
    return texts[output] if output is not None else ""


def test_small_networks_have_one_hash_where_a_renaming_makes_one_of_the_other_and_else_two():
    """Against brute force: every network of three vertices of trained operations, under every order of its vertices."""
    inner = ("a", "b", "c")
    names = ("conv1", "conv3")
    ends = [("x", "a"), ("a", "b"), ("x", "b"), ("b", "c"), ("a", "c")]
    forms: dict[str, set[Any]] = {}
    for operations in itertools.product((None, *names), repeat=len(ends)):
        edges = [(src, dst, op) for (src, dst), op in zip(ends, operations, strict=True) if op is not None]
        if not any(dst == "c" for _, dst, _ in edges):
            continue
        listed = [(f"{src}{dst}", src, dst, op) for src, dst, op in edges]
        used = {vertex for src, dst, _ in edges for vertex in (src, dst)} - {"x"}
        if any(all(dst != vertex for _, dst, _ in edges) for vertex in used):
            continue  # a vertex that nothing leads to
        made = hash_of(dict.fromkeys(used, "add"), [*listed, mean("c")])
        live = [each for each in edges if leads(each[1], "c", edges) and leads("x", each[0], edges)]
        renamed = {
            tuple(sorted((name[src], name[dst], op) for src, dst, op in live))
            for order in itertools.permutations(inner)
            if (name := {"x": "x", **dict(zip(inner, order, strict=True))})["c"] == "c"
        }
        forms.setdefault(made, set()).add(frozenset(renamed))
    assert len(forms) > 50
    assert all(len(classes) == 1 for classes in forms.values())
    classes = [form for found in forms.values() for form in found]
    assert len(classes) == len(set(classes))


def leads(src, dst, edges):
    return src == dst or any(leads(other, dst, edges) for start, other, _ in edges if start == src)
