--@include bulk
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

-- So many tokens more, one if nothing is said, but never more than live entries.
local function offer(name, live, by)
  local key_of_tokens = key("wake", name)
  local missing = math.min(by or 1, live - redis.call("LLEN", key_of_tokens))
  if missing == 1 then
    redis.call("RPUSH", key_of_tokens, "1")
  elseif missing > 1 then
    local tokens = {}
    for i = 1, missing do
      tokens[i] = "1"
    end
    send_many("RPUSH", key_of_tokens, tokens)
  end
end

-- One live entry or delayed retry less; and no token too many, which would wake somebody in vain, nor too few.
local function leave_queue(rollout)
  local name, stats, live = queue_name(rollout), key("stats"), nil
  local tokens = key("wake", name)
  if rollout.queued then
    live = redis.call("HINCRBY", stats, "queue:" .. name, -1)
  elseif redis.call("ZREM", key("delayed"), rollout.id) == 1 then
    redis.call("HINCRBY", stats, "delayed:" .. name, -1)
    live = redis.call("HINCRBY", stats, "queue:" .. name, 0)
  end
  local offered = live and redis.call("LLEN", tokens)
  if live and offered > live then
    redis.call("LPOP", tokens)
  elseif offered == 0 and live > 0 then
    redis.call("RPUSH", tokens, "1")
  end
end
