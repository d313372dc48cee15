-- Removing the spans of a rollout, in their own slot. Returns how many they were.
local function remove_spans(stream, span_ids, attempt_ids)
  for _, attempt_id in ipairs(attempt_ids) do
    for _, sets in ipairs({ span_ids .. attempt_id .. ":", span_ids .. attempt_id .. ":text:" }) do
      local set = 0
      while redis.call("DEL", sets .. set) == 1 do
        set = set + 1
      end
    end
  end
  local count = redis.call("XLEN", stream)
  redis.call("DEL", stream)
  return count
end
