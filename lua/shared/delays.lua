--@include clock
--@include deadlines
--@include keys
--@include records
-- What happens by itself as time passes: delayed retries become ready, deadlines come due.

-- Move retries whose delay is over to the tails of their queues, at most `limit`. Returns whether more may be ready.
local function ready_retries(limit)
  if redis.call("ZCOUNT", key("delayed"), "-inf", now_text) == 0 then
    return false
  end
  --@include queue
  --@include rollouts
  --@include tokens
  redis.call("DEL", key("nothing")) -- for reads, which may not have done it, see open()
  local ready = redis.call("ZRANGEBYSCORE", key("delayed"), "-inf", now_text, "LIMIT", 0, limit)
  for _, id in ipairs(ready) do
    redis.call("ZREM", key("delayed"), id)
    local rollout = read_rollout(id)
    if rollout then
      count(rollout, "delayed", -1)
      enlist(rollout)
      write(rollout)
    end
  end
  return #ready == limit
end

-- The seconds, as text, until the next deadline or delayed retry, "" when there is none; and whether one is due by now,
-- as 0 or 1.
local function next_due()
  local due = tonumber(redis.call("ZRANGE", key("deadlines"), 0, 0, "WITHSCORES")[2] or "")
  local ready = tonumber(redis.call("ZRANGE", key("delayed"), 0, 0, "WITHSCORES")[2] or "")
  local is_due = (due and due < now) or (ready and ready <= now)
  local soonest = earliest(due, ready)
  local seconds = soonest and soonest < math.huge and text_of(math.max(0, soonest - now)) or ""
  return seconds, is_due and 1 or 0
end
