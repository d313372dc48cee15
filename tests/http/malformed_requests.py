"""Requests that no server may take: a catalogue made from the operations' table, with the statuses that each may get.

Each is a request that would be taken, with one thing wrong. What is wrong is definite: nothing is listed that the
contract or pydantic's conversions allow (a number as text in a query, unknown fields, a limit beyond what there is).
"""

from tests.http.malformed_base import Malformed, World
from tests.http.malformed_bodies import BODIES
from tests.http.malformed_envelopes import ENVELOPES


def malformed_requests(world: World) -> list[Malformed]:
    """The catalogue."""
    return [each for source in (*BODIES, *ENVELOPES) for each in source(world)]
