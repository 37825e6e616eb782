"""Search spaces by name: a preset turns settings into a template (see ``Space``). A template in a file works as well.

A preset's settings are the operations to choose from, its sizes and its depth; the defaults are small enough for two
cores.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.models.operations import operations
from katib_flow.models.space import Space
from katib_flow.plugins import Registry, Settings, summary_of
from katib_flow.spec.model import Count, Text
from katib_flow.spec.problems import problems, spec_errors
from katib_flow.spec.sections import Architecture

Template = dict[str, Any]
TOKENS = 97
"""Number of tokens of the built-in texts: 95 printable characters, the newline, and one for everything else."""
Make = Callable[[Any], Template]


def _known(name: str) -> str:
    try:
        operations.get(name, "")
    except SpecError as problem:
        raise problems([problem]) from None
    return name


Operations = Annotated[tuple[Annotated[Text, AfterValidator(_known)], ...], Field(min_length=1)]


class ImageSettings(Settings):
    """The settings of every preset for images."""

    shape: tuple[Count, Count, Count] = (1, 8, 8)
    """Shape of an image: channels, height, width."""
    classes: Count = 10

    @property
    def ends(self) -> Template:
        """Input and output of the network, as part of a template."""
        return {"input": {"shape": list(self.shape)}, "output": {"classes": self.classes}}


class SpaceSettings(ImageSettings):
    """The settings of every preset for convolutional networks."""

    channels: Count = 8
    """Output channels of the stem; doubled at each reduction."""


class TextSettings(Settings):
    """The settings of every preset for text, whose networks predict the next token."""

    tokens: Count = TOKENS
    """Number of different tokens; the built-in texts have 97."""
    features: Count = 64
    """Size of a token's embedding, and of a state."""

    @property
    def ends(self) -> Template:
        """Input and output of the network, as part of a template."""
        return {"input": {"tokens": self.tokens}, "output": {"classes": self.tokens}}


@dataclass(frozen=True)
class Preset:
    """A search space with a name.

    Attributes:
        make: from settings to a template.
        summary: one line about it, for lists.
    """

    name: str
    make: Make
    settings: type[ImageSettings] | type[TextSettings]
    summary: str


presets = Registry[Preset]("a template, or a space by name", "katib_flow.spaces", ("katib_flow.models.spaces",))
"""Every search space that has a name, by name."""


def preset(name: str, settings: type[ImageSettings] | type[TextSettings]) -> Callable[[Make], Make]:
    """Register a function from settings to a template as a search space."""

    def register(make: Make) -> Make:
        presets.add(Preset(name, make, settings, summary_of(make)))
        return make

    return register


def space_of(architecture: Architecture) -> Space:
    """The search space of a spec's ``architecture``.

    Raises:
        InvalidSpec: the preset is unknown, does not accept the settings, or the template has mistakes; it names the
            paths in the spec.
    """
    return _space(architecture.model_dump_json())


@lru_cache(maxsize=16)
def _space(text: str) -> Space:
    architecture = Architecture.model_validate_json(text)
    named, settings = architecture.space, architecture.settings
    if isinstance(named, str):
        template = _template(named, settings)
        try:
            return Space({"name": named, **template})
        except InvalidSpec as invalid:
            raise InvalidSpec("", [_by_setting(problem, settings) for problem in invalid.problems]) from None
    if settings:
        need = "no settings, because only a space given by name has any"
        raise InvalidSpec("", [SpecError("architecture.settings", dict(settings), need)])
    try:
        return Space(named)
    except InvalidSpec as invalid:
        mistakes = [
            SpecError(f"architecture.space.{problem.where}", problem.found, problem.need)
            for problem in invalid.problems
        ]
        raise InvalidSpec("", mistakes) from None


def _template(name: str, settings: Mapping[str, Any]) -> Template:
    try:
        known = presets.get(name, "architecture.space")
    except SpecError as problem:
        raise InvalidSpec("", [problem]) from None
    try:
        return known.make(known.settings.model_validate(settings))
    except ValidationError as error:
        wrong = spec_errors(error, known.settings, settings, at=("architecture", "settings"))
        raise InvalidSpec("", wrong) from None


def _by_setting(problem: SpecError, settings: Mapping[str, Any]) -> SpecError:
    """A mistake in the template, at the path of the setting with the wrong value, if exactly one setting has it."""
    paths = list(_paths(problem.found, settings, "architecture.settings")) if isinstance(problem.found, str) else []
    where = paths[0] if len(paths) == 1 else "architecture.settings"
    return SpecError(where, problem.found, f"{problem.need} (in {problem.where})")


def _paths(value: object, data: Any, path: str) -> Iterator[str]:
    """The paths of a value in plain data."""
    if isinstance(data, Mapping):
        for key, inner in data.items():
            yield from _paths(value, inner, f"{path}.{key}")
    elif isinstance(data, list | tuple):
        for position, inner in enumerate(data):
            yield from _paths(value, inner, f"{path}[{position}]")
    elif data == value:
        yield path


def network(settings: ImageSettings | TextSettings, graphs: Template, slots: Template, **more: Any) -> Template:
    """A template of graphs and slots, with the ends of the settings; ``more`` are other fields of a template."""
    return {"schema": "topology/1", **settings.ends, "graphs": graphs, "slots": slots, **more}


def edge(src: Any, dst: Any, op: Any, name: str = "", /, **params: Any) -> Template:
    """An edge of a template; its default id is ``<src>><dst>``."""
    link = {"id": name or f"{src}>{dst}", "src": src, "dst": dst, "op": op}
    return {**link, "params": params} if params else link


def slot(name: str) -> Template:
    """A reference to a slot, which stands for its value in a template."""
    return {"slot": name}


def stages_of(settings: SpaceSettings, stages: int, cells: int, op: str, *, sized: bool = False) -> Template:
    """The graph of a network: a stem, stages of cells with one input, a reduction between stages, and a head.

    Args:
        cells: cells of each stage.
        op: the operation of a cell, such as ``@cell``.
        sized: whether each cell gets its number of channels as ``$c``.
    """
    channels = settings.channels
    edges = [edge("x", "stem", "conv", "stem", c=channels, order="conv-bn")]
    here = "stem"
    for stage in range(stages):
        if stage:
            channels *= 2
            edges.append(edge(here, f"r{stage}", "reduce", f"reduce{stage}", c=channels))
            here = f"r{stage}"
        for number in range(cells):
            there = f"c{stage}.{number}"
            edges.append(edge(here, there, op, f"cell{stage}.{number}", **({"c": channels} if sized else {})))
            here = there
    edges.append(edge(here, "y", "head", "head", classes=settings.classes))
    return {"vertices": {link["dst"]: "add" for link in edges}, "edges": edges}
