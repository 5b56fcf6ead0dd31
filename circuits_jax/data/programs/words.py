"""Words that tasks are made of: real-code-like, in fixed lists, disjoint between the splits.

Splits: masks are learnt on `train`, choices are made by `select`, figures are reported of `test`.

Kinds: `n` variable names, `i` loop indices, `f` function names, `c` class names, `w` English words (used
in strings and comments), `d` digits (no words, hence common to all splits).  Under a tokenizer only
those that are single pieces are used (`tasks.task.single_pieces`), so the lists hold short, frequent
words first.  No split holds a word that a task's skeleton itself spells (`current`, `func`, `add`).
"""

SPLITS = ("train", "select", "test")

_TRAIN = {
    "n": (
        "name value path data key file node text item index args msg source prefix size event pos base "
        "token parser parent state socket level stream user address host action spec timeout server "
        "output entry url buffer block handler attr config doc err col version lines mode options arg "
        "request title field fields keys label locale element position elem section offset width length "
        "callback connection extension stdout charset pair params query record schema score cell channel "
        "color column counter cursor date delta depth device digest domain edge email engine factor "
        "folder font grid queue image job layer ledger loader lower mask matrix memo metric model owner "
        "page payload phase pixel plan player policy port price profile ratio region report response "
        "route salary sample scale scope signal slot speed status subject symbol table task theme ticket "
        "topic total trace tree vector vertex volume weight window worker zone par con ab"
    ),
    "i": "i k x a s d p c e m q",
    "f": (
        "read get call check parse make find close run load send update extend remove insert replace "
        "reset flush start_all fetch convert render resolve register select scan sort_by merge notify "
        "apply collect connect describe dump emit evaluate execute export get_item inspect invoke launch "
        "lookup measure normalize publish push rebuild reduce refresh release"
    ),
    "c": (
        "A C E M T Type Node Text File Key Base Token Item Parser Config Event Entry Stream Server "
        "Address Handler Source Buffer Table Model Record Queue F G K"
    ),
    "w": (
        "the of an at can other only message end first error time default up its string case no like when "
        "found missing where some most where empty used more also should must will which because small "
        "second local left invalid done full given many much few kind order own part same such there "
        "these under very well word work year day big long short low dark warm green yellow paper bread "
        "river stone winter morning garden horse letter music The next"
    ),
}
# Every second one is a word of `test`, the others are words of `select`.
_UNSEEN = {
    "n": (
        "result line filename obj encoding root start names files header frame group widget target "
        "package stack process tag child thread extra option values flags char res context module method "
        "errors number command instance exc pattern member variable tokens info client cache mapping "
        "content sequence headers scheme suffix digits nodes parts chunk archive args_list attrs lineno "
        "depth_map branch bucket budget button bytes_left canvas cluster code_point cost country course "
        "customer database delay detail direction document driver duration estimate feature filter_by "
        "flag formula fragment gap graph height history holder icon identifier interval invoice job_id "
        "kernel language limit link location margin marker material measure_of medium menu month motor "
        "movie network notice object_id offer operand origin outcome panel peer percent period person "
        "pipe point pool product property_id quota rank rate reader reason recipe reference resource "
        "review role row rule sensor session shape shelf site snapshot exp cls cur reg sup pre bin mod ex "
        "app ad kw op co pa id type dir inter iter comp codecs"
    ),
    "i": "j n y t v h w z l o r u b g",
    "f": (
        "write create match copy encode handle decode sign pack stop save build format_all process_all "
        "search split strip submit subscribe swap_in sync tally track transform translate traverse trim "
        "unpack upload validate verify visit walk wrap yield_all zip_up accept attach bind browse cancel "
        "capture clean commit compute confirm sub exec log use"
    ),
    "c": (
        "B D S N P W Option Var Doc Name Frame Error Header Group Widget Target Module Method Context "
        "Process Thread Result Command Client Session L H R J X V Decimal Con"
    ),
    "w": (
        "to be are on by all new has last right code so test one that this any may before after two both "
        "still might never often always between every each about above again almost along already around "
        "away behind below beside beyond brief bright bring busy calm care cheap clear cold common cool "
        "corner cotton deep dry early earth fair far fast fine fresh front good great happy heavy high "
        "island kitchen market mountain out This per off loop input argument back exception function bytes "
        "debug types"
    ),
}


def _lists(kinds: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {kind: tuple(dict.fromkeys(words.split())) for kind, words in kinds.items()} | {
        "d": tuple("123456789")
    }


_UNSEEN_LISTS = _lists(_UNSEEN)

WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "train": _lists(_TRAIN),
    "select": {kind: words if kind == "d" else words[1::2] for kind, words in _UNSEEN_LISTS.items()},
    "test": {kind: words if kind == "d" else words[::2] for kind, words in _UNSEEN_LISTS.items()},
}
"""split -> kind -> words, most frequent in code first."""

UNSEEN_WORDS: frozenset[str] = frozenset(
    word for kind, words in _UNSEEN_LISTS.items() if kind != "d" for word in words
)
"""Every word of the splits `select` and `test`: generated training programs use none of them."""
