--@include audit_stored
--@include findings
--@include numbers
--@include records
-- The spans of a rollout: as many as it counts and as their ids, and none beyond the number that it counts to.
local function count_ids(sets)
  local sum, set = 0, 0
  while true do
    local members = redis.call("SCARD", sets .. set)
    if members == 0 then
      return sum
    end
    sum, set = sum + members, set + 1
  end
end

-- Returns how many spans there are.
local function check_spans(rollout, attempt_ids, stream, span_ids)
  local stored, known = check_stored(rollout, attempt_ids, stream, span_ids), 0
  if stored == 0 and #attempt_ids == 0 then
    return 0
  end
  for _, id in ipairs(attempt_ids) do
    known = known + count_ids(span_ids .. id .. ":") + count_ids(span_ids .. id .. ":text:")
  end
  if known ~= stored then
    find("spans", rollout.id, "has " .. stored .. " spans, and " .. known .. " ids of spans")
  end
  local last = redis.call("XREVRANGE", stream, "+", "-", "COUNT", 1)[1]
  local number = last and string.match(last[2][4], "^%d+$")
  if number and is_greater(number, rollout.spans or "0") then
    find("spans", rollout.id, "has span " .. number .. ", and counts to " .. (rollout.spans or "0"), function()
      change(rollout, "spans", number)
      write(rollout)
    end)
  end
  return stored
end
