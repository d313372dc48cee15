--@include counters
--@include findings
--@include keys
--@include status
-- Counters of what waits, compared with lists that are short enough to be counted at once; and wake-up tokens.
local COUNTED_AT_ONCE = 1000

-- By queue, how many of the rollouts wait there.
local function waiting_by_queue(ids, flag)
  local sums, seen = {}, {}
  for _, id in ipairs(ids) do
    local rollout = redis.call("HMGET", key("rollout", id), "status", "queue", "queued")
    if QUEUED[rollout[1] or ""] and not seen[id] and (rollout[3] or "") == flag then
      local name = rollout[2] or "default"
      seen[id], sums[name] = true, (sums[name] or 0) + 1
    end
  end
  return sums
end

local function check_list(name)
  local length = redis.call("LLEN", key("queue", name))
  if length <= COUNTED_AT_ONCE then
    local sums = waiting_by_queue(redis.call("LRANGE", key("queue", name), 0, -1), "1")
    check_counter("queue:" .. name, sums[name] or 0)
  elseif counter("queue:" .. name) > length then
    find("counter", "queue:" .. name, "is more than the " .. length .. " entries of the list")
  end
end

local function check_tokens(name)
  local tokens, live = redis.call("LLEN", key("wake", name)), math.max(0, counter("queue:" .. name) or 0)
  local most = math.max(live, math.min(1, counter("delayed:" .. name) or 0))
  if tokens > most then
    find("counter", "wake:" .. name, "has " .. tokens .. " tokens for " .. live .. " entries", function()
      redis.call("LTRIM", key("wake", name), tokens - most, -1)
    end)
  end
end
