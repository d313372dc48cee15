--@include clock
--@include keys
--@include records
--@include status
--@include tokens
-- Rollouts: reading them, and moving them from status to status.
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

-- Give a rollout a status, with everything that follows for indexes, queues, `end_time` and the completion log.
--   delay  seconds before it can be claimed, should it have to wait in its queue
local function move(rollout, status, delay)
  local was = rollout.status
  if QUEUED[was] and not QUEUED[status] then
    leave_queue(rollout)
  elseif FINISHED[was] then
    redis.call("HINCRBY", META, "amended", 1)
  end
  if was ~= status then
    redis.call("ZREM", key("status", was), rollout.id)
    redis.call("ZADD", key("status", status), rollout.number, rollout.id)
    change(rollout, "status", status)
  end
  if FINISHED[status] then
    change(rollout, "end", now_text)
    if was ~= status then
      --@include completions
      log_completion(rollout)
    end
  elseif rollout["end"] then
    change(rollout, "end", nil)
  end
  if QUEUED[status] and not QUEUED[was] then
    --@include queue
    enter_queue(rollout, delay)
  end
end
