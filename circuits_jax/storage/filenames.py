"""What the files and folders of a workdir are called: the one place that knows their names.

Not among them are those that one module alone writes and reads: `readings.json`, locks, and what unfinished
work leaves.
"""

# Of every run.
CONFIG = "config.json"
TOKENIZER = "tokenizer.model"
DATA = "data"
CHECKPOINTS, DAMAGED = "checkpoints", "damaged"
BIGRAM_COUNTS = "bigram.npz"  # where `model.bigram` is "counts"
SNAPSHOTS = "snapshots"  # a folder in the sparse format for each step of `train.snapshots`
METRICS = "metrics.jsonl"
DEVICES = "devices.json"

# Circuits: CIRCUITS holds a folder for each task, with the circuit's files and its PAGE.
CIRCUITS = "circuits"
PAGE, INDEX, COMPARISON = "page.html", "report.html", "compare.html"
PRUNE, QUICKSTART = "prune.json", "quickstart.json"
AUDIT, AUDIT_PAGE = "audit.json", "audit.html"
# Each with a folder of circuits that are not the run's own: by ablation and task, and by task.
ABLATIONS, ABLATIONS_FOLDER = "ablations.json", "ablations"
EXHAUST, EXHAUST_FOLDER = "exhaust.json", "exhaust"

# What commands report that look at a model, or try a network or a machine.
TASKS, PATTERNS = "tasks.json", "patterns.json"
INSPECT, INTERVENE = "inspect.json", "intervene.json"
AGREEMENT = "agreement.json"
ATTACK, ATTACK_PICTURE = "attack.json", "attack.png"
RECIPES = "recipes.json"
RECIPES_TEST = "recipes-test.json"
FRONTIER, FRONTIER_PAGE, FRONTIER_PICTURE = "frontier.json", "frontier.html", "frontier.png"
FRONTIER_PLAN = "plan.json"
PLANTED, DEVICE_CHECK = "planted.json", "device_check.json"
TRACR, TRACR_FOLDER = "tracr.json", "tracr"  # the folder holds finished and compiled programs

# Bridges: BRIDGE holds them, SPARSE is the workdir of a sparse model that was trained with them.
BRIDGE, SPARSE = "bridge", "sparse"
BRIDGES, BRIDGES_PAGE = "bridges.json", "bridges.html"
STEER = "steer.json"
