"""Spans as lines of a tree."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from lightning_store.cli.output import brief, clean, duration
from lightning_store.contract import LightningStore
from lightning_store.rewards import reward_of
from lightning_store.spans import Span

BRANCH, LAST, BAR, BLANK = "├─ ", "└─ ", "│  ", "   "


async def read_spans(store: LightningStore, rollout_id: str, attempt_id: str | None) -> list[Span] | None:
    """The spans of a rollout or of one attempt in order; None if the rollout is unknown.

    Raises:
        SpansEvictedError: They were dropped for lack of memory.
    """
    found = list(await store.query_spans(rollout_id, attempt_id))
    if found or await store.get_rollout_by_id(rollout_id) is not None:
        return found
    return None


def tree_lines(spans: Sequence[Span], *, with_attributes: bool) -> Iterator[str]:
    """One tree per attempt, in the order of their first spans; children under their parents, by sequence number.

    A span whose parent is not there is a root.
    """
    attempts = list(dict.fromkeys(span.attempt_id for span in spans))
    for attempt_id, group in groupby(sorted(spans, key=lambda span: attempts.index(span.attempt_id)), _attempt_id):
        yield clean(attempt_id)
        yield from _attempt_lines(list(group), with_attributes=with_attributes)


def _attempt_id(span: Span) -> str:
    return span.attempt_id


def _attempt_lines(spans: list[Span], *, with_attributes: bool) -> Iterator[str]:
    children, roots = _children(spans)
    # A stack, not recursion: agents can nest deeper than Python allows.
    stack = [(root, "", index == 0) for index, root in enumerate(reversed(roots))]
    while stack:
        span, indent, is_last = stack.pop()
        below = indent + (BLANK if is_last else BAR)
        mine = children.get(span.span_id, [])
        yield indent + (LAST if is_last else BRANCH) + _title(span)
        if with_attributes:
            yield from (below + (BAR if mine else BLANK) + detail for detail in _details(span))
        stack += [(child, below, index == 0) for index, child in enumerate(reversed(mine))]


def _children(spans: list[Span]) -> tuple[dict[str, list[Span]], list[Span]]:
    """Children by the id of their parent, and the roots. Spans that are their own ancestors are roots too."""
    by_id = {span.span_id: span for span in spans}
    children: dict[str, list[Span]] = {}
    roots: list[Span] = []
    rooted: set[str] = set()
    for span in spans:
        if span.parent_id in by_id and not _leads_back(span, by_id, rooted):
            children.setdefault(span.parent_id or "", []).append(span)
        else:
            roots.append(span)
    return children, roots


def _leads_back(span: Span, by_id: dict[str, Span], rooted: set[str]) -> bool:
    """Whether going up from parent to parent comes back to the span. Spans known to lead to a root are remembered."""
    path = [span.span_id]
    seen = {span.span_id}
    parent = by_id.get(span.parent_id or "")
    while parent is not None and parent.span_id not in rooted:
        if parent.span_id in seen:
            return parent.span_id == span.span_id
        seen.add(parent.span_id)
        path.append(parent.span_id)
        parent = by_id.get(parent.parent_id or "")
    rooted.update(path)
    return False


def _title(span: Span) -> str:
    known = span.start_time is not None and span.end_time is not None
    took = duration((span.end_time or 0) - (span.start_time or 0)) if known else "?"
    parts = [clean(span.name), took]
    if span.status.status_code == "ERROR":
        parts.append("ERROR" + (f": {clean(span.status.description)}" if span.status.description else ""))
    reward = reward_of(span)
    if reward is not None:
        parts.append(f"reward {reward:g}")
    return "  ".join(parts)


def _details(span: Span) -> Iterator[str]:
    for name, value in span.attributes.items():
        yield f"{clean(name)} = {brief(value, 200)}"
    for event in span.events:
        yield f"event {clean(event.name)} {brief(event.attributes, 200) if event.attributes else ''}".rstrip()
