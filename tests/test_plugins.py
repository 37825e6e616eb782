"""One registry for everything that has a name: by a decorator, or brought by another package's entry point."""

import importlib.metadata
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from katib_flow.algorithms import registry as algorithms
from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.models import edits, merges, operations, presets
from katib_flow.plugins import Registry
from katib_flow.stopping import registry as stopping

REGISTRIES: dict[str, Registry[Any]] = {
    "katib_flow.algorithms": algorithms._registry,
    "katib_flow.stopping": stopping._registry,
    "katib_flow.operations": operations.operations,
    "katib_flow.merges": merges.merges,
    "katib_flow.edits": edits.edits,
    "katib_flow.spaces": presets.presets,
}
BRINGS: dict[str, Callable[[], object]] = {
    "katib_flow.algorithms": lambda: algorithms.algorithm("brought")(lambda ask: []),
    "katib_flow.stopping": lambda: stopping.stopping_rule("brought")(lambda running: ""),
    "katib_flow.operations": lambda: operations.operation("brought")(lambda: []),
    "katib_flow.merges": lambda: merges.merge("brought", lambda shapes: shapes[0])(lambda tensors: tensors[0]),
    "katib_flow.edits": lambda: edits.edit("brought", lambda *given: {}, preserves=False)(lambda *given: given[0]),
    "katib_flow.spaces": lambda: presets.preset("brought", presets.SpaceSettings)(lambda settings: {}),
}
every_registry = pytest.mark.parametrize("group", REGISTRIES)


@pytest.fixture
def registry(group: str) -> Iterator[Registry[Any]]:
    """A registry that is as it was after the test, and has not yet looked at what other packages bring."""
    found = REGISTRIES[group]
    found.all()  # a module registers what it has but once: what is ours is there before the test
    entries, loaded = dict(found._entries), found._loaded
    found._loaded = False
    yield found
    found._entries.clear()
    found._entries.update(entries)
    found._loaded = loaded


def brings(monkeypatch: pytest.MonkeyPatch, group: str, load: Callable[[], object]) -> None:
    true = importlib.metadata.entry_points
    entry = SimpleNamespace(load=load, value="theirs.plugin")
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda **given: [entry] if given["group"] == group else true(**given)
    )


@every_registry
def test_what_another_package_brings_is_found_by_name(
    registry: Registry[Any], group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    brings(monkeypatch, group, BRINGS[group])
    found = registry.find("brought")
    assert found is not None
    assert found.name == "brought"
    assert "brought" in registry.all()


@every_registry
def test_a_package_that_does_not_import_is_told_with_the_reason(
    registry: Registry[Any], group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise OSError("no such library")

    brings(monkeypatch, group, broken)
    with pytest.raises(KatibFlowError) as told:
        registry.all()
    assert f"entry point theirs.plugin of {group}: cannot be imported: OSError: no such library" in str(told.value)


@every_registry
def test_an_unknown_name_is_told_with_the_nearest_that_there_is(group: str) -> None:
    registry = REGISTRIES[group]
    name = max(registry.all(), key=len)
    with pytest.raises(SpecError) as told:
        registry.get(f"{name}z", "here")
    assert str(told.value).startswith(f"here: found '{name}z', need {registry.what}: ")
    assert str(told.value).endswith(f"did you mean {name!r}?")
