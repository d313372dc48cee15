--@include clock
--@include keys
--@include status
-- Deadlines: when a live attempt could be late, and the index of that.
local function earliest(a, b)
  return (a and b) and math.min(a, b) or a or b
end

-- When a live attempt could be late for its time limit, and for its silence; nil for a limit that is not set.
local function deadlines_of(rollout, attempt)
  local timeout = tonumber(rollout.timeout or "")
  local silence = earliest(tonumber(rollout.unresponsive or ""), tonumber(attempt.lease or ""))
  local overdue = timeout and tonumber(attempt.start) + timeout
  local silent = silence and tonumber(attempt.beat or attempt.start) + silence
  if silent and attempt.grace_end then
    silent = math.max(silent, tonumber(attempt.grace_end))
  end
  return overdue, silent
end

-- Keep the index true, to the microsecond: an entry while the rollout is active or its latest attempt lives.
local function index_deadline(rollout, attempt)
  if attempt and LIVE[attempt.status] then
    local at = earliest(deadlines_of(rollout, attempt))
    redis.call("ZADD", key("deadlines"), at and text_of(at) or "+inf", rollout.id)
  elseif ACTIVE[rollout.status] then
    redis.call("ZADD", key("deadlines"), "+inf", rollout.id)
  else
    redis.call("ZREM", key("deadlines"), rollout.id)
  end
end
