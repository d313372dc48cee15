--@include ends
-- Settling deadlines that are due: the health check that every writing script does in passing.
local SETTLE_FEW, SETTLE_MANY = 10, 200
local transitions = {}

-- Nobody could report while the store was out of reach: silence that ends within the grace time after it is extended
-- to the end of that time, once until the next sign of life.
local function extend_by_grace(attempt, silent)
  if not resumed or attempt.grace_end or silent >= resumed + GRACE_SECONDS then
    return false
  end
  change(attempt, "grace_end", text_of(resumed + GRACE_SECONDS))
  write(attempt)
  return true
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

-- Settle one rollout whose deadline may have passed. Deadlines are lazy: one that comes due is computed anew first.
local function settle(id)
  redis.call("DEL", key("nothing")) -- a read that settles must not be refused when memory is full, see open()
  local rollout = read_rollout(id)
  local attempt = rollout and read_attempt(rollout, rollout.latest)
  if not rollout then
    redis.call("ZREM", key("deadlines"), id)
    return
  end
  if attempt and LIVE[attempt.status] then
    local overdue, silent = deadlines_of(rollout, attempt)
    if overdue and overdue < now then
      expire(rollout, attempt, "timeout", overdue)
    elseif silent and silent < now then
      if extend_by_grace(attempt, silent) then
        silent = tonumber(attempt.grace_end)
      end
      if silent < now then
        expire(rollout, attempt, "unresponsive", silent)
      end
    end
  end
  index_deadline(rollout, attempt)
end

-- Settle one rollout if its entry in the index is due.
local function settle_if_due(id)
  local at = redis.call("ZSCORE", key("deadlines"), id)
  if at and tonumber(at) < now then
    settle(id)
  end
end

-- Settle at most `limit` rollouts, earliest deadline first, but not those that the set `spared` holds: a call never
-- ends the attempts that it speaks for. Returns whether more may be due.
local function settle_due(limit, spared, extra)
  local due = redis.call("ZRANGEBYSCORE", key("deadlines"), "-inf", "(" .. now_text, "LIMIT", 0, limit + (extra or 0))
  local settled = 0
  for _, id in ipairs(due) do
    if settled < limit and not (spared and spared[id]) then
      settle(id)
      settled = settled + 1
    end
  end
  return settled == limit
end
