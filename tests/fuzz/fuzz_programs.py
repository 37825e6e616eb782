"""What the programs of ``steps/`` are given: arguments, and the spec in the environment, against a real store."""

import contextlib
import io
import json
import os
import random
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from fuzz_mutate import SCALARS, as_json, changed, changed_text
from fuzz_reports import stored
from kit import spec

from katib_flow.argo.names import SPEC_VARIABLE
from katib_flow.errors import KatibFlowError

STEPS = Path(__file__).parents[2] / "steps"
ARGUMENTS: dict[str, list[list[str]]] = {
    "suggest.py": [
        ["--run", "fuzz", "--segment", "0", "--iteration", "1", "--out", "out"],
        [
            "--run",
            "fuzz",
            "--segment",
            "0",
            "--iteration",
            "1",
            "--lane",
            "2",
            "--lanes",
            "4",
            "--last",
            "40",
            "--out",
            "out",
        ],
        ["--run", "fuzz", "--segment", "0", "--open"],
    ],
    "collect_metrics.py": [["--run", "fuzz", "--segment", "0", "--iteration", "1", "--out", "out"]],
    "finish.py": [
        ["--run", "fuzz", "--segment", "0", "--status", "Succeeded"],
        [
            "--run",
            "fuzz",
            "--status",
            "Failed",
            "--failures",
            '[{"displayName": "a", "message": "b", "finishedAt": "c"}]',
        ],
    ],
    "build_model.py": [["--run", "fuzz", "--segment", "0", "--iteration", "1"]],
    "train.py": [
        ["collect", "--run", "fuzz", "--trial", "t00000", "--directory", "trial"],
    ],
}
SPECS = [
    spec(algorithm={"name": "random", "seed": 1}, limits={"max_trials": 3, "parallel_trials": 2}),
    spec(algorithm={"name": "grid"}, parameters={"k": {"type": "int", "min": 1, "max": 3}}, argo={"mode": "lanes"}),
    spec(algorithm={"name": "sobol"}, trial={"command": ["true", "${lr}"]}, early_stopping={"name": "median"}),
]
KNOWN = (0, 1, 2, 75)


class Steps:
    """One step after another on one store, which grows meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.database = folder, stored(folder)
        for name in ("suggest.py", "collect_metrics.py"):  # what is imported once counts for no input
            self.take((name, ARGUMENTS[name][0], json.dumps(SPECS[0])))
        self.texts = [word for lines in ARGUMENTS.values() for line in lines for word in line]

    def make(self, rng: random.Random) -> Any:
        program = rng.choice(list(ARGUMENTS))
        words = list(rng.choice(ARGUMENTS[program]))
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            words = self._changed(rng, words)
        text = json.dumps(rng.choice(SPECS))
        if rng.random() < 0.4:
            text = (
                as_json(changed(rng, rng.choice(SPECS), SPECS))
                if rng.random() < 0.7
                else changed_text(rng, text, [text])
            )
        words = ["elsewhere" if ".." in word or "/" in word else word.replace("\0", "") for word in words]
        return program, words, text.replace("\0", "")

    def _changed(self, rng: random.Random, words: list[str]) -> list[str]:
        at = rng.randrange(len(words)) if words else 0
        match rng.randrange(5):
            case 0:
                return words[:at] + words[at + 1 :]
            case 1:
                return [*words[:at], rng.choice(self.texts), *words[at:]]
            case 2:
                return [*words[:at], str(rng.choice(SCALARS)), *words[at + 1 :]]
            case 3 if words:
                return [*words[:at], changed_text(rng, words[at], self.texts), *words[at + 1 :]]
            case _:
                return [*words[:at], str(rng.choice((-1, 0, 1, 3, 10**9, 2**70, 1.5))), *words[at + 1 :]]

    def take(self, given: Any) -> None:
        program, words, text = given
        with tempfile.TemporaryDirectory(dir=self.folder) as name, contextlib.chdir(name):
            variables = {"MLFLOW_TRACKING_URI": f"sqlite:///{self.database}", SPEC_VARIABLE: _as_variable(text)}
            out, err = io.StringIO(), io.StringIO()
            with (
                mock.patch.dict(os.environ, variables),
                mock.patch.object(sys, "argv", [program, *words]),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                try:
                    runpy.run_path(str(STEPS / program), run_name="__main__")
                    code: Any = 0
                except SystemExit as exit_:
                    code = exit_.code
        said = err.getvalue()
        assert "Traceback" not in said, said
        assert "(a bug;" not in said, said
        assert code in KNOWN, code
        if code == 2:
            raise KatibFlowError(said)


def _as_variable(text: str) -> str:
    """As the environment may hold it."""
    return text.encode("utf-8", "replace").decode()
