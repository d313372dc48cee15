from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from typing_extensions import Self

T = TypeVar("T")

class RolloutConfig(BaseModel): ...
class Attempt(BaseModel): ...
class Rollout(BaseModel): ...
class AttemptedRollout(Rollout): ...
class EnqueueRolloutRequest(BaseModel): ...
class Worker(BaseModel): ...
class ResourcesUpdate(BaseModel): ...

class Span(BaseModel):
    rollout_id: str
    attempt_id: str
    sequence_id: int
    span_id: str
    @classmethod
    def from_opentelemetry(cls, src: Any, rollout_id: str, attempt_id: str, sequence_id: int) -> Self: ...

class PaginatedResult(BaseModel, Generic[T]):
    items: Sequence[T]
    limit: int
    offset: int
    total: int
