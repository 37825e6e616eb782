"""A Katib manifest whose trials' template stands in a ConfigMap: as if it stood under trialSpec."""

# ruff: noqa: E501 - a case of a table stands on one line or two

from typing import Any

import pytest
from katib_manifests import Data, good, notes, parsed

from katib_flow.errors import InvalidSpec, KatibFlowError
from katib_flow.spec.config_maps import Absent, ConfigMaps, NotNow, first_of, in_text
from katib_flow.spec.load import parse
from katib_flow.spec.yaml12 import dump_yaml

AT = "spec.trialTemplate.configMap"


def template(job: Any = None) -> str:
    return dump_yaml(good()["spec"]["trialTemplate"]["trialSpec"] if job is None else job)


def manifest(**changes: Any) -> Data:
    data = good()
    trial = data["spec"]["trialTemplate"]
    del trial["trialSpec"]
    trial["configMap"] = {"configMapName": "templates", "configMapNamespace": "kubeflow", "templatePath": "a.yaml"}
    trial["configMap"] = {key: value for key, value in (trial["configMap"] | changes).items() if value is not None}
    return data


def config_map(name: str = "templates", namespace: str | None = "kubeflow", **data: str) -> str:
    where = {} if namespace is None else {"namespace": namespace}
    return dump_yaml(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **where}, "data": {"a.yaml": template(), **data}}
    )  # fmt: skip


def read(data: Data, config_maps: ConfigMaps) -> Any:
    return parse(dump_yaml(data), "k.yaml", [], config_maps)


def mistakes(data: Data, config_maps: ConfigMaps) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        read(data, config_maps)
    return [str(item) for item in caught.value.problems]


def test_the_template_is_read_as_if_it_stood_in_the_manifest() -> None:
    here = read(manifest(), in_text(config_map(), "cm.yaml"))
    assert here.experiment == parsed(good()).experiment
    assert notes(here) == []


def test_the_config_map_may_stand_in_the_same_file() -> None:
    text = f"{config_map()}---\n{dump_yaml(manifest())}"
    assert parse(text).experiment == parsed(good()).experiment


@pytest.mark.parametrize(
    "text",
    [
        f"{config_map('other')}---\n{config_map()}---\n{config_map(namespace='another', **{'a.yaml': 'no'})}",
        dump_yaml({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Secret"}]}) + "---\n" + config_map(),
        config_map(namespace=None),
        f"{config_map(namespace=None, **{'a.yaml': 'no'})}---\n{config_map()}",
    ],
)
def test_a_file_may_hold_several_objects(text: str) -> None:
    assert read(manifest(), in_text(text, "cm.yaml")).experiment == parsed(good()).experiment


@pytest.mark.parametrize(("own", "namespace"), [("ml", "ml"), (None, "default")])
def test_a_namespace_that_is_left_out_is_that_of_the_experiment(own: str | None, namespace: str) -> None:
    asked: list[tuple[str, str]] = []

    def config_maps(*names: str) -> dict[str, str]:
        asked.append(names)  # pyright: ignore[reportArgumentType]
        return {"a.yaml": template()}

    data = manifest(configMapNamespace=None)
    data["metadata"] = {"name": "digits", **({"namespace": own} if own else {})}
    read(data, config_maps)
    assert asked == [(namespace, "templates")]


@pytest.mark.parametrize(
    ("config_maps", "said"),
    [
        (in_text(config_map("temples"), "cm.yaml"), "the namespace kubeflow: cm.yaml has only temples"),
        (in_text(config_map(namespace="ml"), "cm.yaml"), "cm.yaml has it only in ml"),
        (first_of(in_text("", "a.yaml"), in_text("", "b.yaml")), "a.yaml has no ConfigMap; b.yaml has no ConfigMap"),
    ],
)  # fmt: skip
def test_a_config_map_that_is_nowhere_is_told(config_maps: ConfigMaps, said: str) -> None:
    (only,) = mistakes(manifest(), config_maps)
    assert only.startswith(
        f"{AT}.configMapName: found 'templates', need the name of a ConfigMap in the namespace kubeflow"
    )
    assert said in only


def test_where_nobody_is_asked_it_says_what_to_do() -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse(dump_yaml(manifest()))
    (only,) = caught.value.problems
    assert "pass its manifest with --config-map, or put the template under trialSpec" in str(only)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"b.yaml": "x"}, "a key of ConfigMap kubeflow/templates: it has b.yaml; did you mean 'b.yaml'?"),
        ({}, "a key of ConfigMap kubeflow/templates: it has no keys"),
        ({"a.yaml": 3}, "a key of ConfigMap kubeflow/templates: it has a.yaml"),
        (
            {"a.yaml": "a: 1\nb: ["},
            "a key with a YAML document (ConfigMap kubeflow/templates, a.yaml:2: not readable as",
        ),
        ({"a.yaml": "- 1"}, "a key with a Kubernetes object, not [1]"),
        ({"a.yaml": ""}, "a key with a YAML document (ConfigMap kubeflow/templates, a.yaml: found nothing"),
    ],
)
def test_a_key_that_is_no_template_is_told(data: Any, said: str) -> None:
    (only,) = mistakes(manifest(), lambda namespace, name: data)
    assert only.startswith(f"{AT}.templatePath: found 'a.yaml', need {said}")


def test_another_error_of_who_is_asked_is_told_too() -> None:
    def config_maps(namespace: str, name: str) -> Any:
        raise KatibFlowError("no cluster")

    (only,) = mistakes(manifest(), config_maps)
    assert only == f"{AT}.configMapName: found 'templates', need a readable ConfigMap (no cluster), or its manifest passed " \
        "with --config-map"  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"configMapName": None}, f"{AT}.configMapName: found nothing, need a value; it is required"),
        ({"templatePath": None}, f"{AT}.templatePath: found nothing, need a value; it is required"),
        ({"key": "a.yaml"}, f"{AT}.key: found 'key', need a known key, one of configMapName, configMapNamespace, templatePath"),
    ],
)  # fmt: skip
def test_what_names_the_config_map_is_checked(changes: Data, said: str) -> None:
    (only,) = mistakes(manifest(**changes), in_text(config_map(), "cm.yaml"))
    assert only == said


def test_a_template_in_two_places_is_told() -> None:
    data = manifest()
    data["spec"]["trialTemplate"]["trialSpec"] = good()["spec"]["trialTemplate"]["trialSpec"]
    (only,) = mistakes(data, in_text(config_map(), "cm.yaml"))
    assert only.startswith(f"{AT}: found ")
    assert only.endswith("need no configMap, because trialSpec has the template")


def test_a_mistake_in_the_template_is_told_where_it_stands() -> None:
    job = good()["spec"]["trialTemplate"]["trialSpec"]
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["x", "${trialParameters.rate}"]
    job["metadata"] = {"name": "mine"}
    said = mistakes(manifest(), lambda namespace, name: {"a.yaml": template(job)})
    at = f"{AT}[templates/a.yaml]"
    assert said == [
        f"{at}.metadata.name: found 'mine', need no name, because each trial gets its own",
        f"{at}.spec.template.spec.containers[0].command[1]: found '${{trialParameters.rate}}', need a name in "
        "trialParameters: learningRate",
    ]
    del job["metadata"]
    (only,) = mistakes(manifest(), lambda namespace, name: {"a.yaml": template(job)})
    assert only.startswith(
        f"{AT}[templates/a.yaml].spec.template.spec.containers[0].command[1]: found '${{trialParameters.rate}}'"
    )
    job["spec"]["template"]["spec"]["containers"][0] |= {
        "command": ["x"],
        "env": [{"name": "A", "value": "${{trial.x}}"}],
    }
    job["spec"]["template"]["spec"]["containers"][0]["image"] = 3
    (only,) = mistakes(manifest(), lambda namespace, name: {"a.yaml": template(job)})
    assert only.startswith(f"{AT}[templates/a.yaml].spec.template.spec.containers[0].image: found 3")


def not_now(namespace: str, name: str) -> Any:
    raise NotNow("no kubeconfig")


def absent(namespace: str, name: str) -> Any:
    raise Absent("gone")


def test_what_cannot_be_asked_now_is_a_note() -> None:
    data = manifest()
    trial = data["spec"]["trialTemplate"]
    trial["trialParameters"].append({"name": "app", "reference": "${trialSpec.Labels[app]}"})
    (said,) = notes(read(data, not_now))
    assert said == (
        "trial: the template, a.yaml of ConfigMap kubeflow/templates, is read from the cluster when the experiment is "
        "compiled or submitted, or from --config-map FILE; it is not checked now: no kubeconfig"
    )


@pytest.mark.parametrize("config_maps", [not_now, absent])
def test_the_rest_is_judged_without_the_template(config_maps: ConfigMaps) -> None:
    data = manifest()
    data["spec"]["trialTemplate"]["trialParameters"][0]["reference"] = "rate"
    data["spec"]["maxTrialCount"] = 0
    said = mistakes(data, config_maps)
    assert [item for item in said if item.startswith("spec.maxTrialCount: found 0")]
    assert [item for item in said if item.startswith("spec.trialTemplate.trialParameters[0].reference: found 'rate'")]
    assert len(said) == (2 if config_maps is not_now else 3)


@pytest.mark.parametrize("metadata", ["name: {}", "{}", "3"])
def test_a_config_map_without_a_name_is_told(metadata: str) -> None:
    text = f"kind: ConfigMap\napiVersion: v1\nmetadata: {'{' + metadata + '}' if ':' in metadata else metadata}\n"
    with pytest.raises(KatibFlowError, match=r"cm.yaml: metadata.name of a ConfigMap: found .*, need its name"):
        in_text(text, "cm.yaml")
