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

-- "attempts,spans,ids,number,gone": how many attempts were looked at, spans, and ids of spans; the number of the last
-- span; and how many spans are counted still, though a deletion that is not at its end has removed them.
local function span_facts(stream, span_ids, attempt_ids, gone)
  local stored, known = redis.call("XLEN", stream), 0
  for _, id in ipairs(attempt_ids) do
    known = known + count_ids(span_ids .. id .. ":") + count_ids(span_ids .. id .. ":text:")
  end
  local last = redis.call("XREVRANGE", stream, "+", "-", "COUNT", 1)[1]
  return #attempt_ids .. "," .. stored .. "," .. known .. "," .. (last and last[2][4] or "") .. "," .. gone
end
