"""The library's source, as tests of its order read it."""

import ast

HOLE = "{}"  # what stands for the values in an f-string


def texts(tree: ast.Module) -> list[str]:
    """Strings of a module that are no docstrings; f-strings whole, with HOLE for each value."""
    bodies = (node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list))
    skipped = {id(each.value) for body in bodies for each in body if isinstance(each, ast.Expr)}
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    skipped |= {id(part) for node in joined for part in node.values}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    whole = [node.value for node in constants if isinstance(node.value, str) and id(node) not in skipped]
    return whole + ["".join(_part(part) for part in node.values) for node in joined]


def keys(tree: ast.Module) -> list[str]:
    """Strings that stand in brackets behind something: `params["name"]`."""
    slices = (node.slice for node in ast.walk(tree) if isinstance(node, ast.Subscript))
    return [each.value for each in slices if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def _part(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else HOLE
