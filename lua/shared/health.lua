--@include clock
--@include keys
--@include records
-- The health check that every writing script does in passing: one look at the index of deadlines when nothing is due.
local SETTLE_FEW, SETTLE_MANY = 10, 200

-- Settle one rollout if its entry in the index is due.
local function settle_if_due(id)
  local at = redis.call("ZSCORE", key("deadlines"), id)
  if at and tonumber(at) < now then
    --@include settling
    settle(id)
  end
end

-- Settle at most `limit` rollouts, earliest deadline first, but not those that the set `spared` holds: a call never
-- ends the attempts that it speaks for. Returns whether more may be due.
--   extra  at least the number of spared rollouts
local function settle_due(limit, spared, extra)
  local deadlines, before = key("deadlines"), "(" .. now_text
  if redis.call("ZCOUNT", deadlines, "-inf", before) == 0 then
    return false
  end
  local settled, due = 0, redis.call("ZRANGEBYSCORE", deadlines, "-inf", before, "LIMIT", 0, limit + (extra or 0))
  for _, id in ipairs(due) do
    if settled < limit and not (spared and spared[id]) then
      settle_if_due(id)
      settled = settled + 1
    end
  end
  return settled == limit
end
