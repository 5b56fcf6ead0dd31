"""How much smaller are the circuits of sparse models at equal loss?  Many models, one picture.

    python -m circuits_jax frontier --config=frontier_laptop --workdir=runs/frontier --plan
    python -m circuits_jax frontier --config=frontier_laptop --workdir=runs/frontier

Trains dense and sparse models of several sizes on equal tokens, cuts the circuits of every task out of each
by one search, and writes `frontier.json`, `frontier.html` and `frontier.png` after each.  Killed, it goes on
when it is given again; several of it may share a workdir.  --plan tells points, hours and memory, and trains
nothing.  --points=0,3 takes some points of the list, as an array job does.
"""

from absl import flags

from circuits_jax.commands import launching, reading, setting_flags
from circuits_jax.runs.frontier import plan_frontier, run_frontier
from circuits_jax.storage import filenames
from circuits_jax.storage.files import write_json
from circuits_jax.storage.tables import show_table
from circuits_jax.viewer import frontier_tables


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir("runs/frontier")
    launching.define_store()
    setting_flags.define_config("frontier_laptop")
    flags.DEFINE_bool("plan", False, "Tell points, hours and memory, and train nothing.")
    flags.DEFINE_list("points", [], "Places of points in the list, from 0, instead of all.")


def main() -> None:
    """The command."""
    config, workdir = setting_flags.read_config(), launching.workdir()
    if flags.FLAGS.plan:
        launching.refuse_with("plan", "points")
        planned = plan_frontier(config, workdir).report()
        print(show_table(planned["rows"], planned["summary"]))
        if flags.FLAGS["workdir"].present:
            write_json(workdir / filenames.FRONTIER_PLAN, planned)
        return
    report = run_frontier(config, workdir, reading.read_numbers("points"))
    print(show_table(frontier_tables.point_rows(report)))
    print("\n".join([frontier_tables.headline(report), *frontier_tables.remarks(report)]))
    print(f"page: {workdir / filenames.FRONTIER_PAGE}")
