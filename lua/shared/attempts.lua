--@include rollouts
--@include workers
-- Attempts: their start, their end, and what that makes of their rollout.
local function read_attempt(rollout, id)
  local attempt = id and read(key("attempt", rollout.id .. ":" .. id))
  if attempt then
    attempt.id = id
  end
  return attempt
end

local function earliest(a, b)
  return (a and b) and math.min(a, b) or a or b
end

-- To the microseconds that the index keeps, so that index and arithmetic agree on what is due.
local function round(seconds)
  return tonumber(text_of(seconds))
end

-- The longest silence that is allowed, in seconds; nil when there is no limit.
local function silence_of(rollout, attempt)
  return earliest(tonumber(rollout.unresponsive or ""), tonumber(attempt.lease or ""))
end

-- When a live attempt could be late for its time limit, and for its silence; nil for a limit that is not set.
local function deadlines_of(rollout, attempt)
  local timeout, silence = tonumber(rollout.timeout or ""), silence_of(rollout, attempt)
  local overdue = timeout and round(tonumber(attempt.start) + timeout)
  local silent = silence and round(tonumber(attempt.beat or attempt.start) + silence)
  if silent and attempt.grace_end then
    silent = math.max(silent, tonumber(attempt.grace_end))
  end
  return overdue, silent
end

-- Keep the deadline index true: an entry while the rollout is active or its latest attempt lives.
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

-- Start the next attempt of a rollout and move the rollout to where a fresh attempt puts it.
local function begin_attempt(rollout, id, worker_id, lease)
  local attempt = fresh(key("attempt", rollout.id .. ":" .. id))
  attempt.id = id
  change(attempt, "number", tostring(redis.call("RPUSH", key("attempts", rollout.id), id)))
  change(attempt, "status", "preparing")
  change(attempt, "start", now_text)
  change(attempt, "worker", worker_id ~= "" and worker_id or nil)
  change(attempt, "lease", lease ~= "" and lease or nil)
  change(rollout, "latest", id)
  redis.call("HINCRBY", key("stats"), "attempts", 1)
  move(rollout, ROLLOUT_AFTER_ATTEMPT[attempt.status], 0)
  write(attempt)
  index_deadline(rollout, attempt)
  return attempt
end
