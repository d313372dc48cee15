--@include numbers
-- Rewards in the entries of a stream of spans, where they lie on a Cluster until their attempt was told of them.
local ENTRIES_AT_ONCE = 100

-- The reward of the attempt with the highest number, and that number; "" and "0" when there is none.
local function last_reward(stream, attempt_id)
  local best, best_number, before = "", "0", "+"
  repeat
    local entries = redis.call("XREVRANGE", stream, before, "-", "COUNT", ENTRIES_AT_ONCE)
    for _, entry in ipairs(entries) do
      local fields = entry[2] -- a, attempt, s, number, d, payload, r, reward
      if fields[2] == attempt_id and fields[8] and (best == "" or is_greater(fields[4], best_number)) then
        best, best_number = fields[8], fields[4]
      end
      before = "(" .. entry[1]
    end
  until #entries < ENTRIES_AT_ONCE
  return best, best_number
end
