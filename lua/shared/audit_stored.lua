--@include findings
--@include records
--@include span_removal
-- A rollout has as many spans as it counts. What is left of evicted ones, because a client died in between, is dropped.
-- Returns how many there are.
local function check_stored(rollout, attempt_ids, stream, span_ids)
  local found, counted = redis.call("XLEN", stream), tonumber(rollout.stored or "0")
  if found == counted then
    return found
  end
  local is_left = counted == 0 and tonumber(rollout.evicted or "0") == #attempt_ids
  find("spans", rollout.id, "has " .. found .. " spans, and counts " .. (counted or rollout.stored), function()
    if is_left then
      redis.call("DEL", stream)
      for _, id in ipairs(attempt_ids) do
        remove_span_ids(span_ids, id)
      end
    else
      change(rollout, "stored", found > 0 and tostring(found) or nil)
      write(rollout)
    end
  end)
  return redis.call("XLEN", stream)
end
