"""Sphinx extension: mermaid diagrams with a text alternative, drawn by the book's own copy.

The directive takes mermaid's text and asks for words that say what the diagram shows::

    ```{mermaid}
    :alt: From image to conclusion and back.
    flowchart LR
      A --> B
    ```

Only pages with a diagram load the script. The diagram is drawn again when the reader changes
between light and dark.
"""

from __future__ import annotations

from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class mermaid(nodes.General, nodes.Element):  # type: ignore[misc]  # noqa: N801
    """A diagram in mermaid's language."""


class Mermaid(SphinxDirective):
    """The directive."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Return the diagram, or an error where it has no text alternative."""
        if not self.options.get("alt", "").strip():
            raise self.error("a diagram needs ':alt:', words that say what it shows")
        return [mermaid(code="\n".join(self.content), alt=self.options["alt"])]


def _visit(self: Any, node: mermaid) -> None:
    code, alt = self.encode(node["code"]), self.attval(node["alt"])
    self.body.append(
        f'<div class="mermaid-diagram" role="img" aria-label="{alt}">'
        f'<pre class="mermaid">{code}</pre></div>\n'
    )
    raise nodes.SkipNode


def _add_scripts(
    app: Sphinx, _page: str, _template: str, _context: dict[str, Any], doctree: nodes.document
) -> None:
    if doctree is not None and next(iter(doctree.findall(mermaid)), None) is not None:
        app.add_js_file("mermaid/mermaid.min.js", loading_method="defer")
        app.add_js_file("mermaid/draw.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_node(mermaid, html=(_visit, None))
    app.add_directive("mermaid", Mermaid)
    app.connect("html-page-context", _add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
