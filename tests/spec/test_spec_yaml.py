"""YAML 1.2 text as plain data with lines, bounded and safe."""

import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from katib_flow.errors import KatibFlowError
from katib_flow.spec.yaml12 import MAX_DEPTH, dump_yaml, load_yaml


def refusal(text: str) -> str:
    with pytest.raises(KatibFlowError) as caught:
        load_yaml(text, "f.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            ("1e-3", 0.001),
            ("1.0e-4", 1e-4),
            ("1E3", 1000.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("-.inf", -math.inf),
            ("+1.5", 1.5),
        ],
        *[("0", 0), ("-12", -12), ("+3", 3), ("07", 7), ("08", 8), ("00", 0), ("0o17", 15), ("0x1F", 31)],
        *[("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("NULL", None)],
        *[
            (word, word)
            for word in ("on", "off", "yes", "no", "y", "n", "On", "1_000", "12:30", "2001-01-01", "0b1", "=")
        ],
        *[(word, word) for word in ("1.2.3", "e3", ".e3", "tRUE", "none", "0o8", "-0x1", "<<", "nan", "inf")],
        *[("'1'", "1"), ('"true"', "true"), ("!!str 1", "1"), ("!!float 1", 1.0), ("!!int '7'", 7)],
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(text, value):
    data = load_yaml(f"key: {text}").data["key"]
    assert (type(data), data) == (type(value), value)


def test_not_a_number_is_a_number():
    assert math.isnan(load_yaml(".nan").data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yaml: found nothing, need a spec"),
        ("# a comment\n", "f.yaml: found nothing, need a spec"),
        ("a: 1\nb: 2\na: 3", "f.yaml:3: not readable as YAML: duplicate key 'a', first on line 1"),
        ("x:\n  a: 1\n  'a': 2", "f.yaml:3: not readable as YAML: duplicate key 'a', first on line 2"),
        ("a: 1\n2: 3", "f.yaml:2: not readable as YAML: a key must be text; quote 2"),
        ("true: 3", "f.yaml:1: not readable as YAML: a key must be text; quote True"),
        ("? [a]\n: 1", "f.yaml:1: not readable as YAML: a key must be text; quote ['a']"),
        ("? {a: 1}\n: 1", "f.yaml:1: not readable as YAML: a key must be text; quote {'a': 1}"),
        ("a: b: c", "f.yaml:1: not readable as YAML: mapping values are not allowed here"),
        ("a: [1, 2", "f.yaml:1: not readable as YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n---\nb: 2", "f.yaml:3: found 2 documents, none of them a Katib experiment; need one spec per file"),
        ("\ta: 1", "f.yaml:1: not readable as YAML: found character '\\t' that cannot start any token; use spaces"),
        ("a: 1\nb: \0", "f.yaml:2: not readable as YAML: U+0000 is not allowed in text"),
        ("a: *b", "f.yaml:1: not readable as YAML: found undefined alias 'b'"),
        ("\na: !!int x", "f.yaml:2: not readable as YAML: 'x' is not of the type 'int'"),
        ("a: !!float x", "f.yaml:1: not readable as YAML: 'x' is not of the type 'float'"),
        ("a: !!bool x", "f.yaml:1: not readable as YAML: 'x' is not of the type 'bool'"),
        ("a: !!map x", "f.yaml:1: not readable as YAML: 'x' is not of the type 'map'"),
        ("a: !!seq x", "f.yaml:1: not readable as YAML: expected a sequence node, but found scalar"),
        ("a: !!str {b: c}", "f.yaml:1: not readable as YAML: expected a scalar node, but found mapping"),
        ("a: " + "9" * 5000, f"f.yaml:1: not readable as YAML: '{'9' * 40}' is not of the type 'int'"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_yaml_is_refused_with_its_line(text, message):
    assert refusal(text) == message


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!set", "!!binary", "!!timestamp", "!mine"]
)
def test_nothing_but_plain_data_is_built(tag):
    assert "could not determine a constructor" in refusal(f"a: {tag} {{b: c}}")


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [*x]",
        "a: &x {b: [*x]}",
        "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 60)),
        "big: &big [" + "x, " * 100 + "]\nmany: [" + "*big, " * 100 + "]",
        "a: [" + "1, " * 5_000 + "]",
    ],
    ids=["itself", "itself-deeper", "doubling", "wide", "long"],
)
def test_a_tree_that_would_outgrow_memory_is_refused(text, monkeypatch):
    monkeypatch.setattr("katib_flow.spec.yaml12.MAX_VALUES", 5_000)  # to read 200,000 values takes seconds
    assert refusal(text) == "f.yaml: found more than 5,000 values with aliases expanded, need fewer"


@pytest.mark.parametrize("text", ["[" * 50_000, "a: " + "[" * 5000 + "]" * 5000, "{a: " * 3000 + "1" + "}" * 3000])
def test_endless_nesting_is_refused(text):
    assert f"need at most {MAX_DEPTH}" in refusal(text)


def test_nesting_by_aliases_is_counted_in_full():
    deep = "".join(f"a{k}: &a{k} {'[' * 40}{f'*a{k - 1}' if k else 'x'}{']' * 40}\n" for k in range(3))
    assert refusal(deep) == f"f.yaml: found 122 levels of nesting, need at most {MAX_DEPTH}"


def test_an_alias_stands_for_what_it_names():
    assert load_yaml("a: &x {b: 1}\nc: [*x, *x]").data == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}


TEXT = """\
# comment
name: x
parameters:
  lr: {type: float,
       min: 1}
  a.b:
    type: int
  a: {c: 1}
trial:
  command:
    - train
    - {x: 1}
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        *[
            ("", 2),
            ("name", 2),
            ("parameters", 3),
            ("parameters.lr", 4),
            ("parameters.lr.type", 4),
            ("parameters.lr.min", 5),
        ],
        *[("parameters.a.b", 6), ("parameters.a.b.type", 7), ("trial.command[0]", 11), ("trial.command[1].x", 12)],
        *[
            ("parameters.lr.max", 4),
            ("parameters.a", 8),
            ("parameters.a.c", 8),
            ("parameters.ab", 3),
            ("limits.max_trials", 2),
            ("trial.name", 9),
        ],
    ],
)
def test_a_path_has_the_line_of_the_deepest_part_that_is_there(path, line):
    assert load_yaml(TEXT).line(path) == line


def test_a_character_that_json_writes_as_a_pair_is_one_character():
    assert load_yaml(json.dumps({"\U0001f600": "a\U0001f600"})).data == {"\U0001f600": "a\U0001f600"}


@pytest.mark.parametrize(
    "text", ["0x" + "f" * 5_000, "9" * 400, "-" + "9" * 400, "0o" + "7" * 5_000, "[1, " + "9" * 5_000 + "]"]
)
def test_a_whole_number_that_no_float_comes_near_to_is_refused(text):
    assert refusal(f"a: 1\nb: {text}\n").startswith("f.yaml:2: not readable as YAML: ")


def test_the_largest_whole_numbers_that_a_float_comes_near_to_are_read():
    assert load_yaml(str(10**308)).data == 10**308
    assert load_yaml(str(2**1024 - 1)).data == 2**1024 - 1


@pytest.mark.parametrize("text", [r'"\ud83d"', r'"\ude00\ud83d"', r'{"\ud83d": 1}'])
def test_half_a_character_is_refused(text):
    assert "is not of the type 'str'" in refusal(text)


def test_a_byte_order_mark_is_no_part_of_the_text():
    assert load_yaml("\ufeffname: x").data == {"name": "x"}


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
HARD = [
    "1e-3",
    "0o7",
    "on",
    "~",
    "",
    " ",
    "=",
    "<<",
    "- a",
    "a: b",
    "# no",
    "1_000",
    "12:30",
    "\x85",
    "\u2028",
    "\ufeff",
    "a\n b\n\n",
]


@given(plain.filter(lambda data: data is not None) | st.sampled_from(HARD) | st.lists(st.sampled_from(HARD)))
def test_data_reads_back_as_it_was_written(data):
    assert load_yaml(dump_yaml(data)).data == data


@given(plain)
def test_what_is_written_means_the_same_in_yaml_1_1(data):
    assert yaml.safe_load(dump_yaml(data)) == data


@given(st.text())
def test_any_text_is_read_or_refused_in_words(text):
    try:
        load_yaml(text)
    except KatibFlowError as error:
        assert str(error).startswith("<text>:")  # noqa: PT017 - most texts are read


@given(st.text(alphabet="ab01-:,[]{}&*!?|>%'\" \n#~.<", max_size=30))
def test_any_punctuation_is_read_or_refused_in_words(text):
    try:
        load_yaml(text)
    except KatibFlowError as error:
        assert str(error).startswith("<text>:")  # noqa: PT017


# what users' files and Kubernetes' tools write

OBJECT = "apiVersion: kubeflow.org/v1beta1\nkind: Experiment\n"


def test_an_end_mark_and_empty_documents_are_no_documents():
    assert load_yaml("---\na: 1\n---\n").data == load_yaml("---\n---\na: 1\n...\n").data == {"a": 1}


def test_of_several_objects_the_one_experiment_is_taken_with_its_lines():
    document = load_yaml(f"kind: PersistentVolumeClaim\n---\n{OBJECT}")
    assert (document.data["kind"], document.line("kind")) == ("Experiment", 4)


def test_the_one_experiment_in_a_list_is_taken_with_its_lines_and_numbers_as_kubernetes_reads_them():
    listed = "apiVersion: v1\nitems:\n- {kind: Job}\n- apiVersion: v1\n  kind: Experiment\n  mode: 0755\nkind: List\n"
    document = load_yaml(listed)
    assert (document.data["kind"], document.line("kind")) == ("Experiment", 5)
    assert document.data["mode"] == 0o755
    assert load_yaml("kind: List\nitems: [1]\n").data == {"kind": "List", "items": [1]}  # no object of Kubernetes


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("apiVersion: v1\nkind: List\nitems: []", "f.yaml: found nothing, need a spec"),
        ("apiVersion: v1\nkind: List\nitems: 1", "f.yaml: found nothing, need a spec"),
        (f"{OBJECT}---\n{OBJECT}", "f.yaml:4: found 2 documents, 2 of them Katib experiments; need one spec per file"),
        ("a: 1\n---\nb: 2\n", "f.yaml:3: found 2 documents, none of them a Katib experiment; need one spec per file"),
    ],
)
def test_several_specs_in_a_file_are_refused(text, found):
    with pytest.raises(KatibFlowError) as caught:
        load_yaml(text, "f.yaml")
    assert str(caught.value) == found


def test_merge_keys_merge_and_what_stands_beside_them_comes_first():
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: *a, x: 3}\nd:\n  <<: [*a, *b]\ne: {<<: {<<: *a, w: 0}}\n"
    data = load_yaml(text).data
    assert (data["c"], data["d"]) == ({"x": 3, "y": 1}, {"x": 1, "y": 1, "z": 2})
    assert data["e"] == {"x": 1, "y": 1, "w": 0}
    assert load_yaml("{'<<': 1}").data == {"<<": 1}


@pytest.mark.parametrize("value", ["1", "[1]", "text"])
def test_what_cannot_be_merged_is_told_on_its_line(value):
    with pytest.raises(KatibFlowError, match=r"f\.yaml:2: .*'<<' needs a mapping"):
        load_yaml(f"a: 1\n<<: {value}\n", "f.yaml")


def test_a_leading_nought_is_octal_in_an_object_of_kubernetes_and_nowhere_else():
    assert load_yaml("apiVersion: v1\nmode: 0755\nkey: 0400\nday: 08\nnought: 0").data == {
        "apiVersion": "v1", "mode": 493, "key": 256, "day": 8, "nought": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("text", "octal"), [("0755", 493), ("-010", -8), ("+0400", 256)])
def test_a_leading_nought_that_the_versions_of_yaml_read_differently_is_refused(text: str, octal: int):
    with pytest.raises(KatibFlowError) as told:
        load_yaml(f"key: 1\nmode: {text}", "f.yaml")
    assert f"f.yaml:2: not readable as YAML: {text} is {octal} in YAML 1.1 and {int(text)} in YAML 1.2" in str(
        told.value
    )
    assert load_yaml(f"mode: '{text}'").data == {"mode": text}
