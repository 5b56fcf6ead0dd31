"""Writes the pages of a run's circuits, HTML files that open anywhere, and an index of them.

    python -m circuits_jax view runs/quickstart
    python -m circuits_jax view --model=shipped
    python -m circuits_jax view runs/quickstart --annotations=annotations.json
    python -m circuits_jax view runs/quickstart --compare=lambda_func,runs/other/circuits/lambda_func

The index is `<workdir>/report.html`, a circuit's page `<workdir>/circuits/<task>/page.html`, and a
comparison, of tasks of this run or folders of circuits of other runs, `<workdir>/compare.html`.  --out=DIR
names another folder than the workdir, which may be a colleague's.
"""

from absl import flags

from circuits_jax.commands import launching, path_flags
from circuits_jax.runs.comparison import Opening, compare_circuits
from circuits_jax.runs.opening import load_workdir
from circuits_jax.runs.own_tasks import read_named
from circuits_jax.runs.pages import all_outcomes, run_summary, write_pages
from circuits_jax.storage.paths import as_path
from circuits_jax.tasks import remember
from circuits_jax.viewer.circuit_page.annotations import read_annotations


def define_flags() -> None:
    """The flags of this command."""
    launching.define_model()
    launching.define_store()
    flags.DEFINE_string("annotations", None, "File of notes on nodes, as a page saved it.")
    path_flags.define_names(
        "tasks", [], "Files of your own tasks; those in Python are run only if named here."
    )
    launching.define_changed_tasks()
    path_flags.define_out_folder("the pages and their index instead of the workdir")
    path_flags.define_names("compare", [], "Two or more circuits, tasks or folders, to set side by side.")


def main() -> None:
    """The command."""
    given = flags.FLAGS
    notes = None if given.annotations is None else read_annotations(as_path(given.annotations))
    out = path_flags.out_folder()
    if given.model is None:
        run, workdir = None, launching.workdir()
    else:
        run = launching.open_model()
        workdir = run.folder
    if given.compare:
        opening = Opening(launching.store(), given.tasks, given.changed_tasks)
        print(compare_circuits(given.compare, workdir, notes, opening, out))
        return
    run = run or load_workdir(workdir, launching.store())
    for task in read_named([run], given.tasks, given.changed_tasks).values():
        remember(task)
    print(write_pages(run, all_outcomes(run), run_summary(run), notes, out))


def name_workdir(arguments: list[str]) -> list[str]:
    """`DIR ...` as `--workdir=DIR ...`."""
    if arguments and not arguments[0].startswith("-"):
        return [f"--workdir={arguments[0]}", *arguments[1:]]
    return arguments
