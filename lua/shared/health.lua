--@include attempts
--@include clock
--@include deadlines
--@include expiry
--@include keys
--@include rollouts
--@include status
-- Settling deadlines that are due: the health check that every writing script does in passing.
local SETTLE_FEW, SETTLE_MANY = 10, 200

-- Settle one rollout whose deadline may have passed. Deadlines are lazy: one that comes due is computed anew first.
local function settle(id)
  redis.call("DEL", key("nothing")) -- a read that settles must not be refused when memory is full, see open()
  local rollout = read_rollout(id)
  if not rollout then
    redis.call("ZREM", key("deadlines"), id)
    return
  end
  local attempt = read_attempt(rollout, rollout.latest)
  if attempt and LIVE[attempt.status] then
    expire_if_late(rollout, attempt)
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
--   extra  at least the number of spared rollouts
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
