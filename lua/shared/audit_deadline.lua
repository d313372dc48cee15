--@include deadlines
--@include findings
--@include keys
--@include status
-- Whoever works is watched by a deadline. Lazy ones lie before the true one, never behind it; without limits there is
-- nothing to be lazy about.
local MICROSECOND = 0.000001

local function check_deadline(rollout, attempt)
  local id, works = rollout.id, attempt and LIVE[attempt.status]
  local at = tonumber(redis.call("ZSCORE", key("deadlines"), id) or "")
  local true_one = works and earliest(deadlines_of(rollout, attempt)) or math.huge
  local function mend()
    index_deadline(rollout, attempt)
  end
  if not works and not ACTIVE[rollout.status] then
    if at then
      find("deadline", id, "has a deadline, but is " .. rollout.status .. " and nobody works on it", mend)
    end
  elseif not at then
    find("deadline", id, "is " .. rollout.status .. " without a deadline", mend)
  elseif at > true_one + MICROSECOND then
    find("deadline", id, "has a deadline behind the time at which it is late", mend)
  elseif true_one == math.huge and at ~= true_one then
    find("deadline", id, "has a deadline, but no limit", mend)
  end
end
