"""Are the stories of circuits true?  Tests what they claim, on the whole model, and writes the figures down.

    python -m circuits_jax stories --workdir=runs/quickstart --tasks=single_double_quote

A story is a file of yours, `circuits/TASK/story.json` in the workdir: roles, their nodes, and claims, each
with the bound that decides (docs/method.md, "Stories").  Pages drawn afterwards show it at their top.
"""

from absl import flags

from circuits_jax.circuits.stories.files import has_story
from circuits_jax.commands import launching, path_flags, setting_flags
from circuits_jax.runs.auditing import find_subjects
from circuits_jax.runs.opening import load_workdir
from circuits_jax.runs.stories import measure_stories, stories_table
from circuits_jax.storage.filenames import CIRCUITS
from circuits_jax.storage.tables import show_table


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    launching.define_store()
    setting_flags.define_config(of_runs=True)
    path_flags.define_names("tasks", ["all"], "Tasks, or files of tasks; all: of circuits with a story.")
    launching.define_changed_tasks()


def main() -> None:
    """The command."""
    given = flags.FLAGS
    config = setting_flags.run_config(launching.workdir())
    run = load_workdir(launching.workdir(), launching.store())
    subjects = find_subjects(run, given.tasks, config.audit, given.changed_tasks)
    told = [each for each in subjects if has_story(run.folder / CIRCUITS / each.task.name)]
    stories = measure_stories(run, told if "all" in given.tasks and told else subjects, config.audit)
    for task, story in stories.items():
        print(show_table(story.rows, {"task": task, "story": repr(story)}), end="\n\n")
    launching.report(stories_table(stories), None)
