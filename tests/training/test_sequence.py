"""Text and the trainer of recurrent networks: deterministic, resumed bit for bit, and it learns what a state is for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from katib_flow.errors import KatibFlowError
from katib_flow.models import Topology
from katib_flow.models.presets import TOKENS
from katib_flow.training import Text, load_text, text_of
from katib_flow.training.text import CHARACTERS

torch = pytest.importorskip("torch")
from katib_flow.models.build import build, weights_of  # noqa: E402
from katib_flow.training.sequence import TextRecipe, perplexity, pieces, text_loss, train_text  # noqa: E402

torch.set_num_threads(1)


def elman(tokens: int, features: int = 8, *, state: bool = True) -> Topology:
    """The plainest recurrent network; without its state it sees one token only."""
    edges: list[dict[str, Any]] = [
        {"id": "in", "src": "x", "dst": "sum", "op": "linear", "params": {"features": features}},
        {"id": "act", "src": "sum", "dst": "h", "op": "act", "params": {"name": "tanh"}},
        {"id": "out", "src": "h", "dst": "y", "op": "linear", "params": {"features": tokens}},
    ]
    if state:
        edges += [
            {"id": "state", "src": "h", "dst": "s", "op": "delay", "params": {"features": features}},
            {"id": "back", "src": "s", "dst": "sum", "op": "linear", "params": {"features": features}},
        ]
    vertices = {each["dst"]: "add" for each in edges}
    graphs = {"net": {"vertices": vertices, "edges": edges}}
    return Topology.parse({"input": {"tokens": tokens}, "output": {"classes": tokens}, "graphs": graphs})


def recipe(**changes: Any) -> TextRecipe:
    given: dict[str, Any] = {"epochs": 3, "steps": None, "batch": 4, "length": 5, "lr": 0.01, "lr_end": 0.0}
    return TextRecipe(**({**given, "clip": 1.0} | changes))


def periodic(count: int = 400) -> Text:
    """0 0 1 0 0 1: which token comes after a 0, the one before it says."""
    tokens = np.resize([0, 0, 1], 3000)  # of which 50 parts are judged by themselves
    return Text(2, tokens[:count], tokens, tokens)


def letters(seed: int = 0) -> Text:
    rng = np.random.default_rng(seed)
    return Text(6, rng.integers(0, 6, 204), rng.integers(0, 6, 60), rng.integers(0, 6, 60))


def same(one: Any, other: Any) -> bool:
    first, second = weights_of(one), weights_of(other)
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_characters_are_tokens_and_what_is_no_known_one_is_the_last():
    text = text_of("ab\n é~ b😀x.", valid=3, test=2)
    assert text.tokens == TOKENS == len(CHARACTERS) + 1
    told = [*CHARACTERS, "?"]
    parts = ["".join(told[token] for token in part) for part in (text.train, text.valid, text.test)]
    assert parts == ["ab\n ?~", " b?", "x."]


def test_the_text_that_comes_along_is_english_and_long_enough():
    text = load_text("python-topics")
    assert len(text.train) > 200_000
    assert len(text.valid) == len(text.test) == 20_000
    assert "statement" in "".join(CHARACTERS[token] for token in text.train[:200])
    assert len(load_text("python-topics", 500).train) == 500


def wrong() -> str:
    return "no text"


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("python-topic", None, "data: found 'python-topic', need one of python-topics.*did you mean 'python-topics'"),
        ("python-topics", 1, "train_size: found 1, need 2 to"),
        ("test_sequence:wrong", None, "data: test_sequence:wrong: found str, need katib_flow.training.Text"),
        ("test_sequence:none", None, "data: test_sequence:none: AttributeError"),
    ],
)
def test_a_text_that_is_not_there_is_told(name, size, message):
    with pytest.raises(KatibFlowError, match=message):
        load_text(name, size)


@pytest.mark.parametrize(("train", "need"), [([0], "at least 2 tokens"), ([0, 3], "0 to 2"), ([0, -1], "0 to 2")])
def test_a_text_of_ones_own_is_checked(train, need):
    with pytest.raises(ValueError, match=f"train: found .*{need}"):
        Text(3, np.array(train), np.zeros(3, int), np.zeros(3, int))


def test_pieces_give_each_token_once_with_the_one_after_it():
    tokens = np.arange(23)
    got = list(pieces(tokens, 2, 4))
    assert [read.shape for read, _ in got] == [(2, 4), (2, 4), (2, 2)]
    read = torch.cat([each for each, _ in got], 1)
    assert read.tolist() == [list(range(10)), list(range(11, 21))]
    assert all(torch.equal(after, each + 1) for each, after in got)
    assert next(pieces(tokens, 2, 4, offset=3))[0].tolist() == [[3, 4, 5, 6], [14, 15, 16, 17]]
    assert [read.tolist() for read, _ in pieces(np.arange(3), 9, 4, offset=7)] == [[[1]]]  # never nothing to learn from
    assert [read.shape for read, _ in pieces(np.arange(9), 4, 5)] == [(4, 1)]


def test_the_perplexity_of_an_even_guess_is_the_number_of_tokens():
    network = build(elman(6), seed=0)
    with torch.no_grad():
        for each in network.parameters():
            each.zero_()
    assert perplexity(text_loss(network, letters().valid)) == pytest.approx(6)
    assert perplexity(1e4) == np.inf


def test_the_loss_of_a_text_is_that_of_its_parts_read_from_the_start():
    """By hand: each part alone, in one piece, from a state of zeros."""
    network = build(elman(6), seed=1)
    tokens = np.random.default_rng(0).integers(0, 6, 50 * 230 + 7)  # parts of 230 tokens, which are three pieces
    total = 0.0
    for part in torch.from_numpy(tokens[:-7].reshape(50, 230)):
        logits, _ = network(part[None, :-1])
        total += float(torch.nn.functional.cross_entropy(logits[0], part[1:], reduction="sum").detach())
    assert text_loss(network, tokens) == pytest.approx(total / (50 * 229), rel=1e-5)


def test_a_network_with_a_state_learns_what_one_without_cannot():
    losses = [
        list(train_text(build(elman(2, state=state), seed=0), periodic(), recipe(epochs=12, lr=0.03)))[-1].perplexity
        for state in (True, False)
    ]
    assert losses[0] < 1.1
    assert losses[1] > 1.5  # after a 0 comes either: the mean over three tokens is 2^(2/3) = 1.59


def test_the_state_goes_on_from_piece_to_piece_but_no_gradient_goes_back():
    network, text = build(elman(6), seed=0), letters()
    reads: list[Any] = []
    forward = network.forward

    def watched(tokens: Any, state: Any = None) -> Any:
        logits, after = forward(tokens, state)
        reads.append((network.training, state, after))
        return logits, after

    network.forward = watched  # type: ignore[method-assign]
    list(train_text(network, text, recipe(epochs=1)))
    (_, first, after), *rest = [each for each in reads if each[0]]
    assert first is None
    for _, state, following in rest:
        assert torch.equal(state["state"], after["state"])
        assert not state["state"].requires_grad
        after = following


def test_the_same_seed_gives_the_same_bits_and_another_reads_from_elsewhere():
    one, other, different = (build(elman(6), seed=0) for _ in range(3))
    for network, seed in ((one, 1), (other, 1), (different, 2)):
        list(train_text(network, letters(), recipe(), seed=seed))
    assert same(one, other)
    assert not same(one, different)


def test_stopped_after_any_epoch_and_gone_on_with_gives_the_bits_of_a_straight_run(tmp_path: Path):
    straight = build(elman(6), seed=0)
    expected = list(train_text(straight, letters(), recipe(), seed=1))
    for told in (2, 3):
        cut = train_text(build(elman(6), seed=0), letters(), recipe(), seed=1, checkpoint=tmp_path / f"{told}.pt")
        for _ in range(told):
            next(cut)
        resumed = build(elman(6), seed=9)
        epochs = list(train_text(resumed, letters(), recipe(), seed=1, checkpoint=tmp_path / f"{told}.pt"))
        assert epochs == expected[told - 1 :]
        assert same(straight, resumed)


def test_training_ends_after_so_many_steps_and_where_it_is_stopped():
    def count(**changes: Any) -> int:
        network, steps = build(elman(6), seed=0), 0
        forward = network.forward

        def counted(tokens: Any, state: Any = None) -> Any:
            nonlocal steps
            steps += network.training
            return forward(tokens, state)

        network.forward = counted  # type: ignore[method-assign]
        epochs = list(train_text(network, letters(), recipe(**changes)))
        assert [each.number for each in epochs] == list(range(1, len(epochs) + 1))
        return steps

    per_epoch = 10  # parts of 51 tokens: 50 to predict, of which an offset leaves out up to 4, in pieces of 5
    assert count() == 3 * per_epoch
    assert count(steps=4) == 4
    assert count(steps=per_epoch + 2) == per_epoch + 2
    asked = iter([False, False, True, *[True] * 9])
    epochs: Iterator[Any] = train_text(build(elman(6), seed=0), letters(), recipe(), stop=lambda: next(asked))
    assert [each.number for each in epochs] == [1]


def test_the_gradient_of_a_step_is_clipped():
    """Adam does not care for the scale of all gradients, so the steps themselves are looked at."""
    norms: list[float] = []
    network = build(elman(6), seed=0)
    step = torch.optim.Adam.step

    def watched(self: Any, *arguments: Any, **named: Any) -> Any:
        norms.append(float(torch.sqrt(sum(each.grad.square().sum() for each in network.parameters()))))  # type: ignore[arg-type]
        return step(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", watched)
        list(train_text(network, letters(), recipe(epochs=1, clip=0.1)))
        assert max(norms) == pytest.approx(0.1, rel=1e-3)
        norms.clear()
        list(train_text(network, letters(), recipe(epochs=1, clip=None)))
        assert max(norms) > 0.2


@pytest.mark.parametrize("name", ["epochs", "batch", "length"])
def test_a_recipe_that_nothing_can_follow_is_told(name):
    with pytest.raises(KatibFlowError, match=f"{name}: found 0, need 1 or more"):
        recipe(**{name: 0})
