"""Make NB-digits: train every cell of a small search space on real images once, so that a query takes microseconds.

    python -m benchmarks.nas_digits                 an hour on one core; continues if it was stopped
    python -m benchmarks.nas_digits --processes 2   on two cores
    python -m benchmarks.nas_digits --write         write the table of the seeds that are complete
    python -m benchmarks.nas_digits --check 5       train five random rows again and compare

Cell: 4 vertices, 6 edges, the operations none, skip, conv3 and avg3 (the shape of NAS-Bench-201): 4,096 codes, 941
networks. Data: scikit-learn's digits, 300 for training, 747 for validation, 750 for testing. Recipe: the trainer's
defaults.
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
    """Make, write or check the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--check", type=int, metavar="ROWS", help="train this many random rows again and compare")
    parser.add_argument("--write", action="store_true", help="write the table of the seeds that are complete")
    args = parser.parse_args()
    if args.write:
        write(classes())
    else:
        sys.exit(check(args.check) if args.check else make(args.processes))


def make(processes: int) -> int:
    """Train the missing rows, then write the table."""
    networks = classes()
    done = {(tuple(row["code"]), row["seed"]) for row in finished()}
    waiting = [(code, seed) for seed in range(SEEDS) for _, code in networks if (code, seed) not in done]
    print(f"{len(networks)} networks x {SEEDS} seeds, {len(waiting)} to train", flush=True)
    with PARTS.open("a") as file, ProcessPoolExecutor(processes) as pool:
        for number, row in enumerate(pool.map(trained, waiting, chunksize=4), 1):
            file.write(json.dumps(row) + "\n")
            file.flush()
            if number % 100 == 0:
                print(f"{number} of {len(waiting)}", flush=True)
    write(networks)
    return 0


def classes() -> list[tuple[str, tuple[int, ...]]]:
    """Hash and first code of every network, in the order of ``codes``."""
    first: dict[str, tuple[int, ...]] = {}
    for code in codes():
        first.setdefault(space().topology(space().decode(code)).hash, code)
    return list(first.items())


def finished() -> Iterator[dict[str, Any]]:
    """The rows that were trained so far; a last line that was cut off is ignored."""
    if PARTS.exists():
        with PARTS.open() as file:
            yield from (json.loads(line) for line in file if line.endswith("\n"))


def trained(work: tuple[tuple[int, ...], int]) -> dict[str, Any]:
    """Train one network with one seed; return its row, with the losses of every epoch."""
    code, seed = work
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    data = load_data("digits", 300)
    module = build(space().topology(space().decode(code)), seed=seed)
    record = train(module, data, RECIPE, seed=seed)
    epochs = [[epoch.train_loss, epoch.valid_loss, epoch.valid_accuracy] for epoch in record]
    return {"code": code, "seed": seed, "epochs": epochs, "test": evaluate(module, data.test)}


def write(networks: list[tuple[str, tuple[int, ...]]]) -> None:
    """Write the rows of every complete seed into one compressed file."""
    rows = {(tuple(row["code"]), row["seed"]): row for row in finished()}
    seeds = [seed for seed in range(SEEDS) if all((code, seed) in rows for _, code in networks)]
    positions = {digest: number for number, (digest, _) in enumerate(networks)}
    topologies = [space().topology(space().decode(code)) for _, code in networks]
    classes_of = [positions[space().topology(space().decode(code)).hash] for code in codes()]

    def column(name: str) -> Any:
        return np.array([[rows[code, seed][name] for seed in seeds] for _, code in networks], dtype=np.float32)

    np.savez_compressed(
        TABLE,
        hashes=np.array([digest for digest, _ in networks]),
        class_of_code=np.array(classes_of, dtype=np.int16),
        epochs=column("epochs"),
        test=column("test"),
        parameters=np.array([topology.parameters for topology in topologies], dtype=np.int32),
        flops=np.array([topology.flops for topology in topologies], dtype=np.int32),
        recipe=np.array(json.dumps(asdict(RECIPE))),
    )
    print(f"{TABLE}: {len(networks)} networks, {len(seeds)} of {SEEDS} seeds, {TABLE.stat().st_size} bytes")


def check(count: int) -> int:
    """Train random rows again, and return 1 if one differs.

    On the same kind of CPU they are equal; elsewhere, within three standard deviations over the seeds.
    """
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
