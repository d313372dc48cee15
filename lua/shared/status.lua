-- Statuses and transitions. Generated from lightning_store/status.py by `make generate`; do not edit.
local QUEUED = { queuing = true, requeuing = true }
local ACTIVE = { preparing = true, running = true }
local FINISHED = { cancelled = true, failed = true, succeeded = true }
local LIVE = { preparing = true, running = true }
local RETRYABLE = { failed = true, timeout = true, unresponsive = true }
local STAMPS_END_TIME = { failed = true, succeeded = true, timeout = true }
local RETRY_STATUS = "requeuing"
local NEW_ROLLOUT = "queuing"
local NEW_ATTEMPT = "preparing"
local NEW_ATTEMPT_ROLLOUT = "preparing"
local NEW_ATTEMPT_WORKER = "busy"
local CANCELLED = "cancelled"
local OVERDUE = "timeout"
local SILENT = "unresponsive"
local RELEASED = "failed"
local REVIVED = "running"
local BUSY = "busy"
local IDLE = "idle"
local UNKNOWN = "unknown"
local RELEASED_CAUSE = "released"
local ROLLOUT_AFTER_ATTEMPT = {
  preparing = "preparing",
  running = "running",
  succeeded = "succeeded",
  failed = "failed",
  timeout = "failed",
  unresponsive = "failed",
}
local ATTEMPT_AFTER_SPAN = {
  preparing = "running",
  running = "running",
  succeeded = "succeeded",
  failed = "failed",
  timeout = "timeout",
  unresponsive = "running",
}
local ROLLOUT_AFTER_SPAN = {
  queuing = "running",
  requeuing = "running",
  preparing = "running",
  running = "running",
  succeeded = "succeeded",
  failed = "failed",
  cancelled = "cancelled",
}
local WORKER_AFTER_ATTEMPT = {
  preparing = "busy",
  running = "busy",
  succeeded = "idle",
  failed = "idle",
  timeout = "unknown",
  unresponsive = "unknown",
}
local CAUSE_OF_END = {
  succeeded = "agent",
  failed = "agent",
  timeout = "timeout",
  unresponsive = "worker_lost",
}
local CAUSE_IN_CANCELLED = {
  failed = "cancelled",
}
