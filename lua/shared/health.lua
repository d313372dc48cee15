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

-- Settle at most `limit` rollouts, earliest deadline first. Returns whether more may be due.
--   spared  comma-separated rollouts that are not settled, for a call never ends the attempts that it speaks for; nil
--           when there are none
local function settle_due(limit, spared)
  local deadlines, before = key("deadlines"), "(" .. now_text
  if redis.call("ZCOUNT", deadlines, "-inf", before) == 0 then
    return false
  end
  local is_spared, spared_count, settled = {}, 0, 0
  for id in string.gmatch(spared or "", "[^,]+") do
    is_spared[id], spared_count = true, spared_count + 1
  end
  local due = redis.call("ZRANGEBYSCORE", deadlines, "-inf", before, "LIMIT", 0, limit + spared_count)
  for _, id in ipairs(due) do
    if settled < limit and not is_spared[id] then
      settle_if_due(id)
      settled = settled + 1
    end
  end
  return settled == limit
end
