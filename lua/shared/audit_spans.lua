--@include evictions
--@include findings
--@include keys
--@include numbers
--@include records
--@include status
--@include steps
-- The spans of a rollout: as many as it counts and as their ids, and none beyond the number that it counts to. What was
-- seen of them, see span_facts.lua, may be older than what the rollout says now: then it is not compared, nor while a
-- call may be in between its steps, or was when they were looked at.

-- Returns how many spans are to be counted.
--   drop  removes all of its spans; nil on a Cluster, where they lie in another slot
local function check_spans(rollout, attempt_ids, facts, drop)
  local attempts, counted, stored, known, last, step = string.match(facts, "(.*),(.*),(.*),(.*),(.*),(.*)")
  local count = tonumber(stored)
  if tonumber(attempts) == #attempt_ids and stored ~= known then
    find("spans", rollout.id, "has " .. stored .. " spans, and " .. known .. " ids of spans")
  end
  local is_overtaken = are_between_steps() or step ~= "" and not redis.call("ZSCORE", key("steps"), step)
  if is_overtaken then
    count = tonumber(rollout.stored or "0")
  elseif counted == (rollout.stored or "0") and counted ~= stored then
    local are_evicted = counted == "0" and tonumber(rollout.evicted or "0") == #attempt_ids
    find("spans", rollout.id, "has " .. stored .. " spans, and counts " .. counted, function()
      if are_evicted and drop then
        drop()
        count = 0
        return
      end
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
  return count
end
