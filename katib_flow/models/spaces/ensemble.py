"""Ensembles of dense subnetworks, each of which may read the earlier ones (Cortes et al., "AdaNet", ICML 2017)."""

from collections.abc import Sequence

from katib_flow.models.presets import ImageSettings, Template, edge, network, preset
from katib_flow.spec.model import Count


class Ensemble(ImageSettings):
    """Settings of the space ``ensemble``."""

    units: Count = 32
    """Units of each hidden layer of a subnetwork (B)."""


@preset("ensemble", Ensemble)
def ensemble(settings: Ensemble) -> Template:
    """A linear classifier, the first of an ensemble of subnetworks, to start from (AdaNet). It has no slots."""
    return ensemble_network(settings, (1,))


def ensemble_network(settings: Ensemble, depths: Sequence[int]) -> Template:
    """The template of an ensemble of subnetworks of some depths; its ``meta`` has the settings and the depths.

    A subnetwork of depth d has d layers, the last of which is linear, and its outputs are standardised. A layer reads
    the layer below it, both of its own subnetwork and of all earlier ones (Cortes et al., section 2). The outputs of
    the subnetworks are summed, each times its weight.
    """
    edges, concats = [edge("x", "flat", "flatten")], set[str]()
    for member, depth in enumerate(depths, 1):
        here = "flat"
        for layer in range(1, depth + 1):
            below = [f"{before}.{layer - 1}" for before in range(1, member) if 1 < layer <= depths[before - 1]]
            if below:
                joined = f"{member}.{layer}.in"
                concats.add(joined)
                edges += [edge(src, joined, "identity") for src in (here, *below)]
                here = joined
            there = f"{member}.{layer}"
            if layer < depth:
                edges.append(edge(here, there, "dense", there, features=settings.units))
            else:
                edges.append(edge(here, there, "linear", there, features=settings.classes))
            here = there
        edges.append(edge(here, output_of(member), "standardise", f"{member}.standardise"))
        edges.append(edge(output_of(member), "y", "scale", mixing(member)))
    vertices = {link["dst"]: "concat" if link["dst"] in concats else "add" for link in edges}
    meta = {"ensemble": settings.model_dump(mode="json"), "depths": list(depths)}
    template = network(settings, {"net": {"vertices": vertices, "edges": edges}}, {}, meta=meta)
    return {name: value for name, value in template.items() if name != "slots"}


def output_of(member: int) -> str:
    """The vertex with the output of a subnetwork, numbered from 1."""
    return f"{member}.h"


def mixing(member: int) -> str:
    """The edge with the weight of a subnetwork, numbered from 1, in the ensemble."""
    return f"{member}.mix"
