"""The list of a frontier: every size with every seed, one folder each, all comparable or none."""

import pytest

from circuits_jax.config import Config
from circuits_jax.runs.frontier.points import frontier_points, middle
from circuits_jax.storage.errors import ConfigError
from tests.runs.frontier import made_up
from tests.runs.frontier.made_up import with_section


def test_every_size_is_asked_with_every_seed_and_differs_where_its_row_says(tmp_path):
    points = frontier_points(made_up.config(), tmp_path)
    assert [(p.series, p.size, p.seed, p.kind) for p in points[:4]] == [
        ("dense", "d_model 16", 0, "dense"), ("dense", "d_model 16", 1, "dense"),
        ("dense", "d_model 32", 0, "dense"), ("dense", "d_model 32", 1, "dense"),
    ]  # fmt: skip
    last = points[-1]
    assert (last.series, last.size, last.kind) == ("sparse", "target 1/32 d_model 192", "sparse")
    assert (last.config.model.d_model, last.config.sparsity.target, last.config.train.seed) == (
        192,
        1 / 32,
        1,
    )
    assert points[0].config.model.activation_fraction is None
    assert last.config.model.activation_fraction == 0.25
    assert len(points) == 12
    assert len({p.result for p in points}) == len({p.run(0.1).folder for p in points}) == 12
    assert points[0].run(0.1).folder != points[0].run(0.01).folder
    assert points[0].run(0.1).config.optimizer.learning_rate == 0.1
    assert {p.config.data.store for p in points} == {str(tmp_path / "corpora")}
    assert all(p.config.frontier == Config().frontier for p in points)  # a model's folder holds no list


def test_a_row_may_set_its_own_seed_and_its_own_rate(tmp_path):
    rows = ("a: train.seed=5", "b: optimizer.learning_rate=0.3 model.d_model=64")
    points = frontier_points(made_up.config(series=rows, compare=(), learning_rates=(0.1, 0.2)), tmp_path)
    assert [(p.series, p.size, p.seed, p.rates) for p in points] == [
        ("a", "d_model 128", 5, (0.1, 0.2)), ("b", "d_model 64", 0, ()), ("b", "d_model 64", 1, ()),
    ]  # fmt: skip


def test_the_rate_is_chosen_on_the_middle_size_and_first_seed(tmp_path):
    points = frontier_points(made_up.config(seeds=(7, 3)), tmp_path)
    found = middle([p for p in points if p.series == "sparse"])
    assert (found.size, found.seed) == ("target 1/16 d_model 128", 7)


def test_results_belong_to_what_decides_them(tmp_path):
    (first, *_) = frontier_points(made_up.config(), tmp_path)

    def identity(asked):
        return frontier_points(asked, tmp_path)[0].identity

    asked = made_up.config()
    same = [
        with_section(asked, "train", eval_every=7, checkpoint_every=3),
        with_section(asked, "data", store="elsewhere", hash="0" * 16),
        with_section(asked, "prune", batching="vmap"),
        made_up.config(confidence=0.5, compare=(), slots=3),
        made_up.config(seeds=(0,)),
    ]
    other = [
        with_section(asked, "train", steps=7),
        with_section(asked, "prune", retries=1),
        with_section(asked, "prune", learnt=0.2),
        with_section(asked, "optimizer", learning_rate=0.5),
        made_up.config(learning_rates=(0.1,)),
    ]
    assert [i for i, changed in enumerate(same[:2] + same[3:]) if identity(changed) != first.identity] == []
    assert [i for i, changed in enumerate(other) if identity(changed) == first.identity] == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((), ["frontier.series is empty", "frontier_laptop"]),
        (("a: model.width=3",), ["unknown config key", "width"]),
        (("a: d_model=3",), ["unknown setting 'd_model'"]),
        (("a: model.d_model=wide",), ["d_model", "'wide'"]),
        (
            ("a: model.d_model=64", "b: model.d_model=64"),
            ["'b, d_model 64, seed 0'", "is the same as 'a, d_model"],
        ),
        (("a: model.d_model=64,64",), ["is the same as"]),
        (
            ("a b: model.d_model=64", "a-b: model.d_model=64 train.seed=0 sparsity.floor=0"),
            ["is the same as"],
        ),
        (("a: model.d_model=64", "b: data.seed=1"), ["cannot be compared", "corpora"]),
        (("a: model.vocab_size=1024", "b:"), ["cannot be compared", "tokenizers (model.vocab_size)"]),
        (("a: model.n_ctx=64,128 train.steps=4000,2000",), ["cannot be compared", "contexts"]),
        (("a: train.steps=10,20",), ["cannot be compared", "training tokens"]),
        (("a: train.eval_batches=10,20",), ["cannot be compared", "validation windows"]),
        (("a: prune.steps=10,20",), ["cannot be compared", "searches"]),
    ],
)
def test_a_list_that_cannot_be_run_is_one_line_before_any_training(tmp_path, rows, words):
    with pytest.raises(ConfigError) as caught:
        frontier_points(made_up.config(series=rows, compare=()), tmp_path)
    message = str(caught.value)
    assert "\n" not in message and [word for word in words if word not in message] == []
    assert not list(tmp_path.iterdir())
