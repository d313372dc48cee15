--@include records
-- Sequence numbers of spans: one counter per rollout. Numbers travel as text, for Lua's own keep 53 bits only.
local function is_greater(a, b)
  if #a ~= #b then
    return #a > #b
  end
  return a > b
end

local EXACT_DIGITS = 15

local function next_number(rollout)
  local last = rollout.spans or "0"
  if #last <= EXACT_DIGITS then
    change(rollout, "spans", string.format("%.0f", tonumber(last) + 1))
  else
    redis.call("HSET", names[rollout], "spans", last)
    redis.call("HINCRBY", names[rollout], "spans", 1)
    change(rollout, "spans", redis.call("HGET", names[rollout], "spans"))
  end
  return rollout.spans
end

-- A number that a caller chose raises the counter.
local function note_number(rollout, number)
  if is_greater(number, rollout.spans or "0") then
    change(rollout, "spans", number)
  end
end
