"""The library's source, as tests of its order read it."""

import ast


def texts(tree: ast.Module) -> list[str]:
    """String literals of a module that are no docstrings."""
    bodies = (node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list))
    docs = {id(each.value) for body in bodies for each in body if isinstance(each, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [node.value for node in constants if isinstance(node.value, str) and id(node) not in docs]
