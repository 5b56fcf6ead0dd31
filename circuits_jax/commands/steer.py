"""Turns a sparse node inside the dense model that it is bridged to, and watches the dense model's answers.

    python -m circuits_jax steer --workdir=runs/bridges
    python -m circuits_jax steer --workdir=runs/bridges --config.steer.tasks='("with_as",)'
    python -m circuits_jax steer --workdir=runs/bridges --config.steer.tasks='("single_double_quote",)' \\
        --circuit=runs/bridges/sparse/circuits/single_double_quote --nodes=0.mlp.post_act.12

Nodes are those of --nodes; else the best ones at --sites (say, neurons alone: --sites='*.mlp.post_act'), of
--circuit if one is named, else of the whole sparse model.  A circuit that the sparse model has of the task is
put to work inside the dense model too.  Writes `steer.json` into the workdir and, with what the command
`bridges` found, `bridges.html`.
"""

from absl import flags

from circuits_jax.commands import launching, setting_flags
from circuits_jax.runs.steering import steer
from circuits_jax.storage.files import check_writable


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    launching.define_store()
    setting_flags.define_config(of_runs=True)
    flags.DEFINE_list("nodes", None, "Nodes to steer by, such as 0.mlp.post_act.12.")
    flags.DEFINE_string("circuit", None, "Folder of a circuit of the sparse model to take nodes from.")
    flags.DEFINE_list("sites", ["*"], "Sites that nodes are chosen at, such as *.mlp.post_act.")


def main() -> None:
    """The command."""
    given, workdir, elsewhere = flags.FLAGS, launching.workdir(), setting_flags.read_config()
    check_writable(workdir)
    config = setting_flags.run_config(workdir).steer
    rows, page = steer(workdir, config, given.nodes, given.circuit, given.sites, elsewhere)
    launching.report(rows, None)
    print(page)
