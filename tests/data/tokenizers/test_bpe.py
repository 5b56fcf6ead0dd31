"""The tokenizer loses nothing, is the same each time, and names what is wrong with its input."""

import random
import re
import sysconfig
from pathlib import Path

import pytest

from circuits_jax.config import DataConfig
from circuits_jax.data.tokenizers.bpe import EOT, load_tokenizer, train_sentencepiece
from circuits_jax.storage.errors import ConfigError

STDLIB = Path(sysconfig.get_path("stdlib"))
TEXTS = [(STDLIB / name).read_bytes().decode() for name in ("textwrap.py", "shlex.py", "csv.py")]
SYMBOLS = DataConfig().symbols
TOKENIZER = train_sentencepiece(TEXTS, 600, SYMBOLS)

# Characters that end a line, stand for a space in the model, mean something to it, or are rare.
DIFFICULT = list("\r\n\t\x0b\x0c\x00\x1c\x7f\x85\u2028\ufeff\u2581\u2585 \"'aé😀\U0010ffff") + [EOT, "<0x41>"]


def random_texts(count: int, seed: int) -> list[str]:
    """Texts of difficult characters and of any others that UTF-8 can hold."""
    choose = random.Random(seed)
    others = [chr(code) for code in range(0x11000) if not 0xD800 <= code < 0xE000]
    sources = (DIFFICULT, others, DIFFICULT + list("abc def"))
    return ["".join(choose.choices(sources[n % 3], k=choose.randrange(40))) for n in range(count)]


@pytest.mark.parametrize(
    "text", ["", "\u2581", " \u2581\u2581 x\u2581", "\ufeffimport os\r\n\tpass\x0c\x00\r"]
)
def test_difficult_texts_survive(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_every_text_survives() -> None:
    texts = random_texts(2000, seed=0)
    encoded = [TOKENIZER.encode(text) for text in texts]
    assert [TOKENIZER.decode(ids) for ids in encoded] == texts
    assert TOKENIZER.encode_batch(texts) == encoded
    assert not any(TOKENIZER.eot in ids for ids in encoded)


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_spell_the_text(text: str) -> None:
    pieces = TOKENIZER.pieces(TOKENIZER.encode(text))
    assert len(pieces) < 0.6 * len(text)  # it has learned merges
    spelled = b"".join(
        bytes.fromhex(piece[2:]) if re.fullmatch(r"\\x[0-9a-f]{2}", piece) else piece.encode()
        for piece in pieces
    )
    assert spelled.decode() == text


def test_pieces_show_bytes_and_the_end_of_text() -> None:
    assert TOKENIZER.pieces(TOKENIZER.encode("\x0c\u2581")) == ["\\x0c", "\\xe2", "\\x96", "\\x81"]
    assert TOKENIZER.pieces([TOKENIZER.eot]) == [EOT]
    beyond = TOKENIZER.vocab_size  # a model may have more ids
    assert TOKENIZER.pieces([beyond, beyond + 7]) == [f"#{beyond}", f"#{beyond + 7}"]
    assert TOKENIZER.decode([beyond, *TOKENIZER.encode("a b"), beyond + 7]) == "a b"
    assert TOKENIZER.decode([*TOKENIZER.encode("a b"), TOKENIZER.eot]) == "a b"


@pytest.mark.parametrize("seed", range(100))
def test_symbols_are_tokens_the_longest_first(seed: int) -> None:
    text = "".join(random.Random(seed).choices("\"'a ", [4, 4, 1, 1], k=12))
    expected = re.findall("\"\"\"|'''|\"|'", text)
    pieces = TOKENIZER.pieces(TOKENIZER.encode(text))
    assert [piece for piece in pieces if set(piece) & {'"', "'"}] == expected


def test_symbols_may_hold_spaces_newlines_and_commas() -> None:
    tokenizer = train_sentencepiece(TEXTS, 600, ("]]\n", "a, b"))
    assert tokenizer.pieces(tokenizer.encode("x[a, b]]\n"))[-2:] == ["a, b", "]]\n"]


@pytest.mark.parametrize("symbols", [("",), ('"', '"'), (EOT,)])
def test_impossible_symbols(symbols: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="data.symbols"):
        train_sentencepiece(TEXTS, 600, symbols)


def test_training_is_deterministic_and_the_file_round_trips(tmp_path: Path) -> None:
    again = train_sentencepiece(iter(TEXTS), 600, SYMBOLS)
    assert again.hash == TOKENIZER.hash
    assert train_sentencepiece(TEXTS[:2], 600, SYMBOLS).hash != TOKENIZER.hash
    TOKENIZER.save(tmp_path / "new" / "tokenizer.model")
    loaded = load_tokenizer(tmp_path / "new" / "tokenizer.model")
    assert (loaded.hash, loaded.vocab_size, loaded.eot) == (TOKENIZER.hash, 600, TOKENIZER.eot)
    assert loaded.encode(TEXTS[0]) == TOKENIZER.encode(TEXTS[0])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tokenizer.model"]


def test_too_large_a_vocabulary_names_one_that_fits() -> None:
    with pytest.raises(ConfigError, match="vocab_size is 50000, too large") as error:
        train_sentencepiece(TEXTS, 50000, SYMBOLS)
    most = int(re.search(r"set it to (\d+)", str(error.value))[1])
    assert train_sentencepiece(TEXTS, most, SYMBOLS).vocab_size == most
    with pytest.raises(ConfigError, match=f"vocab_size is {most + 1}, too large"):
        train_sentencepiece(TEXTS, most + 1, SYMBOLS)


def test_too_small_a_vocabulary_and_no_text() -> None:
    with pytest.raises(ConfigError, match="vocab_size is 100, too small"):
        train_sentencepiece(TEXTS, 100, SYMBOLS)
    for nothing in ([], ["", "\n"]):
        with pytest.raises(ConfigError, match="no text"):
            train_sentencepiece(nothing, 600, SYMBOLS)


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tokenizer(path)
    TOKENIZER.save(path)
    model = path.read_bytes()
    for size in [*range(0, len(model), 97), *range(len(model) - 60, len(model))]:
        path.write_bytes(model[:size])
        with pytest.raises(ConfigError, match=re.escape(str(path))) as error:
            load_tokenizer(path)
        assert "\n" not in str(error.value)
