--@include keys
-- The live entries of a queue by counter, and its wake-up tokens: one per live entry at most, or one for delayed
-- retries when nothing lives; popped by waiting workers. A token is a hint only; who gets it claims by script. Entering
-- a queue: queue.lua.
local function queue_name(rollout)
  return rollout.queue or "default"
end

local function count(rollout, kind, by)
  return redis.call("HINCRBY", key("stats"), kind .. ":" .. queue_name(rollout), by)
end

-- One token more, but never more than live entries.
local function offer(name, live)
  local tokens = key("wake", name)
  if redis.call("LLEN", tokens) < live then
    redis.call("RPUSH", tokens, "1")
  end
end

-- One live entry or delayed retry less, and no token too many: it would wake somebody in vain.
local function leave_queue(rollout)
  local tokens, live = key("wake", queue_name(rollout)), nil
  if rollout.queued then
    live = count(rollout, "queue", -1)
  elseif redis.call("ZREM", key("delayed"), rollout.id) == 1 then
    count(rollout, "delayed", -1)
    live = count(rollout, "queue", 0)
  end
  if live and redis.call("LLEN", tokens) > live then
    redis.call("LPOP", tokens)
  end
end
