"""Encode the spec for a Workflow, as JSON text in which neither Argo nor Kubernetes substitutes anything.

Argo substitutes ``{{...}}`` in parameters. Kubernetes expands ``$(NAME)`` and turns ``$$`` into ``$`` in environment
values. So every ``{`` after a ``{`` is written as ``\\u007b`` and every ``$`` as ``\\u0024``; both occur only inside
JSON strings, where the escapes are equivalent. The text is ASCII, so no component can get its encoding wrong.
"""

import json
import re

from katib_flow.errors import KatibFlowError
from katib_flow.foreign import from_json
from katib_flow.spec.experiment import Experiment

MAX_BYTES = 120_000  # Linux limits an environment value to 128 KiB


def encode_spec(experiment: Experiment) -> str:
    """Encode a spec as text for a parameter and an environment value.

    Raises:
        KatibFlowError: the text is too large for an environment value.
    """
    text = json.dumps(experiment.to_dict(), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    text = re.sub(r"(?<=\{)\{", r"\\u007b", text).replace("$", "\\u0024")
    if len(text) > MAX_BYTES:
        size, limit = f"{len(text) / 1000:.0f} kB", f"{MAX_BYTES // 1000} kB"
        raise KatibFlowError(
            f"{experiment.name}: the spec is {size} as JSON, but a Workflow holds at most {limit}; "
            "move its code and data into an image (argo.image, trial.container.image)"
        )
    return text


def decode_spec(text: str, source: str) -> Experiment:
    """Decode the text of ``encode_spec``.

    Args:
        source: the text's origin, for error messages.

    Raises:
        KatibFlowError: the text is not JSON, or not a valid spec.
    """
    try:
        data = from_json(text)
    except ValueError as error:
        need = "the spec as `katib-flow compile` writes it"
        raise KatibFlowError(f"{source}: found invalid JSON ({error}), need {need}") from None
    return Experiment.parse(data, source)
