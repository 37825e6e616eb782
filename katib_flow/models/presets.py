"""Search spaces by name: a preset's settings -> a template (see ``Space``). A file of one's own is as good.

The operations that a space chooses from, its sizes and its depth are settings; names and sizes in the defaults are
small, for two cores.
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
"""Of the texts that come along: 95 printable characters, the end of a line, and whatever else."""
Make = Callable[[Any], Template]


def _known(name: str) -> str:
    try:
        operations.get(name, "")
    except SpecError as problem:
        raise problems([problem]) from None
    return name


Operations = Annotated[tuple[Annotated[Text, AfterValidator(_known)], ...], Field(min_length=1)]


class ImageSettings(Settings):
    """What every preset for images has."""

    shape: tuple[Count, Count, Count] = (1, 8, 8)
    """Of an image: channels, height, width."""
    classes: Count = 10

    @property
    def ends(self) -> Template:
        """Input and output of a network."""
        return {"input": {"shape": list(self.shape)}, "output": {"classes": self.classes}}


class SpaceSettings(ImageSettings):
    """What every preset for convolutional networks has."""

    channels: Count = 8
    """That the stem gives; doubled at each reduction."""


class TextSettings(Settings):
    """What every preset for text has, whose networks predict the next token."""

    tokens: Count = TOKENS
    """How many different ones there are; 97 are the characters of the texts that come along."""
    features: Count = 64
    """Of the embedding of a token, and of a state."""

    @property
    def ends(self) -> Template:
        """Input and output of a network."""
        return {"input": {"tokens": self.tokens}, "output": {"classes": self.tokens}}


@dataclass(frozen=True)
class Preset:
    name: str
    make: Make
    settings: type[ImageSettings] | type[TextSettings]
    summary: str


presets = Registry[Preset]("a template, or a space by name", "katib_flow.spaces", ("katib_flow.models.spaces",))
"""Every search space that has a name."""


def preset(name: str, settings: type[ImageSettings] | type[TextSettings]) -> Callable[[Make], Make]:
    """Register a function of settings that gives a template as a search space."""

    def register(make: Make) -> Make:
        presets.add(Preset(name, make, settings, summary_of(make)))
        return make

    return register


def space_of(architecture: Architecture) -> Space:
    """The search space of a spec's ``architecture``.

    Raises:
        InvalidSpec: an unknown preset, settings it does not take, a template with mistakes; by the path in the spec.
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
            raise InvalidSpec("", [_told(each, settings) for each in invalid.problems]) from None
    if settings:
        need = "nothing here: settings are those of a space by name"
        raise InvalidSpec("", [SpecError("architecture.settings", dict(settings), need)])
    try:
        return Space(named)
    except InvalidSpec as invalid:
        found = [SpecError(f"architecture.space.{each.where}", each.found, each.need) for each in invalid.problems]
        raise InvalidSpec("", found) from None


def _template(name: str, settings: Mapping[str, Any]) -> Template:
    try:
        found = presets.get(name, "architecture.space")
    except SpecError as problem:
        raise InvalidSpec("", [problem]) from None
    try:
        return found.make(found.settings.model_validate(settings))
    except ValidationError as error:
        wrong = spec_errors(error, found.settings, settings, at=("architecture", "settings"))
        raise InvalidSpec("", wrong) from None


def _told(problem: SpecError, settings: Mapping[str, Any]) -> SpecError:
    """What is wrong with the template of some settings, by the one place in these where what was found stands."""
    places = list(_places(problem.found, settings, "architecture.settings")) if isinstance(problem.found, str) else []
    where = places[0] if len(places) == 1 else "architecture.settings"
    return SpecError(where, problem.found, f"{problem.need} (in {problem.where})")


def _places(value: object, data: Any, path: str) -> Iterator[str]:
    """The paths at which a value stands in plain data."""
    if isinstance(data, Mapping):
        for key, inner in data.items():
            yield from _places(value, inner, f"{path}.{key}")
    elif isinstance(data, list | tuple):
        for position, inner in enumerate(data):
            yield from _places(value, inner, f"{path}[{position}]")
    elif data == value:
        yield path


def network(settings: ImageSettings | TextSettings, graphs: Template, slots: Template, **more: Any) -> Template:
    """A template of some graphs and slots."""
    return {"schema": "topology/1", **settings.ends, "graphs": graphs, "slots": slots, **more}


def edge(src: Any, dst: Any, op: Any, name: str = "", /, **params: Any) -> Template:
    """An edge; its id is made of its ends where it is not given."""
    made = {"id": name or f"{src}>{dst}", "src": src, "dst": dst, "op": op}
    return {**made, "params": params} if params else made


def slot(name: str) -> Template:
    return {"slot": name}


def stages_of(settings: SpaceSettings, stages: int, cells: int, op: str, *, sized: bool = False) -> Template:
    """Stem, then cells of one input, a reduction between stages, and the head.

    Args:
        sized: whether a cell is told its channels, ``$c``.
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
    return {"vertices": {each["dst"]: "add" for each in edges}, "edges": edges}
