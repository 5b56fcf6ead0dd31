"""Turns a released checkpoint into a workdir, on which prune, tasks, audit and view then run.

    python -m experiments.import_model --source=path/to/csp_yolo1 --workdir=runs/yolo1
    python -m experiments.import_model --workdir=runs/yolo1 --viz=viz_data.pt --viz_task=single_double_quote

`--source` is a folder, a file, hf:owner/name[@revision], or a URL; `--tokenizer` a folder with encoder.json
and vocab.bpe, if they do not lie beside the weights.  `--viz` takes in a published circuit of that model, for
view, audit, intervene and export; what it removes is held at means over the workdir's corpus.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("import_model", sys.argv[1:])
