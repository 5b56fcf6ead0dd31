"""The released tokenizer, on a small pair of files made here."""

import builtins
import collections
import hashlib
import itertools
import json
import re

import pytest
import regex

from circuits_jax import released
from circuits_jax.config import ModelConfig
from circuits_jax.data.programs.words import WORDS
from circuits_jax.data.tokenizers.tinypython import PATTERN, byte_alphabet
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.tasks import build_pairs, get_task
from tests.released.models import TINY, random_params

MERGES = [("d", "e"), ("de", "f"), ("Ġ", "="), ("Ċ", "Ċ"), ("1", "2"), ("12", "3"), ("Ã", "©"), ("Ġ", "de")]
TEXTS = [
    "",
    "def f(x):\n\treturn x == 12345\r\n\n\n",
    "naïve = 'é\u2028\U0001f600' # \f\v\0 \x7f\xa0",
    "<|endoftext|> is text here",
    "def def  def\n def",
]


def write_pair(folder, merges=MERGES, ids=None):
    """The two files of a byte-pair encoding with these merges, in GPT-2's form."""
    tokens = [*byte_alphabet(), *(a + b for a, b in merges)]
    encoder = {token: rank for rank, token in enumerate(tokens)} if ids is None else ids(tokens)
    folder.mkdir(exist_ok=True)
    (folder / "encoder.json").write_text(json.dumps(encoder))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (folder / "vocab.bpe").write_text("\n".join(lines), encoding="utf-8")
    return folder


def learn_merges(text, count):
    """The merges of the most frequent pairs, as a byte-pair encoding is trained, in GPT-2's letters."""
    letters = {byte: letter for letter, byte in byte_alphabet().items()}
    words = collections.Counter(regex.findall(PATTERN, text))
    spelled = {word: [letters[byte] for byte in word.encode()] for word in words}
    merges = []
    for _ in range(count):
        pairs = collections.Counter()
        for word, parts in spelled.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        merges.append(max(pairs, key=lambda pair: (pairs[pair], pair)))
        first, second = merges[-1]
        for parts in spelled.values():
            for i in range(len(parts) - 2, -1, -1):
                if parts[i : i + 2] == [first, second]:
                    parts[i : i + 2] = [first + second]
    return merges


@pytest.fixture
def tokenizer(tmp_path):
    return released.TinyPython(write_pair(tmp_path))


def test_known_tokens(tokenizer):
    ids = dict(zip(map("".join, MERGES), range(256, 300), strict=False))
    assert tokenizer.encode("def") == [ids["def"]]
    assert tokenizer.pieces(tokenizer.encode(" = def")) == [" =", " ", "def"]
    assert tokenizer.encode(" de") == [ids["Ġ" + "de"]]
    assert tokenizer.pieces(tokenizer.encode("12345")) == ["123", "4", "5"]  # at most three digits
    assert tokenizer.encode("é") == [ids["Ã©"]]
    assert tokenizer.pieces(tokenizer.encode("è")) == ["\\xc3", "\\xa8"]


def test_ids_are_as_released(tokenizer):
    assert (tokenizer.eot, tokenizer.vocab_size) == (2047, 2048)
    # Python's re has no \p{...}, so the pattern is taken apart as text.
    assert PATTERN.split("|")[1] == r"\p{N}{1,3}" and len(re.findall(r"\\p{L}", PATTERN)) == 3


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([*ids, tokenizer.eot]) == text
    assert tokenizer.eot not in ids
    assert tokenizer.encode_batch([text, text]) == [ids, ids]


def test_no_id_is_negative(tokenizer):
    with pytest.raises(ValueError, match="token -1 is not"):
        tokenizer.decode([-1])


def test_ids_that_stand_for_nothing(tokenizer):
    """A model may draw those between the last merge and end-of-text, and may have more than the tokenizer."""
    last = 256 + len(MERGES)
    ids = [last - 1, last, 2046, *tokenizer.encode("x")]
    assert tokenizer.decode([*ids, 2047, 2048, 10**20]) == " dex"
    assert tokenizer.pieces(ids) == [" de", f"#{last}", "#2046", "x"]
    assert tokenizer.pieces([2047, 2048]) == ["<|endoftext|>", "#2048"]  # a model may have more ids


def test_hash_is_of_both_files(tokenizer, tmp_path):
    content = (tmp_path / "encoder.json").read_bytes() + (tmp_path / "vocab.bpe").read_bytes()
    assert tokenizer.hash == hashlib.sha256(content).hexdigest()
    assert released.TinyPython(write_pair(tmp_path / "other", MERGES[:3])).hash != tokenizer.hash


def test_end_of_text_of_the_file_itself(tmp_path):
    folder = write_pair(tmp_path, ids=lambda tokens: {t: i for i, t in enumerate([*tokens, "<|endoftext|>"])})
    tokenizer = released.TinyPython(folder)
    assert (tokenizer.eot, tokenizer.vocab_size) == (264, 265)
    marks = {"<|startoftext|>": 2046, "<|endoftext|>": 2047}
    folder = write_pair(tmp_path, ids=lambda tokens: {t: i for i, t in enumerate(tokens)} | marks)
    tokenizer = released.TinyPython(folder)
    assert (tokenizer.eot, tokenizer.vocab_size) == (2047, 2048)
    text = "<|startoftext|> def<|endoftext|>"
    assert tokenizer.decode(tokenizer.encode(text)) == text and 2047 not in tokenizer.encode(text)


@pytest.mark.parametrize("layout", ["bucket", "huggingface"])
def test_beside_a_model(tokenizer, layout, tmp_path):
    config = ModelConfig(n_layer=1, d_model=8, n_ctx=6, vocab_size=2048, d_head=4, bigram=False)
    folder = released.export(random_params(config), config, tmp_path / "out", layout, tokenizer)
    assert released.load(folder).tokenizer.hash == tokenizer.hash
    folder = released.save_sparse(random_params(config), config, tmp_path / "sparse", tokenizer)
    assert released.load_sparse(folder).tokenizer.hash == tokenizer.hash
    # Written again without it, the folder holds no other model's tokenizer.
    released.export(random_params(config), config, tmp_path / "out", layout)
    assert released.load(tmp_path / "out").tokenizer is None


def test_vocabulary_larger_than_the_models(tokenizer, tmp_path):
    folder = released.export(random_params(TINY), TINY, tmp_path / "out", tokenizer=tokenizer)
    with pytest.raises(CheckpointError, match="the tokenizer has 2048 tokens, the model 11"):
        released.load(folder)


def test_tiktoken_not_installed(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "tiktoken":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CheckpointError, match=r"circuits_jax\[openai\]"):
        released.TinyPython(write_pair(tmp_path))


@pytest.mark.parametrize(
    "ids",
    [
        lambda tokens: {},
        lambda tokens: dict.fromkeys(tokens, 0),
        lambda tokens: {token: str(rank) for rank, token in enumerate(tokens)},
        lambda tokens: {token: rank + 1 for rank, token in enumerate(tokens)},
        lambda tokens: {token: rank for rank, token in enumerate(tokens[:-1])},
        lambda tokens: {token: rank for rank, token in enumerate(tokens[1:])},
        lambda tokens: {token: rank for rank, token in enumerate([*tokens[:-2], *tokens[:-3:-1]])},
        lambda tokens: {token: rank for rank, token in enumerate([*tokens, "日本"])},
        lambda tokens: {t: i for i, t in enumerate(tokens)} | {"<|endoftext|>": 3},
        lambda tokens: {t: i for i, t in enumerate(tokens)} | {"<|endoftext|>": "x"},
    ],
)
def test_files_that_do_not_fit_together(ids, tmp_path):
    with pytest.raises(CheckpointError) as error:
        released.TinyPython(write_pair(tmp_path, ids=ids))
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "vocab.bpe").unlink()
    with pytest.raises(CheckpointError, match=r"vocab\.bpe cannot be read"):
        released.TinyPython(tmp_path)


def test_tasks_are_built_on_it_as_on_sentencepiece(tmp_path):
    """Pairs whose answers are tokens of this encoding: its quotes are merged with what stands behind them."""
    words = " ".join(word for split in WORDS.values() for kind in split.values() for word in kind)
    quotes = "".join(f"f('{word}')\nf(\"{word}\")\n" for word in "abcdefgh")
    text = f"{words}\nprint('x')\nprint(\"x\")\n{quotes}" * 3
    tokenizer = released.TinyPython(write_pair(tmp_path, learn_merges(text, 800)))
    pairs = build_pairs(get_task("single_double_quote"), tokenizer, "train", 16, seed=0, n_ctx=128)
    for texts, answers, tokens, last in zip(
        pairs.texts, pairs.answers, pairs.tokens, pairs.last, strict=True
    ):
        for side in (0, 1):
            prompt = tokens[side, : last + 1].tolist()
            assert prompt == tokenizer.encode(texts[side]) and tokenizer.decode(prompt) == texts[side]
        quotes = tokenizer.pieces(answers.tolist())
        assert {quote[0] for quote in quotes} == {"'", '"'} and quotes[0][1:] == quotes[1][1:]
