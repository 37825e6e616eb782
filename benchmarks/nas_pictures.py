"""Draw pictures for the documentation: the search of each system of architecture search in its example.

    python -m benchmarks.nas_pictures                    every example that searches architectures; an hour on two cores
    python -m benchmarks.nas_pictures nash nas-nasbot

An example runs unchanged, in a new directory. ``docs/pictures/<example>.svg`` shows the objective of its trials, with
the best so far as a line, and beside it up to three networks: the ancestor of the best network, one in between, and the
best. If no network descends from another, they are three that were the best so far at their time.
"""

import argparse
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import katib_flow as kf
from katib_flow.history import History, Trial
from katib_flow.local.result import Result
from katib_flow.models.drawing import svg
from katib_flow.reports.evolution import Generation, generations, improvements, lineage
from katib_flow.spec.sections import Objective
from katib_flow.wording import counted

EXAMPLES = Path(__file__).parents[1] / "examples"
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
NETWORKS = 3
WIDTH, HEIGHT, MARGIN = 300.0, 190.0, 34.0
STYLE = """
text{font:12px ui-sans-serif,system-ui,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2933}.soft{fill:#7b8794}
.trial{fill:#9aa5b1}.best{fill:none;stroke:#2563eb;stroke-width:1.8}.axis{stroke:#9aa5b1}.paper{fill:#fff}
@media(prefers-color-scheme:dark){text{fill:#e4e7eb}.soft{fill:#9aa5b1}.best{stroke:#60a5fa}.paper{fill:#15191e}}
"""


def main() -> None:
    """Run the named examples, or all that search architectures, and write their pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "examples", nargs="*", help="names without .yaml; by default all examples that search architectures"
    )
    args = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    for name in args.examples or searching():
        result = run(name)
        (PICTURES / f"{name}.svg").write_text(picture(result))
        print(f"{name}: {result!r}", flush=True)


def searching() -> list[str]:
    """Names of the examples that search architectures."""
    specs = {path.stem: path.read_text() for path in sorted(EXAMPLES.glob("*.yaml"))}
    return [name for name, text in specs.items() if re.search(r"^architecture:", text, re.MULTILINE)]


def run(name: str) -> Result:
    """Run an example in a temporary directory; only the result is kept, in memory."""
    experiment = kf.load(EXAMPLES / f"{name}.yaml")
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            return kf.run(experiment, tracking_uri=f"sqlite:///{directory}/katib_flow.db")
        finally:
            os.chdir(here)


def picture(result: Result) -> str:
    """The trials and the networks of a search, side by side, as SVG."""
    objective = result.experiment.objective[0]
    panels = [(plot(objective, result.history), WIDTH, HEIGHT)]
    for generation in shown(result):
        assert generation.network is not None
        drawing = svg(generation.network, generation.before)
        width, height = (float(number) for number in re.findall(r'(?:width|height)="(\d+)"', drawing)[:2])
        title = f'<text x="0" y="12">{caption(generation.trial, result, objective)}</text>'
        below_title = drawing.replace("<svg ", '<svg y="20" ', 1)
        panels.append((title + below_title, width, height + 20))
    parts: list[str] = []
    x = 8.0
    for drawing, width, _ in panels:
        parts.append(f'<g transform="translate({x:.0f},8)">{drawing}</g>')
        x += width + 16
    height = max(height for *_, height in panels) + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{x:.0f}" height="{height:.0f}" viewBox="0 0 {x:.0f} '
        f'{height:.0f}"><style>{STYLE}</style><rect class="paper" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def shown(result: Result) -> list[Generation]:
    """The first, the middle and the last network of the line that leads to the best one."""
    best = result.best
    assert best is not None
    line: Sequence[Trial] = lineage(result.history, best)
    if len(line) == 1:
        line = improvements(result.experiment.objective[0], result.history)
    else:
        line = line[: line.index(best) + 1] if best in line else line
    steps = sorted({round(step * (len(line) - 1) / (NETWORKS - 1)) for step in range(NETWORKS)})
    return [
        generation
        for generation in generations(result.experiment, [line[step] for step in steps])
        if generation.network is not None
    ]


def caption(trial: Trial, result: Result, objective: Objective) -> str:
    """The title of a network: its trial, with the value of the objective if there is one."""
    best = ", the best" if result.best is not None and trial.id == result.best.id else ""
    value = trial.observations.get(objective.metric)
    return f"{trial.id}{best}: {objective.metric} {value:.4g}" if value is not None else trial.id


def plot(objective: Objective, history: History) -> str:
    """A plot of the objective of each trial by its index, with the best so far as a line."""
    trials = history.completed(objective.metric)
    values = [trial.observations[objective.metric] for trial in trials]
    low, high = min(values), max(values)
    span, most = (high - low) or 1.0, max(trial.index for trial in trials) or 1

    def x(trial: Trial) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * trial.index / most

    def y(value: float) -> float:
        return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value - low) / span

    better = min if objective.loss(1.0) > objective.loss(0.0) else max
    reached = [better(values[: count + 1]) for count in range(len(values))]
    line = " ".join(f"{x(trial):.1f},{y(value):.1f}" for trial, value in zip(trials, reached, strict=True))
    dots = (
        f'<circle class="trial" cx="{x(t):.1f}" cy="{y(v):.1f}" r="2.5"/>' for t, v in zip(trials, values, strict=True)
    )
    axis = HEIGHT - MARGIN + 8
    return (
        f'<text x="0" y="12">{objective.metric} of {counted(len(trials), "trial")}, and the best so far</text>'
        f"{''.join(dots)}"
        f'<polyline class="best" points="{line}"/>'
        f'<line class="axis" x1="{MARGIN}" y1="{axis}" x2="{WIDTH - MARGIN}" y2="{axis}"/>'
        f'<text class="soft" x="0" y="{y(high) + 4:.0f}">{high:.3g}</text>'
        f'<text class="soft" x="0" y="{y(low) + 4:.0f}">{low:.3g}</text>'
        f'<text class="soft" x="{MARGIN}" y="{axis + 16}">0</text>'
        f'<text class="soft" text-anchor="end" x="{WIDTH - MARGIN}" y="{axis + 16}">{most}</text>'
    )


if __name__ == "__main__":
    main()
