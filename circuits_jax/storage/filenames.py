"""What the files and folders of a workdir are called: the one place that knows their names."""

# Of every run.
CONFIG = "config.json"
TOKENIZER = "tokenizer.model"
DATA = "data"
CHECKPOINTS, DAMAGED = "checkpoints", "damaged"
METRICS = "metrics.jsonl"
DEVICES = "devices.json"

# Circuits: CIRCUITS holds a folder for each task, with the circuit's files and its PAGE.
CIRCUITS = "circuits"
PAGE, INDEX, COMPARISON = "page.html", "report.html", "compare.html"
PRUNE, QUICKSTART = "prune.json", "quickstart.json"
AUDIT, AUDIT_PAGE = "audit.json", "audit.html"
ABLATIONS, EXHAUST = "ablations.json", "exhaust.json"

# Bridges: BRIDGE holds them, SPARSE is the workdir of a sparse model that was trained with them.
BRIDGE, SPARSE = "bridge", "sparse"
BRIDGES, BRIDGES_PAGE = "bridges.json", "bridges.html"
STEER = "steer.json"
