"""NB-digits: train every cell of a small search space on real images, once; the table makes a search cost microseconds.

    python -m benchmarks.nas_digits                 an hour on one core; goes on where it was stopped
    python -m benchmarks.nas_digits --processes 2   on two
    python -m benchmarks.nas_digits --write         writes the table of the seeds that are done
    python -m benchmarks.nas_digits --check 5       trains five random rows again and compares

Cell: 4 vertices, 6 edges, the operations none, skip, conv3 and avg3 (the shape of NAS-Bench-201): 4,096 codes, 941
networks. Data: scikit-learn's digits, 300 to train on, 747 to validate, 750 to test. Recipe: the trainer's defaults.
The table is tables/nas-digits.npz; ``nas_table`` reads it.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.nas_table import TABLE, Table, codes, space
from katib_flow.models.build import build
from katib_flow.training.data import load_data
from katib_flow.training.loop import Recipe, evaluate, train

SEEDS = 3
RECIPE = Recipe()
PARTS = Path(__file__).parent / "tables" / "nas-digits.part.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--check", type=int, metavar="ROWS", help="train so many random rows again and compare")
    parser.add_argument("--write", action="store_true", help="write the table of the seeds that are done")
    args = parser.parse_args()
    if args.write:
        write(classes())
    else:
        sys.exit(check(args.check) if args.check else make(args.processes))


def make(processes: int) -> int:
    """Train what is missing, then write the table."""
    found = classes()
    done = {(tuple(row["code"]), row["seed"]) for row in finished()}
    waiting = [(code, seed) for seed in range(SEEDS) for _, code in found if (code, seed) not in done]
    print(f"{len(found)} networks x {SEEDS} seeds, {len(waiting)} to train", flush=True)
    with PARTS.open("a") as file, ProcessPoolExecutor(processes) as pool:
        for number, row in enumerate(pool.map(trained, waiting, chunksize=4), 1):
            file.write(json.dumps(row) + "\n")
            file.flush()
            if number % 100 == 0:
                print(f"{number} of {len(waiting)}", flush=True)
    write(found)
    return 0


def classes() -> list[tuple[str, tuple[int, ...]]]:
    """Hash and first code of every network, in the order of the codes."""
    first: dict[str, tuple[int, ...]] = {}
    for code in codes():
        first.setdefault(space().topology(space().decode(code)).hash, code)
    return list(first.items())


def finished() -> Iterator[dict[str, Any]]:
    if PARTS.exists():
        with PARTS.open() as file:
            yield from (json.loads(line) for line in file if line.endswith("\n"))


def trained(work: tuple[tuple[int, ...], int]) -> dict[str, Any]:
    """One row: what a training came to, epoch by epoch."""
    code, seed = work
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    data = load_data("digits", 300)
    module = build(space().topology(space().decode(code)), seed=seed)
    record = train(module, data, RECIPE, seed=seed)
    epochs = [[epoch.train_loss, epoch.valid_loss, epoch.valid_accuracy] for epoch in record]
    return {"code": code, "seed": seed, "epochs": epochs, "test": evaluate(module, data.test)}


def write(found: list[tuple[str, tuple[int, ...]]]) -> None:
    """Put the rows of every seed that is whole into one compressed file."""
    rows = {(tuple(row["code"]), row["seed"]): row for row in finished()}
    seeds = [seed for seed in range(SEEDS) if all((code, seed) in rows for _, code in found)]
    place = {digest: number for number, (digest, _) in enumerate(found)}
    topologies = [space().topology(space().decode(code)) for _, code in found]
    classes_of = [place[space().topology(space().decode(code)).hash] for code in codes()]

    def column(name: str) -> Any:
        return np.array([[rows[code, seed][name] for seed in seeds] for _, code in found], dtype=np.float32)

    np.savez_compressed(
        TABLE,
        hashes=np.array([digest for digest, _ in found]),
        class_of_code=np.array(classes_of, dtype=np.int16),
        epochs=column("epochs"),
        test=column("test"),
        parameters=np.array([each.parameters for each in topologies], dtype=np.int32),
        flops=np.array([each.flops for each in topologies], dtype=np.int32),
        recipe=np.array(json.dumps(asdict(RECIPE))),
    )
    print(f"{TABLE}: {len(found)} networks, {len(seeds)} of {SEEDS} seeds, {TABLE.stat().st_size} bytes")


def check(count: int) -> int:
    """Train random rows again: equal on this kind of CPU, within three standard deviations of the seeds elsewhere."""
    table, wrong = Table.load(), 0
    for number in np.random.default_rng().choice(len(table.hashes), size=count, replace=False):
        code = next(code for code in codes() if table.class_of(code) == number)
        row = trained((code, 0))
        loss, kept = row["epochs"][-1][1], table.valid_loss[number]
        allowed = 3 * float(kept.std(ddof=1)) + 1e-6 if len(kept) > 1 else 0.1 * float(kept[0])
        verdict = "equal" if abs(loss - kept[0]) < 1e-6 else "near" if abs(loss - kept[0]) <= allowed else "DIFFERS"
        wrong += verdict == "DIFFERS"
        print(f"{table.hashes[number]} {code}: {loss:.5f}, in the table {kept[0]:.5f}: {verdict}")
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
