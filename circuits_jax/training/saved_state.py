"""States read back from checkpoints: those of earlier releases too, and parameters alone.

Parts are found by their names, such as `opt_state.1.mu.wte.embedding`.  What a run needs of a state and a
checkpoint lacks, because its release did not have it yet, is made anew; parameters and the step never are.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from circuits_jax.storage.errors import CheckpointError
from circuits_jax.training.multihost.processes import is_primary

_NEVER_NEW = ("params", "step")


class OtherModelError(CheckpointError):
    """A checkpoint that is whole, and of another model than the one at hand."""


def restore_state(
    folder: epath.Path, like: Any, fresh: Callable[[], Any] | None = None, where: str | None = None
) -> Any:
    """The state in a checkpoint, or the parts of it that `like` names.

    Args:
      folder: The whole checkpoint's; its item is called `state`.
      like: A tree of arrays or of ShapeDtypeStructs with shardings.
      fresh: Makes a first state of the same structure, of which the parts are taken that the checkpoint
        lacks; None lets it lack nothing.
      where: What the user calls the checkpoint; by default `folder`.

    Raises:
      OtherModelError: if its parameters have other names or shapes.
      Exception: of orbax and the layers below it, of many kinds, if its files are damaged.
    """
    where, path, handler = where or str(folder), folder / "state", ocp.PyTreeCheckpointHandler()
    saved = handler.metadata(path).tree  # the Checkpointer's own would say nothing of damage
    there, here = _by_name(saved), _by_name(like)
    sources = _match(there, here)
    _check(where, there, here, sources)
    lacking = [name for name in here if name not in sources]
    if lacking and fresh is None:
        raise OtherModelError(_other(where, f"{lacking[0]} is not there"))
    targets = {source: here[name] for name, source in sources.items()}
    item = jax.tree_util.tree_map_with_path(
        lambda path, _: _described(targets[_name(path)]) if _name(path) in targets else ocp.PLACEHOLDER, saved
    )
    arguments = ocp.args.PyTreeRestore(
        item=item, restore_args=ocp.checkpoint_utils.construct_restore_args(item)
    )
    with ocp.Checkpointer(handler) as checkpointer:
        values = _by_name(checkpointer.restore(path, args=arguments))
    found = {name: values[source] for name, source in sources.items()}
    if lacking and fresh is not None:
        new = _by_name(fresh())
        found |= {name: new[name] for name in lacking}
        if is_primary():
            some = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            print(f"checkpoint {where} is of an earlier release: {some} begins anew")
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in here])


def _match(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, str]:
    """{name of a part: its name in the checkpoint}, for parts of the same shape.

    Places in the optimizer's chain are numbers, which change where a transformation is added: parts are the
    same if their names are without the numbers, and there are equally many of that name.
    """
    groups: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, names in enumerate((there, here)):
        for name in names:
            groups[re.sub(r"\b\d+\b", "", name)][side].append(name)
    found = {}
    for theirs, ours in groups.values():
        pairs = zip(theirs, ours, strict=True) if len(theirs) == len(ours) else ((n, n) for n in ours)
        found |= {own: name for name, own in pairs if name in there and there[name].shape == here[own].shape}
    return found


def _check(where: str, there: Mapping[str, Any], here: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """Raises OtherModelError, naming the first difference, unless parameters and step are all there."""
    needed = [name for name in here if _top(name) in _NEVER_NEW]
    for name in needed:
        if name not in there:
            raise OtherModelError(_other(where, f"{name} is not there"))
        if name not in sources:
            shapes = f"{tuple(there[name].shape)} there, {tuple(here[name].shape)} here"
            raise OtherModelError(_other(where, f"{name} is {shapes}"))
    tops = {_top(name) for name in here}
    for name in there:
        if _top(name) in tops and _top(name) in _NEVER_NEW and name not in here:
            raise OtherModelError(_other(where, f"{name} is there, and not here"))


def _other(where: str, what: str) -> str:
    return (
        f"checkpoint {where} is of another configuration ({what}); give the settings that it was made with, "
        "or name another workdir"
    )


def _described(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _by_name(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their names, in the tree's order."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _top(name: str) -> str:
    return name.partition(".")[0]
