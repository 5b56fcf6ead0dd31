import shutil

import pytest

from circuits_jax.data.corpus import prepare
from circuits_jax.training.workdir import claim
from tests.jax_settings import jax_settings
from tests.training.tiny import CONFIG, make_trainer, replace, write_programs


@pytest.fixture(autouse=True, scope="package")
def compilation_cache(tmp_path_factory):
    """Programs that several tests compile anew are kept on disk, which makes them fast from the second on."""
    names = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    with jax_settings(names):
        yield


@pytest.fixture(scope="package")
def base(tmp_path_factory):
    """A workdir with a tokenizer and windows, and its corpus."""
    folder = tmp_path_factory.mktemp("base")
    write_programs(folder / "tree")
    config = replace(CONFIG, "data", roots=(str(folder / "tree"),))
    corpus = prepare(config.data, config.model.vocab_size, config.model.n_ctx, folder / "run")
    claim(folder / "run", config)
    return config, corpus, folder / "run"


@pytest.fixture
def fresh(base, tmp_path):
    """(configuration, corpus, a workdir of one's own)."""
    config, corpus, workdir = base
    shutil.copytree(workdir, tmp_path / "run")
    return config, corpus, tmp_path / "run"


@pytest.fixture(scope="package")
def whole(base, tmp_path_factory):
    """An uninterrupted run: (workdir, its trainer, its last state)."""
    config, corpus, workdir = base
    own = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(workdir, own)
    trainer = make_trainer(config, corpus, own)
    return own, trainer, trainer.run()
