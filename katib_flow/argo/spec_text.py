"""The spec as it travels through a Workflow: JSON text that neither Argo nor Kubernetes finds anything to replace in.

Argo substitutes ``{{...}}`` in parameters, Kubernetes expands ``$(NAME)`` and halves ``$$`` in environment values. So
every ``{`` after a ``{`` is written ``\\u007b`` and every ``$`` ``\\u0024``; both can stand only inside JSON strings,
where they mean the same. The text is ASCII, so that no hop has an encoding to get wrong.
"""

import json
import re

from katib_flow.errors import KatibFlowError
from katib_flow.foreign import from_json
from katib_flow.spec.experiment import Experiment

MAX_BYTES = 120_000  # the kernel ends at 128 KiB for one environment value


def encode_spec(experiment: Experiment) -> str:
    """The spec as text for a parameter and an environment value.

    Raises:
        KatibFlowError: it is too large for one.
    """
    text = json.dumps(experiment.to_dict(), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    text = re.sub(r"(?<=\{)\{", r"\\u007b", text).replace("$", "\\u0024")
    if len(text) > MAX_BYTES:
        size, limit = f"{len(text) / 1000:.0f} kB", f"{MAX_BYTES // 1000} kB"
        raise KatibFlowError(
            f"{experiment.name}: the spec is {size} as JSON, and {limit} fit into a Workflow; "
            "put the code and the data it holds into an image (argo.image, trial.container.image)"
        )
    return text


def decode_spec(text: str, source: str) -> Experiment:
    """The experiment of such a text.

    Raises:
        KatibFlowError: it is not one.
    """
    try:
        data = from_json(text)
    except ValueError as error:
        need = "the spec as `katib-flow compile` writes it"
        raise KatibFlowError(f"{source}: found no JSON ({error}), need {need}") from None
    return Experiment.parse(data, source)
