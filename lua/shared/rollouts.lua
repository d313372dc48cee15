--@include status
--@include queue
-- Rollouts: reading them, moving them from status to status, and what is logged of it.
local function read_rollout(id)
  local rollout = read(key("rollout", id))
  if rollout then
    rollout.id = id
  end
  return rollout
end

local function not_found(id)
  return redis.error_reply("ROLLOUT_NOT_FOUND Rollout " .. id .. " not found")
end

-- One entry per finish; the rollout notes which, so that deletion and audit find them.
local function log_completion(rollout)
  local entry = redis.call("XADD", key("completed"), "*", "rollout", rollout.id, "status", rollout.status,
    "mode", rollout.mode or "", "group", rollout.group or "", "start", rollout.start, "end", now_text)
  change(rollout, "done", rollout.done and (rollout.done .. "," .. entry) or entry)
end

local function log_event(rollout, attempt, cause)
  redis.call("XADD", key("events"), "MAXLEN", "~", EVENTS_KEPT, "*", "time", now_text, "rollout", rollout.id,
    "attempt", attempt and attempt.id or "", "status", rollout.status,
    "attempt_status", attempt and attempt.status or "", "cause", cause)
end

-- Give a rollout a status, with everything that follows for indexes, queues, `end_time` and the completion log.
--   delay  seconds before it can be claimed, should it have to wait in its queue
local function move(rollout, status, delay)
  local was = rollout.status
  if QUEUED[was] and not QUEUED[status] then
    leave_queue(rollout)
  end
  if was ~= status then
    redis.call("ZREM", key("status", was), rollout.id)
    redis.call("ZADD", key("status", status), rollout.number, rollout.id)
    change(rollout, "status", status)
  end
  if FINISHED[status] then
    change(rollout, "end", now_text)
    if was ~= status then
      log_completion(rollout)
    end
  elseif rollout["end"] then
    change(rollout, "end", nil)
  end
  if QUEUED[status] and not QUEUED[was] then
    enter_queue(rollout, delay)
  end
end
