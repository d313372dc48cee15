--@include clock
--@include evictions
--@include findings
--@include keys
--@include numbers
--@include records
--@include status
-- The spans of a rollout: as many as it counts and as their ids, and none beyond the number that it counts to. What was
-- seen of them, see span_facts.lua, may be older than what the rollout says now: then it is not compared, nor while a
-- call may be in between the steps of storing spans.

-- Returns how many spans are to be counted.
local function check_spans(rollout, attempt_ids, facts)
  local attempts, counted, stored, known, last = string.match(facts, "(.*),(.*),(.*),(.*),(.*)")
  local is_idle = redis.call("ZCOUNT", key("storing"), now - TOKEN_SECONDS, "+inf") == 0
  if tonumber(attempts) == #attempt_ids and stored ~= known then
    find("spans", rollout.id, "has " .. stored .. " spans, and " .. known .. " ids of spans")
  end
  if is_idle and counted == (rollout.stored or "0") and counted ~= stored then
    find("spans", rollout.id, "has " .. stored .. " spans, and counts " .. counted, function()
      change(rollout, "stored", stored ~= "0" and stored or nil)
      write(rollout)
      if FINISHED[rollout.status] then
        evict_again(rollout)
      end
    end)
  end
  if string.match(last, "^%d+$") and is_greater(last, rollout.spans or "0") then
    find("spans", rollout.id, "has span " .. last .. ", and counts to " .. (rollout.spans or "0"), function()
      change(rollout, "spans", last)
      write(rollout)
    end)
  end
  return tonumber(stored)
end
