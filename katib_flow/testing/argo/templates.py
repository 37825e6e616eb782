"""Templates by name, in the Workflow or a WorkflowTemplate, and filling in their inputs when they are called."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from katib_flow.testing.argo.refusal import Unsupported
from katib_flow.testing.argo.substitution import Scope, substitute, unresolved
from katib_flow.testing.argo.workflow import Manifest, text

KINDS = ("container", "dag", "steps")
_NOT_HERE = ("script", "resource", "suspend", "containerSet", "http", "plugin", "data")


class TemplateError(Exception):
    """A template cannot be called; its node ends in Error with this message."""


@dataclass(frozen=True)
class Library:
    """The templates to which a template can refer.

    Attributes:
        where: the name of the WorkflowTemplate, or "" for the Workflow's own templates.
        templates: the templates by name.
        fetch: from the name of a WorkflowTemplate, and whether it is cluster-wide, to its spec, if it exists.
    """

    where: str
    templates: Mapping[str, Manifest]
    fetch: Callable[[str, bool], Manifest | None]

    @classmethod
    def of(cls, spec: Manifest, fetch: Callable[[str, bool], Manifest | None], where: str = "") -> "Library":
        """The templates of a spec."""
        return cls(where, {template["name"]: template for template in spec.get("templates", [])}, fetch)

    def find(self, holder: Manifest) -> tuple["Library", Manifest]:
        """The template that a task, a step or a hook names, and the library that contains it.

        Raises:
            TemplateError: the template does not exist.
        """
        if reference := holder.get("templateRef"):
            spec = self.fetch(reference["name"], bool(reference.get("clusterScope")))
            if spec is None:
                raise TemplateError(f"workflowtemplates.argoproj.io {reference['name']!r} not found")
            return Library.of(spec, self.fetch, reference["name"]).find({"template": reference["template"]})
        name = holder["template"]
        if name not in self.templates:
            raise TemplateError(f"template {name} not found in {self.where or 'workflow'}")
        return self, self.templates[name]


def kind_of(template: Manifest) -> str:
    """Which of ``KINDS`` a template is.

    Raises:
        Unsupported: it is of another kind.
    """
    for kind in KINDS:
        if kind in template:
            return kind
    other = next((kind for kind in _NOT_HERE if kind in template), "one without a body")
    raise Unsupported(f"template {template.get('name')}", f"templates of this kind: {other}")


def process(template: Manifest, arguments: Manifest, scope: Scope) -> tuple[Manifest, dict[str, str]]:
    """Fill in the inputs of a template.

    Args:
        arguments: the ``parameters`` of the caller, resolved.
        scope: the global values, and those of this call.

    Returns:
        The template, and its input parameters by name.

    Raises:
        TemplateError: an input was not supplied.
    """
    supplied = {parameter["name"]: parameter for parameter in arguments.get("parameters", [])}
    inputs = {
        parameter["name"]: _input(parameter, supplied, scope)
        for parameter in template.get("inputs", {}).get("parameters", [])
    }
    known = {**scope, **{f"inputs.parameters.{name}": value for name, value in inputs.items()}}
    return substitute(template, known), inputs


def _input(declared: Manifest, supplied: Mapping[str, Manifest], scope: Scope) -> str:
    name = declared["name"]
    given = supplied.get(name)
    if given is not None and "value" in given:
        value = text(given["value"])
        missing = unresolved(value, "tasks.", "steps.")
        if not missing:
            return value
        if "default" not in declared:
            raise TemplateError(f"failed to resolve {{{{{missing[0]}}}}}")  # the task that it names was skipped
    for key in ("value", "default"):
        if key in declared:
            return substitute(text(declared[key]), scope)
    raise TemplateError(f"inputs.parameters.{name} was not supplied")
