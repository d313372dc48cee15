--@include records
-- Sequence numbers of spans: one counter per rollout. Numbers are decimal text, for Lua's own keep 53 bits only.
local function is_greater(a, b)
  if #a ~= #b then
    return #a > #b
  end
  return a > b
end

local function successor(number)
  local head, nines = string.match(number, "^(%d-)(9*)$")
  local digit = tonumber(string.sub(head, -1)) or 0
  return string.sub(head, 1, -2) .. (digit + 1) .. string.rep("0", #nines)
end

local function next_number(rollout)
  change(rollout, "spans", successor(rollout.spans or "0"))
  return rollout.spans
end

-- A number that a caller chose raises the counter.
local function note_number(rollout, number)
  if is_greater(number, rollout.spans or "0") then
    change(rollout, "spans", number)
  end
end
