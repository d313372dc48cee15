"""What a reward looks like as a span, and how to read it: the names of Agent Lightning 0.3's emitter."""

from typing import Final

from lightning_store.spans import Span

ANNOTATION_SPAN: Final = "agentlightning.annotation"
"""Name of the spans that annotate a rollout; rewards are among them."""

REWARD_PREFIX: Final = "agentlightning.reward"
"""Attributes of dimension n are this, `.n` and `.name` or `.value`; dimension 0 is the primary reward."""

REWARD_NAME: Final = f"{REWARD_PREFIX}.0.name"
REWARD_VALUE: Final = f"{REWARD_PREFIX}.0.value"

PRIMARY_REWARD: Final = "primary"
"""Name of the only dimension of a plain reward."""

LEGACY_REWARD_SPAN: Final = "agentlightning.reward"
LEGACY_REWARD: Final = "reward"
"""Span name and attribute of Agent Lightning 0.2; 0.3 reads the attribute on annotations too."""


def reward_of(span: Span) -> float | None:
    """The primary reward that a span carries; None if it carries none.

    Integers and booleans count as numbers; anything else is no reward.

    Source: get_reward_value, Agent Lightning v0.3.0; the formats of other products are not read.
    """
    value = span.attributes.get(REWARD_VALUE)
    if value is None and span.name in (ANNOTATION_SPAN, LEGACY_REWARD_SPAN):
        value = span.attributes.get(LEGACY_REWARD)
    if not isinstance(value, bool | int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
