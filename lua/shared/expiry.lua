--@include clock
--@include deadlines
--@include ends
--@include keys
--@include logs
--@include records
--@include status
--@include workers
-- Ending a live attempt that is late for its time limit or silent for too long.
local transitions = {}

-- Nobody could report while the store was out of reach: silence that ends within the grace time after it is extended
-- to the end of that time, once until the next sign of life.
local function extend_by_grace(attempt, silent)
  local resumed = redis.call("HGET", META, "resumed")
  local grace_end = resumed and tonumber(resumed) + GRACE_SECONDS
  if not grace_end or attempt.grace_end or silent >= grace_end then
    return silent
  end
  change(attempt, "grace_end", text_of(grace_end))
  write(attempt)
  return tonumber(attempt.grace_end)
end

local function expire(rollout, attempt, status, deadline)
  set_attempt_status(rollout, attempt, status, CAUSE_OF_END[status])
  if ACTIVE[rollout.status] then
    follow_attempt(rollout, attempt)
  end
  update_worker_of(rollout, attempt, WORKER_AFTER_ATTEMPT[status])
  log_event(rollout, attempt, attempt.cause)
  write(attempt)
  write(rollout)
  transitions[#transitions + 1] = { rollout.id, attempt.id, attempt.worker or "", status, rollout.status,
    attempt.cause, text_of(now - deadline) }
end

-- To the microseconds that the index of deadlines keeps, so that index and arithmetic agree on what is due.
local function round(seconds)
  return seconds and tonumber(text_of(seconds))
end

local function expire_if_late(rollout, attempt)
  local overdue, silent = deadlines_of(rollout, attempt)
  overdue, silent = round(overdue), round(silent)
  if overdue and overdue < now then
    expire(rollout, attempt, OVERDUE, overdue)
  elseif silent and silent < now then
    silent = extend_by_grace(attempt, silent)
    if silent < now then
      expire(rollout, attempt, SILENT, silent)
    end
  end
end
