-- Removing spans, in their slot.

-- Forget the ids of an attempt's spans.
local function remove_span_ids(prefix, attempt_id)
  for _, sets in ipairs({ prefix .. attempt_id .. ":", prefix .. attempt_id .. ":text:" }) do
    local set = 0
    while redis.call("DEL", sets .. set) == 1 do
      set = set + 1
    end
  end
end

-- Remove all spans of a rollout.
local function remove_spans(stream, span_ids, attempt_ids)
  for _, attempt_id in ipairs(attempt_ids) do
    remove_span_ids(span_ids, attempt_id)
  end
  redis.call("DEL", stream)
end
