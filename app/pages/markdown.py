"""Markdown: what people write in notes, as HTML that can do nothing but be read."""

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

# CommonMark with HTML turned off: what looks like a tag is text
WRITER = MarkdownIt("commonmark", {"html": False, "breaks": True})
WRITER.enable(["table", "strikethrough"])
TAGS = set(
    """
    p br strong em s code pre blockquote ul ol li hr a h1 h2 h3 h4 h5 h6
    table thead tbody tr th td
    """.split()
)
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}


def markdown(text: str) -> Markup:
    """A note as HTML. Pictures are left out: they would tell other servers who reads what."""
    html = nh3.clean(
        WRITER.render(text),
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer nofollow",
    )
    return Markup(html)
