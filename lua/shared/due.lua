--@include clock
--@include keys
--@include records
-- Settling what is due by the index of deadlines.

local function settle_one(id)
  --@include settling
  settle(id)
end

-- Settle one rollout if its entry in the index is due.
local function settle_if_due(id)
  local at = redis.call("ZSCORE", key("deadlines"), id)
  if at and tonumber(at) < now then
    settle_one(id)
  end
end

-- See settle_due(), which has looked whether anything is due.
local function settle_first(limit, spared)
  local is_spared, spared_count, settled = {}, 0, 0
  for id in string.gmatch(spared, "[^,]+") do
    is_spared[id], spared_count = true, spared_count + 1
  end
  local before, most = "(" .. now_text, limit + spared_count
  for _, id in ipairs(redis.call("ZRANGEBYSCORE", key("deadlines"), "-inf", before, "LIMIT", 0, most)) do
    if settled < limit and not is_spared[id] then
      settle_one(id)
      settled = settled + 1
    end
  end
  return settled == limit
end
