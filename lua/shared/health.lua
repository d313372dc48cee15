--@include clock
--@include keys
-- The health check that every writing script does in passing: one look at the index of deadlines when nothing is due.
local SETTLE_FEW = 10
local SETTLE_MANY = 200

-- Settle at most `limit` rollouts, earliest deadline first. Returns whether more may be due.
--   spared  comma-separated rollouts that are not settled, for a call never ends the attempts that it speaks for; nil
--           when there are none
local function settle_due(limit, spared)
  if redis.call("ZCOUNT", key("deadlines"), "-inf", "(" .. now_text) == 0 then
    return false
  end
  --@include due
  return settle_first(limit, spared or "")
end
