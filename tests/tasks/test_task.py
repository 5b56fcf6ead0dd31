"""`build_pairs`: padding, determinism, and one clear error for each thing that can go wrong."""

import dataclasses
import hashlib

import numpy as np
import pytest

from circuits_jax.data.programs.words import SPLITS
from circuits_jax.storage.errors import UserError
from circuits_jax.tasks import TASKS, Pairs, Task, TaskError, build_pairs, skeleton
from tests.tasks.word_tokenizer import WordTokenizer

QUOTE = TASKS["single_double_quote"]


class LetterTokenizer(WordTokenizer):
    """No word is one token."""

    hash = "letters"

    def encode(self, text):
        return [ord(letter) for letter in text]


class MergingTokenizer(WordTokenizer):
    """A word and the quote after it are one token, so that prompts are no prefixes."""

    def encode(self, text):
        return WordTokenizer.encode(self, text.replace('"', "quote").replace("'", "mark"))


def _task(*skeletons):
    return Task("mine", "a test", {"train": skeletons, "heldout": skeletons})


def test_padding_evens_out_lengths_before_the_fork():
    task = _task(skeleton("$pad\n«a b c d e|a»\n$n0 = $d0\nif $n0", "« == 1:\n    pass|:\n    pass»\n"))
    task = dataclasses.replace(task, python=False)
    pairs = build_pairs(task, WordTokenizer(), "train", 20, 0, 64)
    for (a, b), last in zip(pairs.texts, pairs.last, strict=True):
        comment_a, comment_b = a.split("\n")[0], b.split("\n")[0]
        assert len(comment_b.split()) == len(comment_a.split()) + 4
        assert comment_b.startswith(comment_a + " ")
        assert len(WordTokenizer().encode(a)) == len(WordTokenizer().encode(b)) == last + 1
    tails = pairs.tokens[np.arange(20)[:, None], :, pairs.last[:, None] - np.arange(6)]
    assert (tails[..., 0] == tails[..., 1]).all()


def test_common_beginning_of_the_continuations_joins_the_prompt():
    task = dataclasses.replace(
        _task(skeleton("$n0 = $n1 + $n2 - $n3 * $n4\n«yes|no» = $n0", " or not «left|right»")), python=False
    )
    pairs = build_pairs(task, WordTokenizer(), "train", 4, 0, 64)
    assert all(text.endswith(" or not") for pair in pairs.texts for text in pair)
    assert set(pairs.continuations) == {(" left", " right")} or set(pairs.continuations) == {
        ("left", "right")
    }


def test_same_seed_and_hash_same_pairs():
    first = build_pairs(QUOTE, WordTokenizer(), "train", 50, 1, 64)
    again = build_pairs(QUOTE, WordTokenizer(), "train", 50, 1, 64)
    more = build_pairs(QUOTE, WordTokenizer(), "train", 80, 1, 64)
    other_seed = build_pairs(QUOTE, WordTokenizer(), "train", 50, 2, 64)
    other_hash = WordTokenizer()
    other_hash.hash = "others"
    assert first.texts == again.texts and np.array_equal(first.tokens, again.tokens)
    assert more.texts[:50] == first.texts
    assert first.texts != other_seed.texts
    assert first.texts != build_pairs(QUOTE, other_hash, "train", 50, 1, 64).texts


def test_pairs_are_the_same_on_every_machine():
    tokenizer = WordTokenizer()
    pairs = [build_pairs(task, tokenizer, "test", 20, 0, 128) for task in TASKS.values()]
    assert (
        hashlib.sha256(repr([found.texts for found in pairs]).encode()).hexdigest()[:16] == "39c7a903e72ab839"
    )


@pytest.mark.parametrize("name", TASKS)
def test_word_tokenizer_keeps_every_task(name):
    for split in SPLITS:
        assert build_pairs(TASKS[name], WordTokenizer(), split, 64, 0, 128).survived == 1


def test_templates_share_the_pairs_evenly():
    pairs = build_pairs(TASKS["bracket_counting"], WordTokenizer(), "train", 400, 0, 64)
    assert 82 <= sum("def " in a for a, _ in pairs.texts) <= 96  # two templates of nine
    assert np.bincount(pairs.template).tolist() == pytest.approx([400 / 9] * 9, abs=2)


def test_pairs_that_were_seen_are_not_drawn_again():
    seen = [
        build_pairs(QUOTE, WordTokenizer(), "test", count, seed, 64) for count, seed in ((30, 0), (20, 1))
    ]
    free = build_pairs(QUOTE, WordTokenizer(), "test", 60, 0, 64)
    new = build_pairs(QUOTE.unlike(*seen), WordTokenizer(), "test", 30, 0, 64)
    assert new.texts == [texts for texts in free.texts if texts not in seen[0].texts + seen[1].texts][:30]
    few = _task(skeleton("a = b\na = b\na = $d0«(|[»c", "«)|]»\n"))
    some = build_pairs(few, WordTokenizer(), "test", 4, 0, 64)
    with pytest.raises(TaskError, match="only 5 different test pairs .* that pruning has not seen, not 6"):
        build_pairs(few.unlike(some), WordTokenizer(), "test", 6, 0, 64)


def test_a_template_that_is_left_out_keeps_its_number():
    kept = build_pairs(QUOTE, _NoFunctions(), "train", 90, 0, 64)
    assert set(kept.template.tolist()) == {0, 2, 4, 6, 7}


def test_pairs_are_of_one_template_where_nothing_is_said():
    found = build_pairs(QUOTE, WordTokenizer(), "train", 9, 0, 64)
    bare = Pairs("t", "test", found.tokens, found.last, found.answers, found.texts, 1.0)
    assert bare.template.tolist() == [0] * 9 and bare.digest == found.digest


class _NoFunctions(WordTokenizer):
    def encode(self, text):
        return WordTokenizer.encode(self, text) * (1 + (text.strip() in QUOTE.words["train"]["f"]))


def test_templates_without_words_are_left_out():
    pairs = build_pairs(QUOTE, _NoFunctions(), "train", 90, 0, 64)
    assert {a.split()[0] for a, _ in pairs.texts}.isdisjoint({"def", "import"})


@pytest.mark.parametrize(
    "message,build",
    [
        (
            "split is 'dev'; choose one of train, select, test",
            lambda t: build_pairs(QUOTE, t, "dev", 4, 0, 64),
        ),
        ("ask for 1 or more", lambda t: build_pairs(QUOTE, t, "train", 0, 0, 64)),
        ("more than the context of 12", lambda t: build_pairs(QUOTE, t, "train", 4, 0, 12)),
        ("single tokens", lambda t: build_pairs(QUOTE, LetterTokenizer(), "train", 4, 0, 64)),
        (
            "loses 100%.*not a prefix of prompt",
            lambda t: build_pairs(QUOTE, MergingTokenizer(), "train", 4, 0, 64),
        ),
        (
            "only 9 different train pairs.*not 10",
            lambda t: build_pairs(
                _task(skeleton("a = b\na = b\na = $d0«(|[»c", "«)|]»\n")), t, "train", 10, 0, 64
            ),
        ),
        (
            "differ in length",
            lambda t: build_pairs(
                _task(skeleton("$n0 = 1\n«$n1 = 2\n|»x = (1", "«)|,)»\n")), t, "train", 4, 0, 64
            ),
        ),
        (
            "not valid Python",
            lambda t: build_pairs(_task(skeleton("$n0 = 1\n$n1 =«(|[»1", "«]|)»\n")), t, "train", 4, 0, 64),
        ),
        (
            "do not end in the same token",
            lambda t: build_pairs(
                _task(skeleton("$n0 = 1\n$n1 = 1 +«(|[»", "«1)|2]»\n")), t, "train", 4, 0, 64
            ),
        ),
        (
            "fewer than 10",
            lambda t: build_pairs(_task(skeleton("$n0 =«(|[»1", "«)|]»\n")), t, "train", 4, 0, 64),
        ),
        (
            "do not differ",
            lambda t: build_pairs(_task(skeleton("«a|b» = $n1 +", " 1\n")), t, "train", 4, 0, 64),
        ),
        ("kind z", lambda t: build_pairs(_task(skeleton("$z0 = («1|2»", ")\n")), t, "train", 4, 0, 64)),
        ("no slot", lambda t: _task(skeleton("$ = 1", ")\n"))),
        ("no test template", lambda t: Task("mine", "", {"train": QUOTE.templates["train"]})),
    ],
)
def test_clear_errors(message, build):
    with pytest.raises(TaskError, match=message) as caught:
        build(WordTokenizer())
    assert isinstance(caught.value, TaskError) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((QUOTE.name, WordTokenizer(), "train", 4, 0, 64), "the task is 'quote'; give"),
        ((QUOTE, None, "train", 4, 0, 64), "need a tokenizer"),
        ((QUOTE, WordTokenizer(), "train", "4", 0, 64), "the number of pairs is '4'; give a whole number"),
        ((QUOTE, WordTokenizer(), "train", 4, None, 64), "the seed is None"),
        ((QUOTE, WordTokenizer(), "train", 4, 0, 6.5), "n_ctx is 6.5"),
    ],
)
def test_arguments_of_the_wrong_kind(given, words):
    with pytest.raises(UserError) as caught:
        build_pairs(*given)
    assert words.replace("'quote'", repr(QUOTE.name)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    found = build_pairs(QUOTE, WordTokenizer(), "train", np.int64(4), np.int32(0), np.int64(64))
    assert found.digest == build_pairs(QUOTE, WordTokenizer(), "train", 4, 0, 64).digest
