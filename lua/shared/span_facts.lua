-- What an audit sees of a rollout's spans, in their own slot.
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

-- "attempts,counted,spans,ids,number,step": how many attempts were looked at; how many spans the rollout counts, as was
-- read before; how many spans and ids of spans there are; the number of the last span; who was between steps, as was
-- read before, see steps.lua.
local function span_facts(stream, span_ids, attempt_ids, counted, step)
  local stored, known = redis.call("XLEN", stream), 0
  for _, id in ipairs(attempt_ids) do
    known = known + count_ids(span_ids .. id .. ":") + count_ids(span_ids .. id .. ":text:")
  end
  local last = redis.call("XREVRANGE", stream, "+", "-", "COUNT", 1)[1]
  return #attempt_ids .. "," .. counted .. "," .. stored .. "," .. known .. "," .. (last and last[2][4] or "")
    .. "," .. step
end
