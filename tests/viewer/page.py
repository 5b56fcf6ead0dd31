"""Reads HTML as a browser's parser would cut it, for asking questions about it."""

import dataclasses
import html.parser
import re

VOID = {"meta", "br", "img", "link", "input", "base", "source", "embed"}


@dataclasses.dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    children: list["Element"] = dataclasses.field(default_factory=list)

    @property
    def classes(self) -> set[str]:
        return set((self.attributes.get("class") or "").split())

    def all(self, tag: str | None = None, *classes: str) -> list["Element"]:
        """Elements below this one, in order, of a tag and with all the classes."""
        found = []
        for child in self.children:
            if tag in (None, child.tag) and child.classes >= set(classes):
                found.append(child)
            found += child.all(tag, *classes)
        return found

    def words(self) -> str:
        """All text, its own before its children's."""
        return self.text + "".join(child.words() for child in self.children)


class _Builder(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag in [element.tag for element in self._open[1:]]:
            while self._open.pop().tag != tag:
                pass

    def handle_data(self, data: str) -> None:
        self._open[-1].text += data


def parse(text: str) -> Element:
    builder = _Builder()
    builder.feed(text)
    builder.close()
    return builder.root


def drawn(root: Element, kind: str = "vertex") -> dict[str, Element]:
    return {e.attributes["data-id"]: e for e in root.all("g", "vertex", kind) if "data-id" in e.attributes}


def place(element: Element) -> tuple[float, float]:
    x, y = re.fullmatch(r"translate\(([\d.]+) ([\d.]+)\)", element.attributes["transform"]).groups()
    return float(x), float(y)
