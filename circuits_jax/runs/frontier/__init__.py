"""How much smaller are the circuits of sparse models at equal loss?  The headline (docs/frontier.md).

config = load_config("frontier_laptop")
run_frontier(config, "runs/frontier")    # hours; killed, it goes on when called again
plan_frontier(config, "runs/frontier")   # what is left of that
"""

from circuits_jax.runs.frontier.running import plan_frontier, run_frontier

__all__ = ["plan_frontier", "run_frontier"]
