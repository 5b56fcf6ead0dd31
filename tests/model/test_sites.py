"""The names of places: what the forward pass shows its tap is exactly what the tables say."""

import ast
import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import circuits_jax
from circuits_jax.config import TOPK_LOCATIONS, ModelConfig
from circuits_jax.model import sites
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.model.wiring import GATES, READS, WRITES, half_of, halves, layers_of
from circuits_jax.storage.errors import ConfigError
from tests.source import texts

CONFIG = ModelConfig(
    n_layer=11, d_model=8, d_head=4, n_head=3, d_mlp=10, n_ctx=4, vocab_size=9, position="concat", d_pos=2
)


def test_the_forward_pass_meets_every_site_once_in_order_and_in_its_width():
    seen = []

    def tap(site, x):
        seen.append((site, x.shape))
        return x

    def forward():
        params = init_params(CONFIG, jax.random.key(0))
        return Transformer(CONFIG).apply(params, jnp.zeros((2, 3), jnp.int32), tap=tap)

    jax.eval_shape(forward)
    assert seen == [(site, (2, 3, width)) for site, width in sites.sites(CONFIG).items()]


def test_released_names_and_widths():
    half = {"resid_in": 8, "attn.act_in": 10, "attn.q": 12, "attn.k": 12, "attn.v": 12, "attn.y": 12}
    half |= {"attn.resid_delta": 8, "resid_mid": 8, "mlp.act_in": 10, "mlp.post_act": 10}
    half |= {"mlp.resid_delta": 8}
    expected = {f"{layer}.{name}": width for layer in range(11) for name, width in half.items()}
    assert sites.sites(CONFIG) == expected | {"final_resid": 8}


def test_there_are_eleven_d_model_nodes_a_layer():
    config = ModelConfig(n_layer=3, d_model=32, d_head=16)
    nodes = sites.node_sites(config)
    assert sum(nodes.values()) == 3 * 11 * 32
    assert len(nodes) == 3 * 8 and set(nodes) < set(sites.sites(config))
    assert not any("resid_in" in site or "resid_mid" in site or site.endswith(".y") for site in nodes)


def recorded(config: ModelConfig) -> dict[str, np.ndarray]:
    """Activations at every site of a random network, [2, 3, width]."""
    params = init_params(config, jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), params)
    tokens = jax.random.randint(jax.random.key(1), (2, 3), 0, config.vocab_size)
    _, records = Transformer(config).apply(params, tokens, record=tuple(sites.sites(config)))
    return {site: np.asarray(x) for site, x in records.items()}


def test_every_half_adds_what_it_writes_to_the_stream_before_it():
    config = dataclasses.replace(CONFIG, n_layer=2, activation_fraction=None)
    found, every = recorded(config), halves(2)
    after = [*(half.stream for half in every[1:]), sites.FINAL]
    assert [half.number for half in every] == [0, 1, 2, 3]
    for half, stream in zip(every, after, strict=True):
        assert np.allclose(found[stream], found[half.stream] + found[half.write], atol=1e-6)
    assert [half for layer in layers_of(2) for half in layer] == list(every)


def test_halves_cover_the_node_sites_in_forward_order():
    covered = [site for half in halves(11) for site in (half.read, *half.units, half.write)]
    assert covered == list(sites.node_sites(CONFIG)) == list(half_of(11))
    assert sorted(covered, key=sites.order) == covered and sites.order(sites.FINAL) > sites.order(covered[-1])
    locations = {sites.parse(site)[1]: half_of(11)[site] for site in covered[-8:]}
    for location, half in locations.items():
        assert (location in READS) == (half.read.endswith(location))
        assert (location in WRITES) == (half.write.endswith(location))
        assert (location in GATES) == any(site.endswith(location) for site in half.gates)
        if location in GATES:
            assert half.values.endswith(GATES[location])


def test_so_many_entries_as_the_table_says_are_left_at_every_site():
    config = dataclasses.replace(
        CONFIG, n_layer=2, activation_fraction=0.5, activation_locations=TOPK_LOCATIONS
    )
    found = recorded(config)
    for site, x in found.items():
        kept = sites.kept_at(config, site)
        assert kept is None or (x != 0).sum(-1).max() == kept, site
    assert {site for site in found if sites.kept_at(config, site) is None} == {
        "0.resid_in", "0.attn.y", "1.attn.y"
    }  # fmt: skip
    widths = {topk: sites.topk_width(config, topk) for topk in TOPK_LOCATIONS}
    assert set(widths.values()) == {8, 10, 12} and widths["mlp_in"] == 10 and widths["resid_post_mlp"] == 8


def test_no_other_place_knows_a_sites_name():
    """But examples of nodes, "0.mlp.post_act.12", in what people read."""
    known = re.compile(
        r"(?<!\w)(act_in|resid_delta|post_act|resid_in|resid_mid|attn\.([qkvy]|\{\})|mlp\.\{\})(?!\w)"
    )
    example = re.compile(r"\d\.(attn|mlp)\.\w+\.\d+|\*\.mlp\.post_act")
    package = pathlib.Path(circuits_jax.__file__).parent
    own = {package / "model" / name for name in ("sites.py", "wiring.py", "transformer.py")}

    def names(tree: ast.Module) -> list[str]:
        return [text for text in texts(tree) if known.search(example.sub("", text))]

    for code in ('f"{i}.attn.{n}"', 'f"{layer}.attn.q"', 'f"{layer}.mlp.{name}"', '"3.mlp.post_act"'):
        assert names(ast.parse(f"site = {code}")), code
    found = [
        f"{path.relative_to(package)}: {text!r}"
        for path in sorted(package.rglob("*.py"))
        if path not in own
        for text in names(ast.parse(path.read_text("utf-8")))
    ]
    assert found == []


def test_no_other_place_takes_a_sites_name_apart():
    """`sites.parse` does, and the wiring joins sites."""
    cut = re.compile(r"\bsite\.(r?partition|r?split|remove(pre|suf)fix)\(")
    package = pathlib.Path(circuits_jax.__file__).parent
    found = [path.name for path in package.rglob("*.py") if cut.search(path.read_text("utf-8"))]
    assert found == ["sites.py"]


def test_the_pages_scripts_name_the_sites_of_the_table():
    """They have a list of their own, in graph.js, with words for each."""
    script = (pathlib.Path(circuits_jax.__file__).parent / "viewer" / "page" / "graph.js").read_text("utf-8")

    def quoted(name: str) -> list[str]:
        """Names of locations in the list, or the keys of the object, that a constant is."""
        (body,) = re.findall(rf"^const {name} = [\[{{](.*?)[\]}}];$", script, re.M | re.S)
        return re.findall(r'"((?:attn|mlp)\.\w+)"', body)

    assert tuple(quoted("LOCATIONS")) == sites.NODE_LOCATIONS
    assert quoted("LOCATION_NAMES") == quoted("LOCATION_LONG") == quoted("LOCATIONS")
    assert f'const FINAL = "{sites.FINAL}";' in script


@pytest.mark.parametrize("site", [site for site in sites.sites(CONFIG) if site != "final_resid"])
def test_parse_takes_a_name_apart(site):
    layer, location = sites.parse(site)
    assert f"{layer}.{location}" == site


@pytest.mark.parametrize(
    "site",
    [
        "",
        "3",
        "x.attn.q",
        "².attn.q",
        "-1.attn.q",
        "0.attn",
        "0.attn.z",
        "attn.q",
        "final_resid",
        "0.0.attn.q",
    ],
)
def test_parse_refuses_other_names(site):
    with pytest.raises(ConfigError, match=r"unknown site.*attn\.q.*mlp\.post_act"):
        sites.parse(site)


def test_select_expands_patterns_in_forward_order():
    assert sites.select(CONFIG, ("*.mlp.post_act", "0.attn.q")) == (
        "0.attn.q",
        *(f"{layer}.mlp.post_act" for layer in range(11)),
    )
    assert sites.select(CONFIG, ("*",)) == tuple(sites.sites(CONFIG))
    assert sites.select(CONFIG, (p for p in ("final_resid",))) == ("final_resid",)
    assert sites.select(CONFIG, ()) == ()


@pytest.mark.parametrize("pattern", ["11.attn.q", "*.attn.z", "0.ATTN.q"])
def test_select_refuses_what_matches_nothing(pattern):
    with pytest.raises(ConfigError) as caught:
        sites.select(CONFIG, ("*.attn.q", pattern))
    message = str(caught.value)
    assert repr(pattern) in message and "0..10" in message and "final_resid" in message


def test_check_names_the_site_and_the_choices():
    sites.check(CONFIG, tuple(sites.sites(CONFIG)))
    with pytest.raises(ConfigError, match=r"'11\.attn\.q'.*\{0\.\.10\}.*mlp\.post_act.*final_resid"):
        sites.check(CONFIG, ("0.attn.q", "11.attn.q"))


def test_an_unknown_location_has_no_width():
    with pytest.raises(ConfigError, match=r"attn\.z.*attn\.q"):
        sites.width(CONFIG, "attn.z")


@pytest.mark.parametrize(
    ("site", "name"),
    [
        ("0.resid_in", "blocks.0.hook_resid_pre"),
        ("3.attn.act_in", "blocks.3.ln1.hook_normalized"),
        ("3.attn.q", "blocks.3.attn.hook_q"),
        ("10.attn.k", "blocks.10.attn.hook_k"),
        ("3.attn.v", "blocks.3.attn.hook_v"),
        ("3.attn.y", "blocks.3.attn.hook_z"),
        ("3.attn.resid_delta", "blocks.3.hook_attn_out"),
        ("3.resid_mid", "blocks.3.hook_resid_mid"),
        ("3.mlp.act_in", "blocks.3.ln2.hook_normalized"),
        ("3.mlp.post_act", "blocks.3.mlp.hook_post"),
        ("3.mlp.resid_delta", "blocks.3.hook_mlp_out"),
        ("final_resid", "blocks.10.hook_resid_post"),
    ],
)
def test_transformer_lens_names(site, name):
    assert sites.transformer_lens_name(CONFIG, site) == name
    assert sites.from_transformer_lens(CONFIG, name) == site


def test_every_site_has_a_transformer_lens_name_of_its_own():
    names = [sites.transformer_lens_name(CONFIG, site) for site in sites.sites(CONFIG)]
    assert [sites.from_transformer_lens(CONFIG, name) for name in names] == list(sites.sites(CONFIG))
    assert sites.from_transformer_lens(CONFIG, "blocks.2.hook_resid_post") == "3.resid_in"


@pytest.mark.parametrize("name", ["11.attn.q", "0.attn.z", "blocks.0.attn.hook_q"])
def test_sites_unknown_to_this_model_have_no_transformer_lens_name(name):
    with pytest.raises(ConfigError, match=r"unknown site.*\{0\.\.10\}.*attn\.q"):
        sites.transformer_lens_name(CONFIG, name)


@pytest.mark.parametrize(
    "name", ["blocks.11.attn.hook_q", "blocks.0.attn.hook_qq", "attn.hook_q", "hook_embed", "0.attn.q", ""]
)
def test_unknown_transformer_lens_names(name):
    with pytest.raises(
        ConfigError, match=r"unknown hook.*blocks\.\{0\.\.10\}.*attn\.hook_q.*hook_resid_post"
    ):
        sites.from_transformer_lens(CONFIG, name)


def test_the_final_residual_stream_has_nodes_where_it_is_asked_to():
    """As many as the published pruning of csp_yolo1 counted."""
    config = ModelConfig(n_layer=12, d_model=1024, d_mlp=4096, d_head=8)
    nodes = sites.node_sites(config, final=True)
    assert sum(nodes.values()) == 136_192
    assert list(nodes) == [*sites.node_sites(config), "final_resid"]
    assert sites.may_have_nodes("final_resid") and sites.may_have_nodes("3.attn.q")
    assert not sites.may_have_nodes("3.attn.y") and not sites.may_have_nodes("3.resid_in")
